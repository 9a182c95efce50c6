//! BackPACK in Rust: individual gradients, variances and curvature from one backward pass.

pub mod backpack;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod error;
pub mod optimizers;
pub mod problems;
pub mod random;
pub mod runtime;
pub mod study;

pub use error::{Error, Result};
