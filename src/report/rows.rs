//! The rows of a study's further files of results.

use serde::Deserialize;

use crate::study::experiment::Metric;

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
