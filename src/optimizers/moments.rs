//! The moments of Adam (Kingma and Ba, 2015) and its step, as PyTorch computes them: what Adam, AdamW and the vectors of
//! Muon share.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::options::{OptionInfo, OptionKind, OptionValue, above_0, from_0, from_0_below_1};
use super::take;
use crate::backpack::native::{add_product, add_quotient};
use crate::error::Result;

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
