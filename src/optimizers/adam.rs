//! Adam (Kingma and Ba, 2015) with PyTorch's defaults; l2 is added to the gradient.

use std::collections::BTreeMap;

use tch::Tensor;

use super::gradients::Gradients;
use super::info::{OptimizerInfo, baseline_learning_rates, no_dampings, no_more_memory};
use super::moments::{AdamMoments, BETAS, EPSILON, betas, eps};
use super::options::OptionValue;
use super::{Hyperparameters, Optimizer, StepClock, StepReport};
use crate::backpack::quantities::Source;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;

pub(super) static INFO: OptimizerInfo = OptimizerInfo {
    name: "adam",
    title: "Adam",
    summary: "Adam with PyTorch's defaults",
    options: &[
        betas(|| OptionValue::Numbers(BETAS.to_vec())),
        eps(|| OptionValue::Number(EPSILON), "added to the root of the second moment"),
    ],
    has_damping: false,
    vectors: Source::Gradient,
    memory: no_more_memory,
    learning_rates: baseline_learning_rates,
    dampings: no_dampings,
    build: |hyperparameters, _| Ok(Box::new(Adam::new(hyperparameters)?)),
};

/// Adam.
#[derive(Debug)]
pub struct Adam {
    gradients: Gradients,
    learning_rate: f64,
    moments: AdamMoments,
}

impl Adam {
    /// Adam with this learning rate, l2 and options.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        Ok(Adam {
            gradients: Gradients::new(hyperparameters)?,
            learning_rate: hyperparameters.learning_rate,
            moments: AdamMoments::new(hyperparameters.numbers("betas"), hyperparameters.number("eps")),
        })
    }
}

impl Optimizer for Adam {
    fn request(&self) -> &Request {
        &self.gradients.request
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn step(
        &mut self,
        network: &mut Network,
        quantities: &mut Quantities,
        _clock: &mut StepClock,
    ) -> Result<StepReport> {
        self.moments.begin();
        for (number, (parameter, gradient)) in self.gradients.take(network, quantities)?.into_iter().enumerate() {
            self.moments.step(number, parameter, &gradient, self.learning_rate)?;
        }
        Ok(StepReport::default())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.moments.state()
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        self.moments.load_state(&mut state)
    }
}
