//! What the damped curvature rules share: the damping of a step by scheme (constant, adapted by the reduction ratio, or
//! relative to the mean curvature), their options, and heavy ball on preconditioned steps.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::info::sides;
use super::options::{FROM_0_BELOW_1, OptionInfo, OptionKind, OptionValue, STEPS, YES_OR_NO, from_0_below_1};
use super::{Averaging, Hyperparameters, Options, take};
use crate::error::Result;

/// How the damping is chosen from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DampingScheme {
    /// The given damping in every step, as in the paper.
    #[default]
    Constant,
    /// The given damping to start with; every fifth step it shrinks or grows by how well a quadratic model predicted
    /// the change of the mini-batch's loss (Martens and Grosse, 2015, section 6.5).
    LevenbergMarquardt,
    /// The given damping times the block's mean curvature, the trace over the dimension.
    Trace,
}

impl DampingScheme {
    /// The names, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["constant", "levenberg_marquardt", "trace"];

    /// The scheme of this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [DampingScheme::Constant, DampingScheme::LevenbergMarquardt, DampingScheme::Trace];
        DampingScheme::NAMES.into_iter().zip(all).find(|(known, _)| *known == name).map(|(_, scheme)| scheme)
    }
}

/// Steps between two adaptations (T1 of Martens and Grosse, 2015).
const INTERVAL: i64 = 5;
/// The factor of an adaptation, for one step (omega_1 is its INTERVAL-th power).
const DECAY: f64 = 19.0 / 20.0;
/// Above this ratio the damping shrinks, below one quarter it grows.
const GOOD: f64 = 0.75;
const BAD: f64 = 0.25;
/// The damping stays in these bounds once it is adapted.
const BOUNDS: [f64; 2] = [1e-10, 1e10];

/// The damping of the steps so far and the next.
#[derive(Debug)]
pub(super) struct Damping {
    scheme: DampingScheme,
    value: f64,
    steps: i64,
}

impl Damping {
    /// As a curvature rule's hyperparameters say.
    pub fn of(hyperparameters: &Hyperparameters) -> Self {
        let scheme = DampingScheme::named(&hyperparameters.text("damping_scheme")).unwrap_or_default();
        Damping::new(scheme, hyperparameters.damping)
    }

    fn new(scheme: DampingScheme, value: f64) -> Self {
        Damping { scheme, value, steps: 0 }
    }

    /// The value that all blocks share.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// What is added to a block whose mean curvature is `mean`.
    pub fn of_block(&self, mean: impl FnOnce() -> Result<f64>) -> Result<f64> {
        if self.scheme != DampingScheme::Trace {
            return Ok(self.value);
        }
        let mean = mean()?;
        Ok(if mean.is_finite() && mean > 0.0 { self.value * mean } else { self.value })
    }

    /// Whether the next step's reduction ratio is of use.
    pub fn wants_ratio(&self) -> bool {
        self.scheme == DampingScheme::LevenbergMarquardt && (self.steps + 1) % INTERVAL == 0
    }

    /// Counts a step.
    pub fn stepped(&mut self) {
        self.steps += 1;
    }

    /// Adapts the damping to the reduction ratio; one that is not a number counts as bad.
    pub fn adapt(&mut self, ratio: f64) {
        let factor = DECAY.powi(INTERVAL as i32);
        if ratio > GOOD {
            self.value = (self.value * factor).max(BOUNDS[0]);
        } else if ratio < BAD || ratio.is_nan() {
            self.value = (self.value / factor).clamp(BOUNDS[0], BOUNDS[1]);
        }
    }

    /// What later steps depend on; nothing where the damping does not change.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        if self.scheme != DampingScheme::LevenbergMarquardt {
            return Vec::new();
        }
        vec![
            ("damping.value".to_owned(), Tensor::from_slice(&[self.value])),
            ("damping.steps".to_owned(), Tensor::from_slice(&[self.steps])),
        ]
    }

    /// Takes its part out of a saved state.
    pub fn load_state(&mut self, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        if self.scheme == DampingScheme::LevenbergMarquardt {
            self.value = take(state, "damping.value")?.to_kind(Kind::Double).double_value(&[0]);
            self.steps = take(state, "damping.steps")?.to_kind(Kind::Int64).int64_value(&[0]);
        }
        Ok(())
    }
}

// Their options, and what their factors take of memory. Beyond the paper's step all of it is off unless asked for.

/// How curvature is averaged over steps, as all damped rules have it.
pub const AVERAGING: OptionInfo = OptionInfo {
    key: "averaging",
    kind: OptionKind::Averaging,
    values: "none, cumulative, or ema:WEIGHT with a weight from 0 up to but not including 1 (ema:0.95)",
    default: || OptionValue::Averaging(Averaging::Cumulative),
    about: "how curvature is averaged over steps",
    always: true,
};

pub(super) const INVERSE_EVERY: OptionInfo = OptionInfo::new(
    "inverse_every",
    OptionKind::Count,
    STEPS,
    || OptionValue::Count(1),
    "steps from one inversion of the Kronecker factors to the next",
);

pub(super) const MOMENTUM: OptionInfo = OptionInfo::new(
    "momentum",
    OptionKind::Number(from_0_below_1),
    FROM_0_BELOW_1,
    || OptionValue::Number(0.0),
    "heavy ball on the preconditioned step",
);

pub(super) const DAMPING_SCHEME: OptionInfo = OptionInfo::new(
    "damping_scheme",
    OptionKind::Choice(&DampingScheme::NAMES),
    "constant, levenberg_marquardt, trace",
    || OptionValue::Text(DampingScheme::NAMES[0].to_owned()),
    "keep the damping, adapt it by the reduction ratio, or scale it by the mean curvature",
);

