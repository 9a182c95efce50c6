//! SGD with momentum as PyTorch has it: v <- 0.9 v + (g + l2 theta), theta <- theta - alpha v; the first v is the
//! first gradient. Not Nesterov's.

use std::collections::BTreeMap;

use tch::Tensor;

use super::{Hyperparameters, Optimizer, StepClock, StepReport, regularised_gradients, take};
use crate::backpack::native::add_scaled;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;

/// The weight of the old velocity.
const MOMENTUM: f64 = 0.9;

/// SGD with momentum 0.9.
pub struct Momentum {
    request: Request,
    learning_rate: f64,
    l2: f64,
    velocities: Vec<Tensor>,
}

impl Momentum {
    /// Momentum with this learning rate and l2.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        Ok(Momentum {
            request: Request::new(["grad"])?,
            learning_rate: hyperparameters.learning_rate,
            l2: hyperparameters.l2,
            velocities: Vec::new(),
        })
    }
}

impl Optimizer for Momentum {
    fn request(&self) -> &Request {
        &self.request
    }

    fn step(&mut self, network: &Network, quantities: &Quantities, _clock: &mut StepClock) -> Result<StepReport> {
        let pairs = regularised_gradients(network, quantities, self.l2)?;
        if self.velocities.is_empty() {
            self.velocities = pairs.iter().map(|(_, gradient)| gradient.copy()).collect();
        } else {
            for (velocity, (_, gradient)) in self.velocities.iter_mut().zip(&pairs) {
                let _ = velocity.g_mul_scalar_(MOMENTUM).g_add_(gradient);
            }
        }
        for ((parameter, _), velocity) in pairs.iter().zip(&self.velocities) {
            add_scaled(parameter, velocity, -self.learning_rate)?;
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
