//! What is compared with libtorch's gradient: a quantity, the loop over samples, or a whole optimizer step.

use serde::{Deserialize, Serialize};

use crate::backpack::quantities::{all, by_name};
use crate::error::{Error, Result};
use crate::optimizers::OptimizerName;
use crate::suggest;

/// The name of the individual gradients by a loop over the samples.
pub const LOOP: &str = "loop";

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A pass of ours that gives the gradient and the quantity of this name.
    Quantity(String),
    /// libtorch's gradient of every sample by itself, the paper's "for-loop".
    Loop,
    /// A whole step of this optimizer: pass, running mean, inverse and update.
    Step(OptimizerName),
}

impl Subject {
    /// The quantity of this name, or [`LOOP`].
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn quantity(name: &str) -> Result<Self> {
        if name == LOOP {
            return Ok(Subject::Loop);
        }
        if by_name(name).is_some() {
            return Ok(Subject::Quantity(name.to_owned()));
        }
        let names: Vec<_> = all().iter().map(|quantity| quantity.name()).chain([LOOP]).collect();
        Err(Error::Usage(format!("quantity `{name}`: {}", suggest::help(name, names))))
    }

    /// A step of the optimizer of this name.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn step(name: &str) -> Result<Self> {
        name.parse().map(Subject::Step)
    }

    /// Its name in bench.csv.
    pub fn name(&self) -> &str {
        match self {
            Subject::Quantity(name) => name,
            Subject::Loop => LOOP,
            Subject::Step(name) => name.as_str(),
        }
    }
}
