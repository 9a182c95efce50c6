//! What a run is to reach: a metric and its value, by which optimizers are compared in steps, epochs and seconds.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::Metric;
use crate::error::{Error, Result};
use crate::numbers::read;
use crate::problems::definition::ProblemDefinition;

/// What stands for the end of the best baseline.
const BEST_BASELINE: &str = "best baseline";

/// A value of a metric that runs are to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// What is measured.
    pub metric: Metric,
    /// How large an accuracy is to be at least, or a loss at most.
    pub value: TargetValue,
}

/// A number, or where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, or \"best baseline\"")]
pub enum TargetValue {
    /// The same for all problems.
    #[serde(deserialize_with = "read::finite")]
    Number(f64),
    /// Of each problem, the median over seeds with which the best of its baselines ends: `"best baseline"`.
    BestBaseline(BestBaseline),
}

/// The word in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BestBaseline {
    /// See [`TargetValue::BestBaseline`].
    #[serde(rename = "best baseline")]
    Word,
}

/// What a text says of the target; the metric may be that of `select`.
///
/// `{ metric = "valid_accuracies", value = 0.92 }`, or `value = "best baseline"`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetKeys {
    pub(super) metric: Option<Metric>,
    pub(super) value: TargetValue,
}

impl TargetKeys {
    /// The target of these problems, of which those named have a baseline.
    ///
    /// # Errors
    /// [`Error::Usage`] for an accuracy where there is none, one beyond 1, or without the baselines that are asked for.
    pub(super) fn resolve<'a>(
        self,
        select: Metric,
        problems: &'a [ProblemDefinition],
        mut has_baseline: impl FnMut(&'a ProblemDefinition) -> bool,
    ) -> Result<Target> {
        let metric = self.metric.unwrap_or(select);
        if metric.is_accuracy()
            && let Some(problem) = problems.iter().find(|problem| !problem.has_accuracy())
        {
            return Err(Error::Usage(format!(
                "target.metric = \"{metric}\": {} has no accuracy; expected train_losses, valid_losses or test_losses",
                problem.name
            )));
        }
        match self.value {
            TargetValue::Number(value) if metric.is_accuracy() && !(0.0..=1.0).contains(&value) => {
                Err(Error::Usage(format!("target.value = {value}: an accuracy lies between 0 and 1")))
            }
            TargetValue::BestBaseline(_) => match problems.iter().find(|problem| !has_baseline(problem)) {
                Some(problem) => Err(Error::Usage(format!(
                    "target.value = \"{BEST_BASELINE}\": no baseline (an optimizer without damping) is run on {}; add one, \
                     or give a number",
                    problem.name
                ))),
                None => Ok(Target { metric, value: self.value }),
            },
            TargetValue::Number(_) => Ok(Target { metric, value: self.value }),
        }
    }
}

impl Target {
    /// Whether a value is good enough where this one is aimed at; one that is no number is not.
    pub fn is_reached(metric: Metric, value: f64, aim: f64) -> bool {
        if metric.larger_is_better() { value >= aim } else { value <= aim }
    }

    /// As a file has it.
    pub(super) fn to_value(self) -> Value {
        let value = match self.value {
            TargetValue::Number(value) => value.into(),
            TargetValue::BestBaseline(_) => BEST_BASELINE.into(),
        };
        Table::from_iter([("metric".to_owned(), self.metric.as_str().into()), ("value".to_owned(), value)]).into()
    }
}
