//! Optimizers: SGD, Momentum and Adam, and the paper's damped curvature rule.

mod choice;

pub use choice::{Averaging, OptimizerName};
