//! The losses, what they compare with, and the reductions by name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::backpack::losses::Reduction;

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Softmax and cross-entropy of class labels.
    CrossEntropy,
    /// Mean squared error, as PyTorch's MSELoss.
    Mse,
    /// Sigmoid and binary cross-entropy, as PyTorch's BCEWithLogitsLoss.
    BceWithLogits,
}

impl LossKind {
    /// All of them, by the names of problem files.
    pub const NAMES: [(&'static str, LossKind); 3] = [
        ("cross_entropy", LossKind::CrossEntropy),
        ("mse", LossKind::Mse),
        ("bce_with_logits", LossKind::BceWithLogits),
    ];
}

impl fmt::Display for LossKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LossKind::CrossEntropy => "cross_entropy",
            LossKind::Mse => "mse",
            LossKind::BceWithLogits => "bce_with_logits",
        })
    }
}

/// Both reductions, by the names of problem files.
pub const REDUCTIONS: [(&str, Reduction); 2] = [("mean", Reduction::Mean), ("sum", Reduction::Sum)];

/// What a loss compares outputs with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetsKind {
    /// The labels or targets of the data set.
    #[default]
    Labels,
    /// The inputs themselves: an autoencoder.
    Input,
}

impl TargetsKind {
    /// Whether these are the labels.
    pub fn is_default(&self) -> bool {
        *self == TargetsKind::Labels
    }
}
