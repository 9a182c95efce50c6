//! Stochastic gradient descent: theta <- theta - alpha (g + l2 theta).

use std::collections::BTreeMap;

use tch::Tensor;

use super::gradients::Gradients;
use super::info::{OptimizerInfo, baseline_learning_rates, no_dampings, no_more_memory};
use super::{Hyperparameters, Optimizer, StepClock, StepReport};
use crate::backpack::native::add_scaled;
use crate::backpack::quantities::Source;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;

pub(super) static INFO: OptimizerInfo = OptimizerInfo {
    name: "sgd",
    title: "SGD",
    summary: "stochastic gradient descent",
    options: &[],
    has_damping: false,
    vectors: Source::Gradient,
    memory: no_more_memory,
    learning_rates: baseline_learning_rates,
    dampings: no_dampings,
    build: |hyperparameters, _| Ok(Box::new(Sgd::new(hyperparameters)?)),
};

/// Plain SGD.
#[derive(Debug)]
pub struct Sgd {
    gradients: Gradients,
    learning_rate: f64,
}

impl Sgd {
    /// SGD with this learning rate and l2.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        Ok(Sgd { gradients: Gradients::new(hyperparameters)?, learning_rate: hyperparameters.learning_rate })
    }
}

impl Optimizer for Sgd {
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
        for (parameter, gradient) in self.gradients.take(network, quantities)? {
            add_scaled(parameter, &gradient, -self.learning_rate)?;
        }
        Ok(StepReport::default())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    fn load_state(&mut self, _state: BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}
