//! Stochastic gradient descent, without and with momentum; and what other rules share with it: gradients with l2, and
//! clipping.
//!
//! SGD: theta <- theta - alpha (g + l2 theta).

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::info::{OptimizerInfo, baseline_learning_rates, no_dampings, no_more_memory};
use super::options::{FROM_0_BELOW_1, OptionInfo, OptionKind, OptionValue, YES_OR_NO, from_0_below_1};
use super::{Hyperparameters, Optimizer, StepClock, StepReport, is_weight, take, wanted};
use crate::backpack::native::add_scaled;
use crate::backpack::quantities::Source;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;

pub(super) static SGD: OptimizerInfo = OptimizerInfo {
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

// SGD with momentum as PyTorch has it: v <- m v + (g + l2 theta), theta <- theta - alpha v; the first v is the first
// gradient. With Nesterov's momentum the step is g + l2 theta + m v instead (Sutskever et al., 2013).

pub(super) static MOMENTUM: OptimizerInfo = OptimizerInfo {
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

// What rules that follow the gradient share: the gradients of a pass with l2 times the weights, clipped.

/// Asks for gradients and makes them ready for a step, so that an optimizer owes no more for l2 and clipping.
#[derive(Debug)]
#[non_exhaustive]
pub struct Gradients {
    /// What it asks a pass for, to which more may be added.
    pub request: Request,
    l2: f64,
    clip: Clip,
}

impl Gradients {
    /// With the l2 and the clipping of these hyperparameters.
    ///
    /// # Errors
    /// None at present: there is a gradient.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        let clip = Clip::new(hyperparameters);
        Ok(Gradients { request: Request::new(["grad"])?, l2: hyperparameters.l2, clip })
    }

    /// Every parameter with its gradient, in the network's order; l2 times the weight is added to the weights' (and to no
    /// bias's). A gradient is made ready in place.
    ///
    /// # Errors
    /// [`crate::Error::NotTaken`] where the pass was not asked for gradients; what libtorch says.
    pub fn take<'a>(&self, network: &'a Network, quantities: &mut Quantities) -> Result<Vec<(&'a Tensor, Tensor)>> {
        let mut pairs = Vec::new();
        for node in network.nodes() {
            for (number, parameter) in node.numbered() {
                let gradient = wanted(quantities, "grad", number, "")?.shallow_clone();
                if self.l2 != 0.0 && is_weight(parameter.name) {
                    add_scaled(&gradient, &parameter.value, self.l2)?;
                }
                pairs.push((&parameter.value, gradient));
            }
        }
        self.clip.apply(pairs.iter().map(|(_, gradient)| gradient))?;
        Ok(pairs)
    }
}

// Gradients clipped by their norm, as every optimizer can have them.
//
// The norm is that of all parameters' gradients together, l2 included; where it is too large all are multiplied by
// max_norm / (norm + 1e-6) before anything else is made of them, as torch.nn.utils.clip_grad_norm_ does.

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
