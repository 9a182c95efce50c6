//! Small random networks over every layer type, option and loss, held to the oracle: what `check --random-nets` does.

mod draw;
mod hold;

pub use draw::{INTEGERS, RECURRENT, RandomNet, draw};
pub use hold::{Digits, Failure, Findings, hold};
