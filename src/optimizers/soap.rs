//! SOAP (Vyas et al., 2024): Adam in the eigenbasis of Shampoo's second moments, as the authors' program computes it.
//!
//! Each axis of a tensor has a second moment and a basis. The first step initialises the bases and changes no parameter.
//! Every `precondition_frequency` steps a basis is renewed by one power iteration and a QR decomposition, and the second
//! moment of Adam goes with the order of the eigenvalues. All in the precision of the parameters.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::adam::{betas, eps, weight_decay};
use super::info::{OptimizerInfo, OptimizerName, no_dampings};
use super::options::{NONE, OptionInfo, OptionKind, OptionValue, Options, STEPS, YES_OR_NO, from_0_below_1};
use super::sgd::Gradients;
use super::{Hyperparameters, Optimizer, Phase, StepClock, StepReport, take};
use crate::backpack::eigen::decompose;
use crate::backpack::native::{add_product, add_scaled, product::matmul};
use crate::backpack::quantities::Source;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;
use crate::numbers::logspace;

pub(super) static INFO: OptimizerInfo = OptimizerInfo {
    name: "soap",
    title: "SOAP",
    summary: "Adam in the eigenbasis of Shampoo's second moments",
    options: &[
        betas(|| OptionValue::Numbers(vec![0.95, 0.95])),
        OptionInfo::new(
            "shampoo_beta",
            OptionKind::NumberOrNone(from_0_below_1),
            "none, or a number from 0 up to but not including 1",
            || OptionValue::Text(NONE.to_owned()),
            "the weight of the axes' old second moments; none takes the second of betas",
        ),
        eps(|| OptionValue::Number(1e-8), "added to the root of the second moment"),
        weight_decay(|| OptionValue::Number(0.01)),
        OptionInfo::new(
            "precondition_frequency",
            OptionKind::Count,
            STEPS,
            || OptionValue::Count(10),
            "steps from one renewal of the bases to the next",
        ),
        OptionInfo::new(
            "max_precond_dim",
            OptionKind::Count,
            "an integer of at least 1",
            || OptionValue::Count(10_000),
            "axes longer than this keep their own basis",
        ),
        OptionInfo::new(
            "merge_dims",
            OptionKind::Flag,
            YES_OR_NO,
            || OptionValue::Flag(false),
            "merge neighbouring axes as long as the result is no longer than max_precond_dim",
        ),
        OptionInfo::new(
            "precondition_1d",
            OptionKind::Flag,
            YES_OR_NO,
            || OptionValue::Flag(false),
            "rotate vectors too, rather than leave them to Adam",
        ),
        OptionInfo::new(
            "normalize_grads",
            OptionKind::Flag,
            YES_OR_NO,
            || OptionValue::Flag(false),
            "divide each parameter's step by its root mean square",
        ),
        OptionInfo::new(
            "correct_bias",
            OptionKind::Flag,
            YES_OR_NO,
            || OptionValue::Flag(true),
            "correct the moments for their start at zero, as Adam does",
        ),
    ],
    has_damping: false,
    vectors: Source::Gradient,
    memory,
    learning_rates: || logspace(-4.0, 0.0, 9),
    dampings: no_dampings,
    build: |hyperparameters, _| Ok(Box::new(Soap::new(hyperparameters)?)),
};

/// What an axis takes: its second moment, its basis, and what their renewal is made with.
const AXIS_COPIES: u64 = 4;

fn memory(options: &Options, shape: &[i64]) -> u64 {
    let Some(name) = OptimizerName::find(INFO.name) else { return 0 };
    let count = |key: &str| if let OptionValue::Count(count) = options.get(name, key) { count } else { 0 };
    let flag = |key: &str| options.get(name, key) == OptionValue::Flag(true);
    let longest = count("max_precond_dim") as i64;
    let shape = if flag("merge_dims") { merged(shape, longest) } else { shape.to_vec() };
    let squares = shape.iter().filter(|size| **size <= longest).map(|size| (*size as u64).pow(2));
    if shape.len() < 2 && !flag("precondition_1d") { 0 } else { AXIS_COPIES * squares.sum::<u64>() }
}

/// The shape with neighbouring axes merged while their product is at most `longest`.
fn merged(shape: &[i64], longest: i64) -> Vec<i64> {
    let mut merged = Vec::new();
    let mut current = 1;
    for &size in shape {
        if current * size <= longest {
            current *= size;
        } else if current > 1 {
            merged.push(current);
            current = size;
        } else {
            merged.push(size);
            current = 1;
        }
    }
    if current > 1 || merged.is_empty() {
        merged.push(current);
    }
    merged
}

