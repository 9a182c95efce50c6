//! Stochastic gradient descent: theta <- theta - alpha (g + l2 theta).

use std::collections::BTreeMap;

use tch::Tensor;

use super::{Hyperparameters, Optimizer, StepClock, StepReport, regularised_gradients};
use crate::backpack::native::add_scaled;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;

/// Plain SGD.
pub struct Sgd {
    request: Request,
    learning_rate: f64,
    l2: f64,
}

impl Sgd {
    /// SGD with this learning rate and l2.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        Ok(Sgd {
            request: Request::new(["grad"])?,
            learning_rate: hyperparameters.learning_rate,
            l2: hyperparameters.l2,
        })
    }
}

impl Optimizer for Sgd {
    fn request(&self) -> &Request {
        &self.request
    }

    fn step(&mut self, network: &Network, quantities: &Quantities, _clock: &mut StepClock) -> Result<StepReport> {
        for (parameter, gradient) in regularised_gradients(network, quantities, self.l2)? {
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
