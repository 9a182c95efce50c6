//! The damping of a step by scheme: constant, adapted by the reduction ratio, or relative to the mean curvature.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{Hyperparameters, take};
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
