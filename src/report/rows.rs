//! The rows of a study's files of results.

use serde::Deserialize;

use crate::study::experiment::Metric;

/// One row of curves.csv: the seeds' quartiles at one epoch. The last three columns are missing in published curves.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    pub median: f64,
    /// The quantile 1/4 over seeds.
    pub lower_quartile: f64,
    /// The quantile 3/4 over seeds.
    pub upper_quartile: f64,
    /// How many seeds; none for published curves.
    #[serde(default)]
    pub n: Option<usize>,
}

/// The value of one metric among those of a row, in the order of [`Metric::NAMES`]; nothing where it was not measured or
/// is no number.
fn measured(metric: Metric, values: [Option<f64>; 6]) -> Option<f64> {
    let place = Metric::NAMES.iter().position(|(_, named)| *named == metric)?;
    values[place].filter(|value| !value.is_nan())
}

/// One row of seeds.csv: one epoch of one seed of a winner, as measured.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SeedRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The run's seed.
    pub seed: u64,
    /// The run's state: done, diverged, running and so on.
    pub status: String,
    /// 0 precedes training.
    pub epoch: usize,
    /// On the sample of the training file.
    pub train_loss: Option<f64>,
    /// On the sample of the training file.
    pub train_accuracy: Option<f64>,
    /// On the samples split off.
    pub valid_loss: Option<f64>,
    /// On the samples split off.
    pub valid_accuracy: Option<f64>,
    /// On the test file.
    pub test_loss: Option<f64>,
    /// On the test file.
    pub test_accuracy: Option<f64>,
    /// That epoch's training alone.
    #[serde(default)]
    pub train_seconds: Option<f64>,
    /// Its evaluation.
    #[serde(default)]
    pub eval_seconds: Option<f64>,
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

/// One row of grid.csv: one setting with one grid seed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct GridRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The step size.
    pub learning_rate: f64,
    /// Empty for the baselines.
    pub damping: Option<f64>,
    /// The run's seed.
    #[serde(default)]
    pub seed: Option<u64>,
    /// The run's state.
    #[serde(default)]
    pub status: String,
    /// Epochs trained.
    #[serde(default)]
    pub epoch: Option<usize>,
    /// On the sample of the training file.
    pub train_loss: Option<f64>,
    /// On the sample of the training file.
    pub train_accuracy: Option<f64>,
    /// On the samples split off.
    pub valid_loss: Option<f64>,
    /// On the samples split off.
    pub valid_accuracy: Option<f64>,
    /// On the test file.
    pub test_loss: Option<f64>,
    /// On the test file.
    pub test_accuracy: Option<f64>,
    /// From 1; empty without a result.
    pub rank: Option<usize>,
    /// Whether this is the chosen setting.
    #[serde(default)]
    pub best: bool,
}

impl GridRow {
    /// The value of one metric, where the run ended with it; a diverged run has none.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        if self.status == "diverged" {
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

/// One row of final.csv: one metric of a winner at the last epoch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FinalRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The step size.
    pub learning_rate: f64,
    /// Empty for the baselines.
    pub damping: Option<f64>,
    /// `interior`, `single`, or the edges joined by `;`.
    pub edge: String,
    /// `train_losses` and so on.
    pub metric: Metric,
    /// The median over seeds.
    pub median: f64,
    /// The quantile 1/4 over seeds.
    pub lower_quartile: f64,
    /// The quantile 3/4 over seeds.
    pub upper_quartile: f64,
    /// The mean over seeds.
    pub mean: f64,
    /// The standard deviation of the population.
    pub std: f64,
    /// How many seeds.
    pub n: usize,
    /// How many of them diverged.
    pub diverged: usize,
    /// Steps to the study's target, where it has one that half of the seeds reached.
    #[serde(default)]
    pub target_steps: Option<f64>,
    /// Epochs to it.
    #[serde(default)]
    pub target_epochs: Option<f64>,
    /// Seconds of training to it.
    #[serde(default)]
    pub target_seconds: Option<f64>,
    /// Seeds that reached it; nothing without a target.
    #[serde(default)]
    pub target_reached: Option<usize>,
}

/// One row of targets.csv: when one seed of a winner reached the study's target.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    pub value: f64,
    /// Steps to it; empty for a seed that never reached it, as the next two.
    pub steps: Option<f64>,
    /// Epochs to it.
    pub epochs: Option<f64>,
    /// Seconds of training to it.
    pub seconds: Option<f64>,
}

/// One row of tuning.csv: what one further tuning, drawn from the finished grid, would have chosen.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct TuningRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// Which tuning, from 1.
    pub repeat: usize,
    /// What its setting measured with the grid's seed.
    pub test_loss: Option<f64>,
    /// What its setting measured with the grid's seed.
    pub test_accuracy: Option<f64>,
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
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SingleRow {
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The step size.
    pub learning_rate: f64,
    /// Empty for the baselines.
    pub damping: Option<f64>,
    /// The problem's name.
    pub problem: String,
    /// The setting's rank among those of the problem's grid, from 1.
    pub rank: Option<f64>,
    /// How many those are.
    pub settings: Option<usize>,
    /// With the grid's seed.
    pub test_loss: Option<f64>,
    /// That of the problem's best setting.
    pub best_test_loss: Option<f64>,
    /// With the grid's seed.
    pub test_accuracy: Option<f64>,
    /// That of the problem's best setting.
    pub best_test_accuracy: Option<f64>,
}