/// An axis that has a basis of its own.
#[derive(Debug)]
struct Axis {
    /// The running second moment, symmetric.
    moment: Tensor,
    /// Its eigenvectors, in columns, by falling eigenvalues.
    basis: Tensor,
}

/// The state of one parameter. All of it lies in memory as a checkpoint brings it back, so that products of matrices have
/// the same digits after it.
#[derive(Debug)]
struct State {
    /// One an axis; nothing for those that are too long, and for vectors.
    axes: Vec<Option<Axis>>,
    /// Both moments in the basis.
    first: Tensor,
    second: Tensor,
}

/// SOAP.
#[derive(Debug)]
pub struct Soap {
    gradients: Gradients,
    learning_rate: f64,
    betas: [f64; 2],
    shampoo_beta: f64,
    epsilon: f64,
    weight_decay: f64,
    frequency: u64,
    longest: i64,
    merge: bool,
    vectors_too: bool,
    normalize: bool,
    correct_bias: bool,
    /// Steps that changed parameters.
    steps: u64,
    states: Vec<State>,
}

impl Soap {
    /// SOAP with this learning rate, l2 and options.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        let betas: [f64; 2] = hyperparameters.numbers("betas");
        Ok(Soap {
            gradients: Gradients::new(hyperparameters)?,
            learning_rate: hyperparameters.learning_rate,
            betas,
            shampoo_beta: hyperparameters.number_or_none("shampoo_beta").unwrap_or(betas[1]),
            epsilon: hyperparameters.number("eps"),
            weight_decay: hyperparameters.number("weight_decay"),
            frequency: hyperparameters.count("precondition_frequency"),
            longest: hyperparameters.count("max_precond_dim") as i64,
            merge: hyperparameters.flag("merge_dims"),
            vectors_too: hyperparameters.flag("precondition_1d"),
            normalize: hyperparameters.flag("normalize_grads"),
            correct_bias: hyperparameters.flag("correct_bias"),
            steps: 0,
            states: Vec::new(),
        })
    }

    /// The gradient with its axes as they are rotated.
    fn shaped(&self, gradient: &Tensor) -> Tensor {
        // The authors' program decides by the tensor's own shape whether it is a vector.
        match self.merge && gradient.dim() > 1 {
            true => gradient.reshape(merged(&gradient.size(), self.longest)),
            false => gradient.contiguous(),
        }
    }

    /// The state of a parameter at its first gradient, and how many bases could not be computed.
    fn start(&self, gradient: &Tensor, is_vector: bool) -> Result<(State, u64)> {
        let mut failures = 0;
        let mut axes = Vec::new();
        for (place, size) in gradient.size().into_iter().enumerate() {
            if size > self.longest || (is_vector && !self.vectors_too) {
                axes.push(None);
                continue;
            }
            let mut moment = Tensor::zeros([size, size], (gradient.kind(), gradient.device()));
            let _ = moment.lerp_(&second_moment(gradient, place)?, 1.0 - self.shampoo_beta);
            let basis = match decompose(&moment)? {
                Some((_, vectors)) => vectors.flip([1i64]).contiguous(),
                None => {
                    failures += 1;
                    Tensor::eye(size, (gradient.kind(), gradient.device()))
                }
            };
            axes.push(Some(Axis { moment, basis }));
        }
        let zeros = || Tensor::zeros(gradient.size(), (gradient.kind(), gradient.device()));
        Ok((State { axes, first: zeros(), second: zeros() }, failures))
    }
}

/// The products of the slices along an axis with each other, `[d, d]`.
fn second_moment(gradient: &Tensor, axis: usize) -> Result<Tensor> {
    let others: Vec<i64> = (0..gradient.dim() as i64).filter(|&other| other != axis as i64).collect();
    Ok(gradient.f_tensordot(gradient, others.as_slice(), others.as_slice())?)
}

impl State {
    /// A tensor in the bases of its axes; `back` from them.
    fn project(&self, tensor: &Tensor, back: bool) -> Result<Tensor> {
        let mut tensor = tensor.shallow_clone();
        // The first axis is taken away and put last, so that after all of them each is in its place again.
        for axis in &self.axes {
            tensor = match axis {
                Some(axis) => tensor.f_tensordot(&axis.basis, [0i64].as_slice(), [i64::from(back)].as_slice())?,
                None => tensor.f_movedim_int(0, -1)?,
            };
        }
        Ok(tensor)
    }

    /// Takes a gradient into the second moments of the axes.
    fn observe(&mut self, gradient: &Tensor, beta: f64) -> Result<()> {
        for (place, axis) in self.axes.iter_mut().enumerate() {
            if let Some(axis) = axis {
                let _ = axis.moment.lerp_(&second_moment(gradient, place)?, 1.0 - beta);
            }
        }
        Ok(())
    }

