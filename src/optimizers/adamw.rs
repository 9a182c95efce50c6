//! Adam with decoupled weight decay (Loshchilov and Hutter, 2019) as torch.optim.AdamW: theta <- (1 - alpha w) theta, then
//! Adam's step. The decay is of every parameter; a problem's l2 is part of its loss and goes into the gradient.

use std::collections::BTreeMap;

use tch::Tensor;

use super::gradients::Gradients;
use super::info::{OptimizerInfo, no_dampings, no_more_memory};
use super::moments::{AdamMoments, BETAS, EPSILON, betas, decay, eps, weight_decay};
use super::options::OptionValue;
use super::{Hyperparameters, Optimizer, StepClock, StepReport};
use crate::backpack::quantities::Source;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;
use crate::numbers::logspace;

pub(super) static INFO: OptimizerInfo = OptimizerInfo {
    name: "adamw",
    title: "AdamW",
    summary: "Adam with decoupled weight decay, PyTorch's defaults",
    options: &[
        weight_decay(|| OptionValue::Number(0.01)),
        betas(|| OptionValue::Numbers(BETAS.to_vec())),
        eps(|| OptionValue::Number(EPSILON), "added to the root of the second moment"),
    ],
    has_damping: false,
    vectors: Source::Gradient,
    memory: no_more_memory,
    learning_rates: || logspace(-5.0, 0.0, 11),
    dampings: no_dampings,
    build: |hyperparameters, _| Ok(Box::new(AdamW::new(hyperparameters)?)),
};

/// AdamW.
#[derive(Debug)]
pub struct AdamW {
    gradients: Gradients,
    learning_rate: f64,
    weight_decay: f64,
    moments: AdamMoments,
}

impl AdamW {
    /// AdamW with this learning rate, l2 and options.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        Ok(AdamW {
            gradients: Gradients::new(hyperparameters)?,
            learning_rate: hyperparameters.learning_rate,
            weight_decay: hyperparameters.number("weight_decay"),
            moments: AdamMoments::new(hyperparameters.numbers("betas"), hyperparameters.number("eps")),
        })
    }
}

impl Optimizer for AdamW {
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
            decay(parameter, self.learning_rate, self.weight_decay);
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
