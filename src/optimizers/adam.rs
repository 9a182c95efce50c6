//! Adam (Kingma and Ba, 2015) with PyTorch's defaults: betas 0.9 and 0.999, epsilon 1e-8; l2 is added to the gradient.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{Hyperparameters, Optimizer, StepClock, StepReport, regularised_gradients, take};
use crate::backpack::native::{add_product, add_quotient};
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;

const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

/// The running moments of one parameter's gradient.
struct Moments {
    first: Tensor,
    second: Tensor,
}

/// Adam.
pub struct Adam {
    request: Request,
    learning_rate: f64,
    l2: f64,
    steps: i64,
    moments: Vec<Moments>,
}

impl Adam {
    /// Adam with this learning rate and l2.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        Ok(Adam {
            request: Request::new(["grad"])?,
            learning_rate: hyperparameters.learning_rate,
            l2: hyperparameters.l2,
            steps: 0,
            moments: Vec::new(),
        })
    }
}

impl Optimizer for Adam {
    fn request(&self) -> &Request {
        &self.request
    }

    fn step(&mut self, network: &Network, quantities: &Quantities, _clock: &mut StepClock) -> Result<StepReport> {
        let pairs = regularised_gradients(network, quantities, self.l2)?;
        if self.moments.is_empty() {
            self.moments = pairs
                .iter()
                .map(|(_, gradient)| Moments { first: gradient.zeros_like(), second: gradient.zeros_like() })
                .collect();
        }
        self.steps += 1;
        let correction = BETAS.map(|beta| 1.0 - beta.powi(self.steps as i32));
        // The correction takes a learning rate at the end of single precision's range beyond it, which libtorch refuses.
        let factor = (-self.learning_rate / correction[0]).max(f64::from(f32::MIN));
        for ((parameter, gradient), moments) in pairs.iter().zip(&mut self.moments) {
            let _ = moments.first.lerp_(gradient, 1.0 - BETAS[0]);
            let _ = moments.second.g_mul_scalar_(BETAS[1]);
            add_product(&moments.second, gradient, gradient, 1.0 - BETAS[1])?;
            let mut denominator = moments.second.sqrt();
            let _ = denominator.g_div_scalar_(correction[1].sqrt()).g_add_scalar_(EPSILON);
            add_quotient(parameter, &moments.first, &denominator, factor)?;
        }
        Ok(StepReport::default())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![("steps".to_owned(), Tensor::from_slice(&[self.steps]))];
        for (place, moments) in self.moments.iter().enumerate() {
            state.push((format!("first.{place}"), moments.first.shallow_clone()));
            state.push((format!("second.{place}"), moments.second.shallow_clone()));
        }
        state
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        self.steps = take(&mut state, "steps")?.to_kind(Kind::Int64).int64_value(&[0]);
        self.moments = (0..state.len() / 2)
            .map(|place| {
                Ok(Moments {
                    first: take(&mut state, &format!("first.{place}"))?,
                    second: take(&mut state, &format!("second.{place}"))?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(())
    }
}
