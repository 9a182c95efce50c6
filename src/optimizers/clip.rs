//! What every optimizer can do: a schedule of its learning rate, and gradients clipped by their norm.
//!
//! The norm is that of all parameters' gradients together, l2 included; where it is too large all are multiplied by
//! max_norm / (norm + 1e-6) before anything else is made of them, as torch.nn.utils.clip_grad_norm_ does.

use tch::{Kind, Tensor};

use super::options::OptionValue;
use super::{Hyperparameters, is_weight, wanted};
use crate::backpack::{Network, Quantities};
use crate::error::Result;

/// What torch adds to the norm.
const LEAST_NORM: f64 = 1e-6;

/// Clips gradients, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clip {
    max_norm: Option<f64>,
}

impl Clip {
    pub fn new(hyperparameters: &Hyperparameters) -> Self {
        let value = hyperparameters.options.get(hyperparameters.name, "clip_norm");
        Clip { max_norm: if let OptionValue::Number(norm) = value { Some(norm) } else { None } }
    }

    /// What gradients with these squared norms are to be multiplied by; 1 where they are short enough.
    fn factor(max_norm: f64, squares: &[Tensor]) -> Result<f64> {
        if squares.is_empty() {
            return Ok(1.0);
        }
        let factor = max_norm / (f64::try_from(Tensor::stack(squares, 0).sum(Kind::Double))?.sqrt() + LEAST_NORM);
        // A norm that is no number clips nothing; the loss of the next step will tell.
        Ok(if factor < 1.0 { factor } else { 1.0 })
    }

    /// Multiplies these gradients, l2 included, in place.
    pub fn apply<'a>(&self, gradients: impl Iterator<Item = &'a Tensor> + Clone) -> Result<()> {
        let Some(max_norm) = self.max_norm else { return Ok(()) };
        let squares: Vec<Tensor> = gradients.clone().map(|gradient| gradient.square().sum(Kind::Double)).collect();
        let factor = Clip::factor(max_norm, &squares)?;
        if factor != 1.0 {
            gradients.for_each(|gradient| {
                let _ = gradient.shallow_clone().g_mul_scalar_(factor);
            });
        }
        Ok(())
    }

    /// What the gradients of a pass, with l2 times the weights, are to be multiplied by. A rule that is linear in the
    /// gradient multiplies its step instead.
    pub fn of_pass(&self, network: &Network, quantities: &Quantities, l2: f64) -> Result<f64> {
        let Some(max_norm) = self.max_norm else { return Ok(1.0) };
        let mut squares = Vec::new();
        for node in network.nodes() {
            for (number, parameter) in node.numbered() {
                let gradient = wanted(quantities, "grad", number, "")?;
                let regularised = match l2 != 0.0 && is_weight(parameter.name) {
                    true => &(gradient + &parameter.value * l2),
                    false => gradient,
                };
                squares.push(regularised.square().sum(Kind::Double));
            }
        }
        Clip::factor(max_norm, &squares)
    }
}
