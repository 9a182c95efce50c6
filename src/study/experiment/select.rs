//! How the best setting of a grid is chosen: a metric, and what of its curve counts.

use std::fmt;

use serde::{Deserialize, Serialize};

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