    /// Renews the bases; the moments keep what they mean.
    fn renew(&mut self) -> Result<()> {
        let first = self.project(&self.first, true)?;
        for (place, axis) in self.axes.iter_mut().enumerate() {
            let Some(axis) = axis else { continue };
            let moved = matmul(&axis.moment, &axis.basis)?;
            let estimates = (&axis.basis * &moved).sum_dim_intlist([0i64].as_slice(), false, None::<Kind>);
            let order = estimates.f_argsort(-1, true)?;
            self.second = self.second.f_index_select(place as i64, &order)?;
            axis.basis = Tensor::f_linalg_qr(&moved.f_index_select(1, &order)?, "reduced")?.0.contiguous();
        }
        self.first = self.project(&first, false)?.contiguous();
        Ok(())
    }
}

impl Optimizer for Soap {
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
        clock: &mut StepClock,
    ) -> Result<StepReport> {
        let mut report = StepReport::default();
        let pairs = self.gradients.take(network, quantities)?;
        if self.states.is_empty() {
            clock.lap(Phase::Update);
            for (_, gradient) in &pairs {
                let (state, failures) = self.start(&self.shaped(gradient), gradient.dim() < 2)?;
                report.failed_inverses += failures;
                self.states.push(state);
            }
            clock.lap(Phase::Inverse);
            return Ok(report);
        }
        self.steps += 1;
        let correction =
            self.betas.map(|beta| if self.correct_bias { 1.0 - beta.powi(self.steps as i32) } else { 1.0 });
        let size = self.learning_rate * correction[1].sqrt() / correction[0];
        for (number, (parameter, gradient)) in pairs.into_iter().enumerate() {
            let gradient = self.shaped(&gradient);
            let state = &mut self.states[number];
            clock.lap(Phase::Update);
            let rotated = state.project(&gradient, false)?;
            clock.lap(Phase::Inverse);
            let _ = state.first.g_mul_scalar_(self.betas[0]);
            add_scaled(&state.first, &rotated, 1.0 - self.betas[0])?;
            let _ = state.second.g_mul_scalar_(self.betas[1]);
            add_product(&state.second, &rotated, &rotated, 1.0 - self.betas[1])?;
            let mut denominator = state.second.sqrt();
            let _ = denominator.g_add_scalar_(self.epsilon);
            let adam = state.first.f_div(&denominator)?;
            clock.lap(Phase::Update);
            let mut step = state.project(&adam, true)?;
            clock.lap(Phase::Inverse);
            if self.normalize {
                step = step.f_div(&(step.square().mean(step.kind()).sqrt() + 1e-30))?;
            }
            add_scaled(parameter, &step.reshape(parameter.size()), -size)?;
            if self.weight_decay != 0.0 {
                let _ = parameter.shallow_clone().g_mul_scalar_(1.0 - self.learning_rate * self.weight_decay);
            }
            clock.lap(Phase::Update);
            state.observe(&gradient, self.shampoo_beta)?;
            clock.lap(Phase::Average);
            if self.steps.is_multiple_of(self.frequency) {
                state.renew()?;
                clock.lap(Phase::Inverse);
            }
        }
        Ok(report)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![("steps".to_owned(), Tensor::from_slice(&[self.steps as i64]))];
        for (number, own) in self.states.iter().enumerate() {
            state.push((format!("first.{number}"), own.first.shallow_clone()));
            state.push((format!("second.{number}"), own.second.shallow_clone()));
            for (place, axis) in own.axes.iter().enumerate() {
                if let Some(axis) = axis {
                    state.push((format!("moment.{number}.{place}"), axis.moment.shallow_clone()));
                    state.push((format!("basis.{number}.{place}"), axis.basis.shallow_clone()));
                }
            }
        }
        state
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        self.steps = take(&mut state, "steps")?.to_kind(Kind::Int64).int64_value(&[0]) as u64;
        self.states.clear();
        while let Some(first) = state.remove(&format!("first.{}", self.states.len())) {
            let number = self.states.len();
            let second = take(&mut state, &format!("second.{number}"))?;
            let mut axis = |place: usize| {
                let moment = state.remove(&format!("moment.{number}.{place}"))?;
                Some(Axis { moment, basis: state.remove(&format!("basis.{number}.{place}"))? })
            };
            let axes = (0..first.dim()).map(&mut axis).collect();
            self.states.push(State { axes, first, second });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_merged_up_to_the_longest() {
        assert_eq!(merged(&[64, 32, 5, 5], 1000), [64, 800]);
        assert_eq!(merged(&[4, 3, 2], 100), [24]);
        assert_eq!(merged(&[2000, 3, 4], 100), [2000, 12]);
        assert_eq!(merged(&[1, 1], 10), [1]);
    }
}
