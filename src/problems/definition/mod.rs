//! What a problem is: data, network, loss and defaults, as a problem file describes them.

mod built_in;
mod graph;
mod init;
mod keys;
mod layer;
mod load;
mod loss;
mod read_layer;
mod render;
mod summary;

pub use built_in::{built_in, built_in_names};
pub use init::{INITS_WITH_NUMBER, PLAIN_INITS};
pub use keys::{PROBLEM_KEYS, ProblemKeys};
pub use layer::LayerDefinition;
pub use load::{load, load_item, parse};
pub(crate) use load::{load_named, read_name};
pub use loss::{LossKind, REDUCTIONS};

use serde::{Deserialize, Serialize};

use super::data::DataSource;
use crate::backpack::losses::Reduction;
use crate::config::Place;

/// A problem with every value decided: what its file says, or the default, or what overrides them.
///
/// Two definitions are equal if they say the same, wherever it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemDefinition {
    /// The name of its result folder and its rows.
    pub name: String,
    /// The data set.
    pub dataset: DataSource,
    /// The loss.
    pub loss: LossKind,
    /// How the samples' losses make up that of a batch.
    pub reduction: Reduction,
    /// Samples in a mini-batch, of training and of evaluation.
    pub batch_size: usize,
    /// Passes over the training samples.
    pub epochs: usize,
    /// The factor of half the sum of squared weights (never biases) that is added to the loss.
    pub l2: f64,
    /// Whether training samples are augmented, by the data set's recipe.
    pub augment: bool,
    /// Samples split off for validation; `None` means as many as the data set has it.
    pub valid_size: Option<usize>,
    /// Training samples used, of those left after the split; `None` means all.
    pub train_size: Option<usize>,
    /// The network, from input to output.
    pub layers: Vec<LayerDefinition>,
    /// Where its name is written, for errors that are about the whole.
    #[serde(skip)]
    pub place: Place,
}
