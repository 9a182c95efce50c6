//! SGD with momentum as PyTorch has it: v <- m v + (g + l2 theta), theta <- theta - alpha v; the first v is the first
//! gradient. With Nesterov's momentum the step is g + l2 theta + m v instead (Sutskever et al., 2013).

use std::collections::BTreeMap;

use tch::Tensor;

use super::gradients::Gradients;
use super::info::{OptimizerInfo, baseline_learning_rates, no_dampings, no_more_memory};
use super::options::{FROM_0_BELOW_1, OptionInfo, OptionKind, OptionValue, YES_OR_NO, from_0_below_1};
use super::{Hyperparameters, Optimizer, StepClock, StepReport, take};
use crate::backpack::native::add_scaled;
use crate::backpack::quantities::Source;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;

pub(super) static INFO: OptimizerInfo = OptimizerInfo {
    name: "momentum",
    title: "Momentum",
    summary: "SGD with momentum 0.9, or Nesterov's",
    options: &[
        OptionInfo::new(
            "momentum",
            OptionKind::Number(from_0_below_1),
            FROM_0_BELOW_1,
            || OptionValue::Number(0.9),
            "the weight of the old velocity",
        ),
        OptionInfo::new(
            "nesterov",
            OptionKind::Flag,
            YES_OR_NO,
            || OptionValue::Flag(false),
            "Nesterov's momentum: the step looks ahead along the velocity",
        ),
    ],
    has_damping: false,
    vectors: Source::Gradient,
    memory: no_more_memory,
    learning_rates: baseline_learning_rates,
    dampings: no_dampings,
    build: |hyperparameters, _| Ok(Box::new(Momentum::new(hyperparameters)?)),
};

/// SGD with momentum.
#[derive(Debug)]
pub struct Momentum {
    gradients: Gradients,
    learning_rate: f64,
    momentum: f64,
    nesterov: bool,
    velocities: Vec<Tensor>,
}

impl Momentum {
    /// Momentum with this learning rate, l2 and options.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        Ok(Momentum {
            gradients: Gradients::new(hyperparameters)?,
            learning_rate: hyperparameters.learning_rate,
            momentum: hyperparameters.number("momentum"),
            nesterov: hyperparameters.flag("nesterov"),
            velocities: Vec::new(),
        })
    }
}

impl Optimizer for Momentum {
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
        let pairs = self.gradients.take(network, quantities)?;
        if self.velocities.is_empty() {
            self.velocities = pairs.iter().map(|(_, gradient)| gradient.copy()).collect();
        } else {
            for (velocity, (_, gradient)) in self.velocities.iter_mut().zip(&pairs) {
                let _ = velocity.g_mul_scalar_(self.momentum).g_add_(gradient);
            }
        }
        for ((parameter, gradient), velocity) in pairs.iter().zip(&self.velocities) {
            if self.nesterov {
                add_scaled(gradient, velocity, self.momentum)?;
                add_scaled(parameter, gradient, -self.learning_rate)?;
            } else {
                add_scaled(parameter, velocity, -self.learning_rate)?;
            }
        }
        Ok(StepReport::default())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.velocities
            .iter()
            .enumerate()
            .map(|(place, velocity)| (format!("velocity.{place}"), velocity.shallow_clone()))
            .collect()
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        self.velocities =
            (0..state.len()).map(|place| take(&mut state, &format!("velocity.{place}"))).collect::<Result<_>>()?;
        Ok(())
    }
}
