//! The rows of what is said of the seeds of best settings: curves.csv, seeds.csv, final.csv and targets.csv.

use serde::{Deserialize, Serialize};

use super::super::super::experiment::Metric;
use super::super::super::state::RunState;
use super::{Record, measured, shown};

/// One row of curves.csv: the seeds' quartiles at one epoch. Curves from elsewhere may lack the last three columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurveRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// `train_losses` and so on.
    pub metric: Metric,
    /// 0 precedes training.
    pub epoch: usize,
    /// The median over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub median: f64,
    /// The quantile 1/4 over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub lower_quartile: f64,
    /// The quantile 3/4 over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub upper_quartile: f64,
    /// The mean over seeds.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub mean: Option<f64>,
    /// The standard deviation of the population.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub std: Option<f64>,
    /// How many seeds; none where it is not known, as of curves from elsewhere.
    #[serde(default)]
    pub n: Option<usize>,
}

impl Record for CurveRow {
    const COLUMNS: &'static [&'static str] =
        &["problem", "optimizer", "metric", "epoch", "median", "lower_quartile", "upper_quartile", "mean", "std", "n"];
}

/// One row of seeds.csv: one epoch of one seed of a winner, as measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The run's seed.
    pub seed: u64,
    /// The run's state: done, diverged, running and so on.
    pub status: RunState,
    /// 0 precedes training.
    pub epoch: usize,
    /// On the sample of the training file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub train_loss: Option<f64>,
    /// On the sample of the training file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub train_accuracy: Option<f64>,
    /// On the samples split off.
    #[serde(serialize_with = "shown::option::serialize")]
    pub valid_loss: Option<f64>,
    /// On the samples split off.
    #[serde(serialize_with = "shown::option::serialize")]
    pub valid_accuracy: Option<f64>,
    /// On the test file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_loss: Option<f64>,
    /// On the test file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_accuracy: Option<f64>,
    /// That epoch's training alone.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub train_seconds: Option<f64>,
    /// Its evaluation.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub eval_seconds: Option<f64>,
}

impl Record for SeedRow {
    const COLUMNS: &'static [&'static str] = &[
        "problem",
        "optimizer",
        "seed",
        "status",
        "epoch",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "test_loss",
        "test_accuracy",
        "train_seconds",
        "eval_seconds",
    ];
}

impl SeedRow {
    /// The value of one metric, where it was measured and is a number.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        let values = [
            self.train_loss,
            self.train_accuracy,
            self.valid_loss,
            self.valid_accuracy,
            self.test_loss,
            self.test_accuracy,
        ];
        measured(metric, values)
    }
}

/// One row of final.csv: one metric of a winner at the last epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinalRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The step size.
    #[serde(serialize_with = "shown::serialize")]
    pub learning_rate: f64,
    /// Empty for the baselines.
    #[serde(serialize_with = "shown::option::serialize")]
    pub damping: Option<f64>,
    /// `interior`, `single`, or the edges joined by `;`.
    pub edge: String,
    /// `train_losses` and so on.
    pub metric: Metric,
    /// The median over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub median: f64,
    /// The quantile 1/4 over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub lower_quartile: f64,
    /// The quantile 3/4 over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub upper_quartile: f64,
    /// The mean over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub mean: f64,
    /// The standard deviation of the population.
    #[serde(serialize_with = "shown::serialize")]
    pub std: f64,
    /// How many seeds.
    pub n: usize,
    /// How many of them diverged.
    pub diverged: usize,
    /// Steps to the study's target, where it has one that half of the seeds reached.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub target_steps: Option<f64>,
    /// Epochs to it.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub target_epochs: Option<f64>,
    /// Seconds of training to it.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub target_seconds: Option<f64>,
    /// Seeds that reached it; nothing without a target.
    #[serde(default)]
    pub target_reached: Option<usize>,
}

impl Record for FinalRow {
    const COLUMNS: &'static [&'static str] = &[
        "problem",
        "optimizer",
        "learning_rate",
        "damping",
        "edge",
        "metric",
        "median",
        "lower_quartile",
        "upper_quartile",
        "mean",
        "std",
        "n",
        "diverged",
        "target_steps",
        "target_epochs",
        "target_seconds",
        "target_reached",
    ];
}

impl FinalRow {
    /// How many of the last columns there are for a study with a target alone.
    pub(in crate::study::results) const TARGET_COLUMNS: usize = 4;
}

/// One row of targets.csv: when one seed of a winner reached the study's target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The run's seed.
    pub seed: u64,
    /// What was to be reached.
    pub metric: Metric,
    /// How much of it.
    #[serde(serialize_with = "shown::serialize")]
    pub value: f64,
    /// Whether it was.
    #[serde(default)]
    pub reached: bool,
    /// Steps to it; empty for a seed that never reached it, as the next two.
    #[serde(serialize_with = "shown::option::serialize")]
    pub steps: Option<f64>,
    /// Epochs to it.
    #[serde(serialize_with = "shown::option::serialize")]
    pub epochs: Option<f64>,
    /// Seconds of training to it.
    #[serde(serialize_with = "shown::option::serialize")]
    pub seconds: Option<f64>,
}

impl Record for TargetRow {
    const COLUMNS: &'static [&'static str] =
        &["problem", "optimizer", "seed", "metric", "value", "reached", "steps", "epochs", "seconds"];
}