pub(super) const KFAC_APPROX: OptionInfo = OptionInfo::new(
    "kfac_approx",
    OptionKind::Choice(&["backpack", "expand", "reduce"]),
    "backpack, expand, reduce",
    || OptionValue::Text("backpack".to_owned()),
    "how the factors treat positions that share a weight",
);

const OTHERS_CHOICES: [&str; 2] = ["diagonal", "refuse"];

pub(super) const OTHERS: OptionInfo = OptionInfo::new(
    "others",
    OptionKind::Choice(&OTHERS_CHOICES),
    "diagonal, refuse",
    || OptionValue::Text(OTHERS_CHOICES[0].to_owned()),
    "precondition parameters without Kronecker factors by the diagonal of the same source, or refuse the network",
);

/// How many labels are sampled, for a rule whose curvature is.
pub const MC_SAMPLES: OptionInfo = OptionInfo {
    key: "mc_samples",
    kind: OptionKind::Count,
    values: "an integer of at least 1",
    default: || OptionValue::Count(1),
    about: "labels drawn per sample",
    always: true,
};

pub(super) const KFRA_ALIASING: OptionInfo = OptionInfo {
    key: "kfra_aliasing",
    kind: OptionKind::Flag,
    values: YES_OR_NO,
    default: || OptionValue::Flag(false),
    about: "average the output factors of linear layers with a bias twice per step, as the published runs did",
    always: true,
};

/// Copies of Kronecker factors: new, averaged, inverted, and the inversion's own.
const FACTOR_COPIES: u64 = 4;

/// What EKFAC keeps of a parameter: factors, eigenvectors and what they are computed in, and the eigenvalues.
pub(super) fn eigenbasis_memory(options: &Options, shape: &[i64]) -> u64 {
    let [rows, columns] = sides(shape);
    factor_memory(options, shape) + 2 * (rows * rows + columns * columns + rows * columns)
}

/// What the Kronecker factors of a parameter take.
pub(super) fn factor_memory(_options: &Options, shape: &[i64]) -> u64 {
    let [rows, columns] = sides(shape);
    FACTOR_COPIES * (rows * rows + columns * columns)
}

// Heavy ball on preconditioned steps (Polyak, 1964): v <- m v + step, theta <- theta - alpha v; the first v is the
// first step.

/// The velocities, one for each parameter of the network; none where the weight is zero.
#[derive(Debug)]
pub(super) struct HeavyBall {
    weight: f64,
    velocities: Vec<Option<Tensor>>,
}

impl HeavyBall {
    pub fn new(weight: f64) -> Self {
        HeavyBall { weight, velocities: Vec::new() }
    }

    /// Whether it changes anything.
    pub fn is_on(&self) -> bool {
        self.weight != 0.0
    }

    /// What is subtracted from the parameter of this number, learning rate aside. `step` is not held on to.
    pub fn through(&mut self, parameter: usize, step: Tensor) -> Tensor {
        if !self.is_on() {
            return step;
        }
        if self.velocities.len() <= parameter {
            self.velocities.resize_with(parameter + 1, || None);
        }
        let velocity = match self.velocities[parameter].take() {
            Some(mut velocity) => velocity.g_mul_scalar_(self.weight).g_add_(&step),
            None => step.copy(),
        };
        self.velocities[parameter].insert(velocity).shallow_clone()
    }

    /// What later steps depend on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let some = |(place, velocity): (usize, &Option<Tensor>)| {
            velocity.as_ref().map(|velocity| (format!("velocity.{place}"), velocity.shallow_clone()))
        };
        self.velocities.iter().enumerate().filter_map(some).collect()
    }

    /// Takes its part out of a saved state.
    pub fn load_state(&mut self, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        self.velocities.clear();
        let number = |name: &String| name.strip_prefix("velocity.").and_then(|place| place.parse::<usize>().ok());
        let places: Vec<usize> = state.keys().filter_map(number).collect();
        for place in places {
            if self.velocities.len() <= place {
                self.velocities.resize_with(place + 1, || None);
            }
            self.velocities[place] = Some(take(state, &format!("velocity.{place}"))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_decides_in_which_direction_it_goes() {
        let omega: f64 = 0.95f64.powi(5);
        for (ratio, expected) in
            [(0.9, omega), (0.5, 1.0), (0.1, 1.0 / omega), (f64::NAN, 1.0 / omega), (-3.0, 1.0 / omega)]
                .into_iter()
                // Only beyond the two ends is it changed.
                .chain([(0.75, 1.0), (0.25, 1.0)])
        {
            let mut damping = Damping::new(DampingScheme::LevenbergMarquardt, 1.0);
            damping.adapt(ratio);
            assert!((damping.value() - expected).abs() < 1e-15, "{ratio}: {}", damping.value());
        }
        let mut damping = Damping::new(DampingScheme::LevenbergMarquardt, 1.0);
        let wanted: Vec<bool> = (0..10)
            .map(|_| {
                let wants = damping.wants_ratio();
                damping.stepped();
                wants
            })
            .collect();
        let expected: Vec<bool> = (1..=10).map(|step| step % 5 == 0).collect();
        assert_eq!(wanted, expected);
    }

    #[test]
    fn it_is_relative_to_the_mean_where_that_is_positive() {
        let damping = Damping::new(DampingScheme::Trace, 0.1);
        assert!((damping.of_block(|| Ok(5.0)).unwrap() - 0.5).abs() < 1e-15);
        for mean in [0.0, f64::NAN, f64::INFINITY] {
            assert_eq!(damping.of_block(|| Ok(mean)).unwrap(), 0.1);
        }
        assert_eq!(Damping::new(DampingScheme::Constant, 0.1).of_block(|| Ok(5.0)).unwrap(), 0.1);
    }
}
