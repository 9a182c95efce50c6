//! What a problem is: data, network, loss and defaults, as a problem file describes them.

mod built_in;
mod graph;
mod keys;
mod layer;
mod length;
mod load;
mod loss;
mod read_layer;
mod render;
mod summary;

pub use built_in::built_in_names;
pub(crate) use built_in::{BUILT_IN, NamedProblem, replace};
pub use keys::{ProblemKeys, parse_set, problem_keys};
pub use layer::LayerDefinition;
pub use length::{Length, Limit};
pub(crate) use load::load_named;
pub use load::{built_in, load, load_item, parse};
pub use loss::{LossKind, REDUCTIONS, TargetsKind};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::data::DataSource;
use crate::backpack::losses::Reduction;
use crate::config::Place;
use crate::error::{Error, Result};
use crate::files::stored_path_option;

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
