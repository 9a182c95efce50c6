//! Metrics and what is asked of them: how the best setting of a grid is chosen, and what a run is to reach.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::numbers::read;
use crate::problems::definition::ProblemDefinition;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// On the sample of the training file.
    TrainLosses,
    /// On the sample of the training file.
    TrainAccuracies,
    /// On the samples split off for validation.
    ValidLosses,
    /// On the samples split off for validation.
    #[default]
    ValidAccuracies,
    /// On the test file.
    TestLosses,
    /// On the test file.
    TestAccuracies,
}

impl Metric {
    /// All of them by name.
    pub const NAMES: [(&'static str, Metric); 6] = [
        ("train_losses", Metric::TrainLosses),
        ("train_accuracies", Metric::TrainAccuracies),
        ("valid_losses", Metric::ValidLosses),
        ("valid_accuracies", Metric::ValidAccuracies),
        ("test_losses", Metric::TestLosses),
        ("test_accuracies", Metric::TestAccuracies),
    ];

    /// The name in files and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::TrainLosses => "train_losses",
            Metric::TrainAccuracies => "train_accuracies",
            Metric::ValidLosses => "valid_losses",
            Metric::ValidAccuracies => "valid_accuracies",
            Metric::TestLosses => "test_losses",
            Metric::TestAccuracies => "test_accuracies",
        }
    }

    /// Whether it is an accuracy, which not every loss has.
    pub fn is_accuracy(self) -> bool {
        matches!(self, Metric::TrainAccuracies | Metric::ValidAccuracies | Metric::TestAccuracies)
    }

    /// Whether a larger value is a better one.
    pub fn larger_is_better(self) -> bool {
        self.is_accuracy()
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What of a setting's curve counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectMode {
    /// The mean over seeds after the last epoch.
    #[default]
    Final,
    /// The best over epochs of the mean over seeds.
    Best,
    /// The number of seeds run; `final` where all settings have equally many.
    Most,
}

impl SelectMode {
    /// The name in files and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            SelectMode::Final => "final",
            SelectMode::Best => "best",
            SelectMode::Most => "most",
        }
    }
}

impl fmt::Display for SelectMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the best setting is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Select {
    /// What is compared.
    pub metric: Metric,
    /// What of its curve counts.
    pub mode: SelectMode,
}

// What a run is to reach: a metric and its value, by which optimizers are compared in steps, epochs and seconds.

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
