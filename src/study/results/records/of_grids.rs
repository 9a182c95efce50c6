//! The rows of what is said of all settings of a grid: grid.csv, tuning.csv and single.csv.

use serde::{Deserialize, Serialize};

use super::super::super::experiment::Metric;
use super::super::super::state::RunState;
use super::{Record, measured, shown};

/// One row of grid.csv: one setting with one grid seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridRow {
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
    /// The run's seed.
    #[serde(default)]
    pub seed: Option<u64>,
    /// The run's state.
    #[serde(default)]
    pub status: RunState,
    /// Epochs trained.
    #[serde(default)]
    pub epoch: Option<usize>,
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
    /// From 1; empty without a result.
    pub rank: Option<usize>,
    /// Whether this is the chosen setting.
    #[serde(default)]
    pub best: bool,
}

impl Record for GridRow {
    const COLUMNS: &'static [&'static str] = &[
        "problem",
        "optimizer",
        "learning_rate",
        "damping",
        "seed",
        "status",
        "epoch",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "test_loss",
        "test_accuracy",
        "rank",
        "best",
    ];
}

impl GridRow {
    /// The value of one metric, where the run ended with it; a diverged run has none.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        if self.status == RunState::Diverged {
            return None;
        }
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

/// One row of tuning.csv: what one further tuning, drawn from the finished grid, would have chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TuningRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// Which tuning, from 1.
    pub repeat: usize,
    /// The step size that it chooses.
    #[serde(serialize_with = "shown::serialize")]
    pub learning_rate: f64,
    /// Empty for the baselines.
    #[serde(serialize_with = "shown::option::serialize")]
    pub damping: Option<f64>,
    /// Epochs trained, of the run with the grid's seed, as in all that follows; 0 where that diverged.
    pub epoch: Option<usize>,
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
}

impl Record for TuningRow {
    const COLUMNS: &'static [&'static str] = &[
        "problem",
        "optimizer",
        "repeat",
        "learning_rate",
        "damping",
        "epoch",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "test_loss",
        "test_accuracy",
    ];
}

impl TuningRow {
    /// The value of one of the metrics that are compared.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::TestLosses => self.test_loss,
            Metric::TestAccuracies => self.test_accuracy,
            _ => None,
        }
        .filter(|value| value.is_finite())
    }
}

/// One row of single.csv: the best single setting of an optimizer over all problems, on one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SingleRow {
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The step size.
    #[serde(serialize_with = "shown::serialize")]
    pub learning_rate: f64,
    /// Empty for the baselines.
    #[serde(serialize_with = "shown::option::serialize")]
    pub damping: Option<f64>,
    /// The problem's name.
    pub problem: String,
    /// The setting's rank among those of the problem's grid, from 1.
    #[serde(serialize_with = "shown::option::serialize")]
    pub rank: Option<f64>,
    /// How many those are.
    pub settings: Option<usize>,
    /// By what settings are ranked.
    pub metric: Metric,
    /// Its score with the grid's seed, as everything that follows.
    #[serde(serialize_with = "shown::serialize")]
    pub value: f64,
    /// That of the problem's best setting.
    #[serde(serialize_with = "shown::serialize")]
    pub best_value: f64,
    /// At the end.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_loss: Option<f64>,
    /// That of the problem's best setting.
    #[serde(serialize_with = "shown::option::serialize")]
    pub best_test_loss: Option<f64>,
    /// At the end.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_accuracy: Option<f64>,
    /// That of the problem's best setting.
    #[serde(serialize_with = "shown::option::serialize")]
    pub best_test_accuracy: Option<f64>,
}

impl Record for SingleRow {
    const COLUMNS: &'static [&'static str] = &[
        "optimizer",
        "learning_rate",
        "damping",
        "problem",
        "rank",
        "settings",
        "metric",
        "value",
        "best_value",
        "test_loss",
        "best_test_loss",
        "test_accuracy",
        "best_test_accuracy",
    ];
}
