//! How curvature is averaged over steps, as flags and files write it, and the running estimate.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::backpack::layers::add_second_moment;
use crate::error::{Error, Result};

/// How the curvature of a mini-batch enters the estimate that preconditions the step.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Averaging {
    /// The mini-batch's curvature alone, as the paper's text has it.
    None,
    /// The arithmetic mean over all steps so far, as the runs behind the paper's figures had it.
    #[default]
    Cumulative,
    /// estimate <- b estimate + (1 - b) new, started at the first observation.
    Ema(f64),
}

impl fmt::Display for Averaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Averaging::None => f.write_str("none"),
            Averaging::Cumulative => f.write_str("cumulative"),
            Averaging::Ema(weight) => write!(f, "ema:{weight}"),
        }
    }
}

impl FromStr for Averaging {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "none" => Ok(Averaging::None),
            "cumulative" => Ok(Averaging::Cumulative),
            _ => text
                .strip_prefix("ema:")
                .and_then(|weight| weight.parse().ok())
                .filter(|weight| (0.0..1.0).contains(weight))
                .map(Averaging::Ema)
                .ok_or_else(|| {
                    Error::Usage(format!(
                        "averaging `{text}`: expected none, cumulative, or ema:WEIGHT with a weight from 0 up to, not \
                         including, 1 (ema:0.95)"
                    ))
                }),
        }
    }
}

impl Serialize for Averaging {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Averaging {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An average over steps. The first observation sets it; a later one enters with a weight that depends on how many
/// there have been.
#[derive(Debug)]
pub struct RunningEstimate {
    value: Option<Tensor>,
    observations: i64,
}

impl RunningEstimate {
    /// No observation yet.
    pub fn new() -> Self {
        RunningEstimate { value: None, observations: 0 }
    }

    /// An estimate as it was saved.
    pub fn restore(value: Tensor, observations: i64) -> Self {
        RunningEstimate { value: Some(value), observations }
    }

    /// It under a name, for a checkpoint; `whole` makes the value whole where only a part of it counts.
    pub(super) fn saved(&self, name: &str, whole: impl Fn(&Tensor) -> Tensor) -> Vec<(String, Tensor)> {
        let Some(value) = &self.value else { return Vec::new() };
        let observations = Tensor::from_slice(&[self.observations]);
        vec![(name.to_owned(), whole(value)), (format!("{name}.observations"), observations)]
    }

