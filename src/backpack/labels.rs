//! Where the labels of sampled quantities come from.

use std::cell::RefCell;

use tch::Tensor;

use crate::backpack::draws::Draws;
use crate::backpack::losses::{Evaluated, Loss};
use crate::error::Result;
use crate::random::{Purpose, stream};

/// Where the labels of sampled quantities come from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Labels<'a> {
    /// They are drawn from the model, from the counter-based stream of this seed and step.
    Drawn {
        /// The seed.
        seed: u64,
        /// The training step.
        step: u64,
    },
    /// These: classes `[M, N, ..]`, or values `[M, N, *out]`.
    Given(&'a Tensor),
    /// They are drawn from the model, for the samples behind those that were drawn for before.
    Following(&'a RefCell<Draws>),
}

impl Labels<'_> {
    /// The labels at a batch, `mc_samples` for each sample where they are drawn.
    ///
    /// # Errors
    /// What libtorch says when the output is not one to draw from.
    pub(crate) fn at(self, loss: &dyn Loss, at: &Evaluated, mc_samples: i64) -> Result<Tensor> {
        match self {
            Labels::Given(labels) => Ok(labels.shallow_clone()),
            Labels::Drawn { seed, step } => {
                loss.sample(at, mc_samples, &mut Draws::whole(stream(seed, Purpose::SampledLabels, step)))
            }
            Labels::Following(draws) => loss.sample(at, mc_samples, &mut draws.borrow_mut()),
        }
    }
}
