//! The command line: one file a subcommand, each from arguments to a library call to its rendering.

pub mod flags;
