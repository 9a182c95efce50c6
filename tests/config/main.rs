//! Experiment and problem files: what is read, resolved, refused and built.

mod errors;
mod files;
mod fuzz;
mod options;
mod resolve;
mod shapes;
#[path = "../study_support/mod.rs"]
mod study_support;
#[path = "../support/mod.rs"]
mod support;
