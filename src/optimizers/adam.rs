//! Adam (Kingma and Ba, 2015) and AdamW (Loshchilov and Hutter, 2019), as PyTorch computes them.
//!
//! Adam has PyTorch's defaults, and its l2 is added to the gradient. AdamW has decoupled weight decay, as torch.optim.AdamW:
//! theta <- (1 - alpha w) theta, then Adam's step. The decay is of every parameter; a problem's l2 is part of its loss and goes
//! into the gradient.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::info::{OptimizerInfo, baseline_learning_rates, no_dampings, no_more_memory};
use super::options::{OptionInfo, OptionKind, OptionValue, above_0, from_0, from_0_below_1};
use super::sgd::Gradients;
use super::{Hyperparameters, Optimizer, StepClock, StepReport, take};
use crate::backpack::native::{add_product, add_quotient};
use crate::backpack::quantities::Source;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;
use crate::numbers::logspace;

pub(super) static ADAM: OptimizerInfo = OptimizerInfo {
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

pub(super) static ADAMW: OptimizerInfo = OptimizerInfo {
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
    build: |hyperparameters, _| Ok(Box::new(Adam::decoupled(hyperparameters)?)),
};

/// Adam, or AdamW where it has a weight decay.
#[derive(Debug)]
pub struct Adam {
    gradients: Gradients,
    learning_rate: f64,
    weight_decay: Option<f64>,
    moments: AdamMoments,
}

impl Adam {
    /// Adam with this learning rate, l2 and options.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        Self::with_decay(hyperparameters, None)
    }

    /// AdamW with this learning rate, l2 and options.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn decoupled(hyperparameters: &Hyperparameters) -> Result<Self> {
        Self::with_decay(hyperparameters, Some(hyperparameters.number("weight_decay")))
    }

    fn with_decay(hyperparameters: &Hyperparameters, weight_decay: Option<f64>) -> Result<Self> {
        Ok(Adam {
            gradients: Gradients::new(hyperparameters)?,
            learning_rate: hyperparameters.learning_rate,
            weight_decay,
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
            if let Some(weight_decay) = self.weight_decay {
                decay(parameter, self.learning_rate, weight_decay);
            }
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

// What Adam, AdamW and the vectors of Muon share: options, moments and the step.

/// PyTorch's betas and epsilon.
pub(super) const BETAS: [f64; 2] = [0.9, 0.999];
pub(super) const EPSILON: f64 = 1e-8;

/// The weights of the old moments.
pub(super) const fn betas(default: fn() -> OptionValue) -> OptionInfo {
    OptionInfo::new(
        "betas",
        OptionKind::Numbers(2, from_0_below_1),
        "two numbers from 0 up to but not including 1",
        default,
        "the weights of the old first and second moments",
    )
}

/// What is added to a denominator.
pub(super) const fn eps(default: fn() -> OptionValue, about: &'static str) -> OptionInfo {
    OptionInfo::new("eps", OptionKind::Number(above_0), super::options::ABOVE_0, default, about)
}

/// The decoupled weight decay.
pub(super) const fn weight_decay(default: fn() -> OptionValue) -> OptionInfo {
    OptionInfo::new(
        "weight_decay",
        OptionKind::Number(from_0),
        super::options::FROM_0,
        default,
        "decoupled weight decay of every parameter, times the learning rate",
    )
}

/// Shrinks a parameter by learning rate times weight decay.
pub(super) fn decay(parameter: &Tensor, learning_rate: f64, weight_decay: f64) {
    if weight_decay != 0.0 {
        let _ = parameter.shallow_clone().g_mul_scalar_(1.0 - learning_rate * weight_decay);
    }
}

/// The running moments of one parameter's gradient.
#[derive(Debug)]
struct Moments {
    first: Tensor,
    second: Tensor,
}

/// The moments of a network's parameters, or of some of them.
#[derive(Debug)]
pub(super) struct AdamMoments {
    betas: [f64; 2],
    epsilon: f64,
    steps: i64,
    moments: BTreeMap<usize, Moments>,
}

impl AdamMoments {
    pub fn new(betas: [f64; 2], epsilon: f64) -> Self {
        AdamMoments { betas, epsilon, steps: 0, moments: BTreeMap::new() }
    }

    /// Begins a step of all parameters.
    pub fn begin(&mut self) {
        self.steps += 1;
    }

    /// The step of the parameter of this number.
    pub fn step(&mut self, number: usize, parameter: &Tensor, gradient: &Tensor, learning_rate: f64) -> Result<()> {
        let correction = self.betas.map(|beta| 1.0 - beta.powi(self.steps as i32));
        // The correction takes a learning rate at the end of single precision's range beyond it, which libtorch refuses.
        let factor = (-learning_rate / correction[0]).max(f64::from(f32::MIN));
        let zeros = || Moments { first: gradient.zeros_like(), second: gradient.zeros_like() };
        let moments = self.moments.entry(number).or_insert_with(zeros);
        let _ = moments.first.lerp_(gradient, 1.0 - self.betas[0]);
        let _ = moments.second.g_mul_scalar_(self.betas[1]);
        add_product(&moments.second, gradient, gradient, 1.0 - self.betas[1])?;
        let mut denominator = moments.second.sqrt();
        let _ = denominator.g_div_scalar_(correction[1].sqrt()).g_add_scalar_(self.epsilon);
        add_quotient(parameter, &moments.first, &denominator, factor)
    }

    /// What later steps depend on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![("steps".to_owned(), Tensor::from_slice(&[self.steps]))];
        for (number, moments) in &self.moments {
            state.push((format!("first.{number}"), moments.first.shallow_clone()));
            state.push((format!("second.{number}"), moments.second.shallow_clone()));
        }
        state
    }

    /// Takes its part out of a saved state.
    pub fn load_state(&mut self, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        self.steps = take(state, "steps")?.to_kind(Kind::Int64).int64_value(&[0]);
        let number = |name: &String| name.strip_prefix("first.").and_then(|number| number.parse::<usize>().ok());
        let numbers: Vec<usize> = state.keys().filter_map(number).collect();
        self.moments.clear();
        for number in numbers {
            let first = take(state, &format!("first.{number}"))?;
            let second = take(state, &format!("second.{number}"))?;
            self.moments.insert(number, Moments { first, second });
        }
        Ok(())
    }
}
