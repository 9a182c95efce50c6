//! The damped rule with a diagonal curvature: theta <- theta - alpha (g + l2 theta) / (d + lambda + l2), elementwise,
//! with d the running estimate of the diagonal and l2 zero for biases.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{
    Averaging, Hyperparameters, Optimizer, OptimizerName, RunningEstimate, StepReport, is_weight, take, wanted,
};
use crate::backpack::native::{add_quotient, add_scaled};
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;

/// The damped rule with DiagGGN or DiagGGN-MC.
pub struct DiagonalRule {
    request: Request,
    quantity: &'static str,
    learning_rate: f64,
    damping: f64,
    averaging: Averaging,
    l2: f64,
    estimates: Vec<RunningEstimate>,
}

impl DiagonalRule {
    /// The rule with these hyperparameters.
    ///
    /// # Errors
    /// None that input can reach.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        let quantity = match hyperparameters.name {
            OptimizerName::DiagGgnMc => "diag_ggn_mc",
            _ => "diag_ggn",
        };
        let mut request = Request::new(["grad", quantity])?;
        request.mc_samples = hyperparameters.mc_samples;
        request.chunk_bytes = hyperparameters.chunk_bytes;
        Ok(DiagonalRule {
            request,
            quantity,
            learning_rate: hyperparameters.learning_rate,
            damping: hyperparameters.damping,
            averaging: hyperparameters.averaging,
            l2: hyperparameters.l2,
            estimates: Vec::new(),
        })
    }
}

impl Optimizer for DiagonalRule {
    fn request(&self) -> &Request {
        &self.request
    }

    fn step(&mut self, network: &Network, quantities: &Quantities) -> Result<StepReport> {
        for leaf in network.leaves() {
            for (place, parameter) in leaf.layer.parameters().iter().enumerate() {
                let number = leaf.first_parameter + place;
                if self.estimates.len() == number {
                    self.estimates.push(RunningEstimate::new());
                }
                let l2 = if is_weight(parameter.name) { self.l2 } else { 0.0 };
                let gradient = wanted(quantities, "grad", number, "")?;
                if l2 != 0.0 {
                    add_scaled(gradient, &parameter.value, l2)?;
                }
                let estimate = &mut self.estimates[number];
                estimate.observe(wanted(quantities, self.quantity, number, "")?, self.averaging, 1);
                if let Some(diagonal) = estimate.value() {
                    let damped = diagonal + (self.damping + l2);
                    add_quotient(&parameter.value, gradient, &damped, -self.learning_rate)?;
                }
            }
        }
        Ok(StepReport::default())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for (place, estimate) in self.estimates.iter().enumerate() {
            if let Some(value) = estimate.value() {
                state.push((format!("estimate.{place}"), value.shallow_clone()));
                state.push((format!("observations.{place}"), Tensor::from_slice(&[estimate.observations()])));
            }
        }
        state
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        self.estimates = (0..state.len() / 2)
            .map(|place| {
                let value = take(&mut state, &format!("estimate.{place}"))?;
                let observations = take(&mut state, &format!("observations.{place}"))?;
                Ok(RunningEstimate::restore(value, observations.to_kind(Kind::Int64).int64_value(&[0])))
            })
            .collect::<Result<_>>()?;
        Ok(())
    }
}
