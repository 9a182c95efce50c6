//! What a problem is: data, network, loss and defaults, as a problem file describes them.

mod graph;
mod keys;
mod layer;
mod load;
mod render;

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::data::DataSource;
use crate::backpack::losses::Reduction;
use crate::config::Place;
use crate::error::{Error, Result};
use crate::files::stored_path_option;
use crate::numbers::{MAX_SIZE, read};

pub use keys::{ProblemKeys, parse_set, problem_keys};
pub use layer::LayerDefinition;
pub(crate) use load::{BUILT_IN, NamedProblem, load_named, replace};
pub use load::{built_in, built_in_names, load, load_item, parse};

/// A problem with every value decided: what its file says, or the default, or what overrides them.
///
/// Two definitions are equal if they say the same, wherever it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemDefinition {
    /// The name of its result folder and its rows.
    pub name: String,
    /// The data set.
    pub dataset: DataSource,
    /// The loss; a file may leave it to whoever uses it.
    pub loss: Option<LossKind>,
    /// How the samples' losses make up that of a batch.
    pub reduction: Reduction,
    /// Samples in a mini-batch, of training and of evaluation.
    pub batch_size: usize,
    /// What the outputs are compared with.
    #[serde(default, skip_serializing_if = "TargetsKind::is_default")]
    pub targets: TargetsKind,
    /// Whether the last, smaller batch is left out, in training and evaluation. The first runs did not say, and left it out.
    #[serde(default = "left_out", skip_serializing_if = "is_left_out")]
    pub drop_last: bool,
    /// Passes over the training samples; with a limit in steps, those that it begins, as soon as the data are known, and with
    /// one in seconds 0.
    pub epochs: usize,
    /// Where a run ends, if not after a number of epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// The factor of half the sum of squared weights (never biases) that is added to the loss.
    pub l2: f64,
    /// Whether training samples are augmented, by the data set's recipe.
    pub augment: bool,
    /// Samples split off for validation; `None` means as many as the data set has it.
    pub valid_size: Option<usize>,
    /// Training samples used, of those left after the split; `None` means all.
    pub train_size: Option<usize>,
    /// A safetensors file whose parameters and buffers replace the drawn ones.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "stored_path_option")]
    pub weights: Option<PathBuf>,
    /// The network, from input to output.
    pub layers: Vec<LayerDefinition>,
    /// Where its name is written, for errors that are about the whole.
    #[serde(skip)]
    pub place: Place,
}

fn left_out() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_left_out(value: &bool) -> bool {
    *value
}

impl ProblemDefinition {
    /// The loss.
    ///
    /// # Errors
    /// [`Error::Usage`] where nobody has named one.
    pub fn loss(&self) -> Result<LossKind> {
        self.loss.ok_or_else(|| {
            Error::Usage(format!(
                "problem {} names no loss: say it by the key `loss=cross_entropy` (or mse, bce_with_logits), or in its file",
                self.name
            ))
        })
    }

    /// Whether predictions can be right or wrong; where they cannot, an accuracy is NaN.
    pub fn has_accuracy(&self) -> bool {
        self.targets == TargetsKind::Labels && self.loss != Some(LossKind::Mse)
    }
}

// The losses, what they compare with, and the reductions by name.

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

// How long a run trains: a number of epochs, or so many steps or seconds.

/// The end of a run that has no number of epochs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// So many steps, of which the last ones may be a part of an epoch.
    Steps(u64),
    /// The first step after so many seconds of training, evaluations aside. Numbers then depend on the machine.
    Seconds(f64),
}

/// What the key `epochs` says: a number of epochs, `{ steps = 5000 }` or `{ seconds = 600 }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Passes over the training samples.
    Epochs(usize),
    /// Something else.
    Limit(Limit),
}

impl Length {
    /// As a problem has it: the epochs, as far as they are known, and the limit.
    fn parts(self) -> (usize, Option<Limit>) {
        match self {
            Length::Epochs(epochs) => (epochs, None),
            Length::Limit(limit) => (0, Some(limit)),
        }
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            #[serde(default, deserialize_with = "read::size")]
            steps: Option<usize>,
            #[serde(default, deserialize_with = "read::above_0")]
            seconds: Option<f64>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an integer of at least 0, { steps = .. } or { seconds = .. }")
            }

            fn visit_i64<E: de::Error>(self, epochs: i64) -> Result<Length, E> {
                match epochs {
                    0..=MAX_SIZE => Ok(Length::Epochs(epochs as usize)),
                    ..0 => Err(E::custom(format!("expected {}", &self as &dyn serde::de::Expected))),
                    _ => Err(E::custom(format!("expected at most {MAX_SIZE}"))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Length, A::Error> {
                match Table::deserialize(MapAccessDeserializer::new(map))? {
                    Table { steps: Some(steps), seconds: None } => Ok(Length::Limit(Limit::Steps(steps as u64))),
                    Table { steps: None, seconds: Some(seconds) } => Ok(Length::Limit(Limit::Seconds(seconds))),
                    _ => Err(A::Error::custom("expected either `steps` or `seconds` in it")),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Steps(steps) => write!(f, "{steps} steps"),
            Limit::Seconds(seconds) => write!(f, "{seconds} s"),
        }
    }
}
