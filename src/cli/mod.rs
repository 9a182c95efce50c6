//! The command line: one file a subcommand, each from arguments to a library call to its rendering.

pub mod completions;
pub mod doctor;
pub mod flags;
pub mod man;