    /// The estimate that was saved under a name.
    pub(super) fn take(state: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Self> {
        let value = take(state, name)?;
        let observations = take(state, &format!("{name}.observations"))?;
        Ok(Self::restore(value, observations.to_kind(Kind::Int64).int64_value(&[0])))
    }

    /// The estimate, once there has been an observation.
    pub fn value(&self) -> Option<&Tensor> {
        self.value.as_ref()
    }

    /// How many observations there have been.
    pub fn observations(&self) -> i64 {
        self.observations
    }

    /// Counts an observation and gives its weight, the first one's left out of account.
    fn next_weight(&mut self, averaging: Averaging) -> f64 {
        self.observations += 1;
        match averaging {
            Averaging::None => 1.0,
            Averaging::Cumulative => 1.0 / self.observations as f64,
            Averaging::Ema(old) => 1.0 - old,
        }
    }

    /// Takes a new observation in; `times` applies the same observation repeatedly, as an aliased factor does (from
    /// the second observation on).
    pub fn observe(&mut self, new: &Tensor, averaging: Averaging, times: i32) {
        let once = self.next_weight(averaging);
        match &mut self.value {
            Some(value) if averaging != Averaging::None => {
                let _ = value.lerp_(new, 1.0 - (1.0 - once).powi(times));
            }
            slot => {
                // A pass may hand the same tensor out under two names; what is averaged in place must be its own.
                *slot = Some(if averaging == Averaging::None { new.shallow_clone() } else { new.copy() });
            }
        }
    }

    /// Takes in the second moment of the rows `x`, `[M, d]`, divided by `samples`: the product is added to the estimate
    /// without a matrix of its own, and in the upper triangle alone. The rest of the estimate is of no use.
    ///
    /// # Errors
    /// What libtorch says when the shapes do not fit.
    pub fn observe_second_moment(&mut self, x: &Tensor, samples: i64, averaging: Averaging) -> Result<()> {
        let weight = self.next_weight(averaging);
        let width = x.size()[1];
        let (value, weight) = match self.value.take() {
            Some(value) => (value, weight),
            None => (Tensor::zeros([width, width], (x.kind(), x.device())), 1.0),
        };
        add_second_moment(self.value.insert(value), x, 1.0 - weight, weight / samples as f64)
    }
}

impl Default for RunningEstimate {
    fn default() -> Self {
        Self::new()
    }
}

/// A tensor of a saved state, or an error that names it.
pub(super) fn take(state: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Tensor> {
    state
        .remove(name)
        .ok_or_else(|| Error::Environment(format!("the optimizer's saved state has no `{name}`; start the run afresh")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(averaging: Averaging, times: i32, observations: &[f64]) -> f64 {
        let mut estimate = RunningEstimate::new();
        for value in observations {
            estimate.observe(&Tensor::from_slice(&[*value]), averaging, times);
        }
        estimate.value().unwrap().double_value(&[0])
    }

    #[test]
    fn the_cumulative_estimate_is_the_mean() {
        let values = [1.0, 5.0, 3.0, 7.0];
        assert!((after(Averaging::Cumulative, 1, &values) - 4.0).abs() < 1e-12);
        assert_eq!(after(Averaging::None, 1, &values), 7.0);
        let ema = 0.9 * (0.9 * (0.9 * 1.0 + 0.1 * 5.0) + 0.1 * 3.0) + 0.1 * 7.0;
        assert!((after(Averaging::Ema(0.9), 1, &values) - ema).abs() < 1e-12);
    }

    #[test]
    fn an_aliased_factor_is_averaged_twice() {
        // est <- (1-a)^2 est + (1-(1-a)^2) x with a = 1/2, then 1/3.
        let second: f64 = 0.25 * 1.0 + 0.75 * 5.0;
        let third = (4.0 / 9.0) * second + (5.0 / 9.0) * 3.0;
        assert!((after(Averaging::Cumulative, 2, &[1.0, 5.0, 3.0]) - third).abs() < 1e-12);
    }

    #[test]
    fn a_second_moment_is_averaged_as_the_matrix_is() {
        tch::manual_seed(0);
        let rows = |_| Tensor::randn([20, 400], (tch::Kind::Double, tch::Device::Cpu));
        let batches: Vec<Tensor> = (0..3).map(rows).collect();
        for averaging in [Averaging::None, Averaging::Cumulative, Averaging::Ema(0.9)] {
            let (mut by_rows, mut by_matrix) = (RunningEstimate::new(), RunningEstimate::new());
            for x in &batches {
                by_rows.observe_second_moment(x, 5, averaging).unwrap();
                by_matrix.observe(&(x.tr().mm(x) / 5.0), averaging, 1);
                let difference = by_rows.value().unwrap() - by_matrix.value().unwrap();
                assert!(f64::try_from(difference.triu(0).abs().max()).unwrap() < 1e-12, "{averaging:?}");
            }
            assert_eq!(by_rows.observations(), 3);
        }
    }

    #[test]
    fn averaging_reads_back_and_refuses_what_diverges() {
        for text in ["none", "cumulative", "ema:0.95"] {
            assert_eq!(text.parse::<Averaging>().unwrap().to_string(), text);
        }
        for text in ["", "ema", "ema:1", "ema:-0.1", "ema:nan", "mean"] {
            assert!(text.parse::<Averaging>().is_err(), "{text}");
        }
    }
}
