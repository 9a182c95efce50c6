//! Quantities of a batch, or of many samples part by part, as named tensors: what `extract` writes, for a network, a loss and
//! samples at hand.

mod batch;
mod choose;
mod parts;
mod sums;

use std::collections::BTreeMap;
use std::ops::Range;

use tch::Tensor;

use crate::backpack::layers::Mode;
use crate::backpack::quantities::Scale;

pub use batch::{Batch, LABELS};
pub use parts::{extract, extract_parts};
pub use sums::Sums;

/// The version of the names, shapes and metadata of [`Extraction`].
pub const SCHEMA_VERSION: u32 = 1;

/// What is to be extracted, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names of quantities; one that cannot be had is an error.
    pub explicit: Vec<String>,
    /// Whether Table 1's and the gradient are wanted beside them, as far as layers and memory allow.
    pub table_1: bool,
    /// The normalisation.
    pub scale: Scale,
    /// The mode of the forward pass.
    pub mode: Mode,
    /// How many labels are drawn for each sample where none are given.
    pub mc_samples: i64,
    /// The seed of their draws.
    pub mc_seed: u64,
    /// How many bytes the pass may take.
    pub memory_budget: u64,
}

impl Default for Settings {
    /// Nothing as yet, in evaluation mode and BackPACK's scale, one label a sample by seed 0, within 1 GiB.
    fn default() -> Self {
        Settings {
            explicit: Vec::new(),
            table_1: false,
            scale: Scale::Backpack,
            mode: Mode::Evaluation,
            mc_samples: 1,
            mc_seed: 0,
            memory_budget: 1 << 30,
        }
    }
}

/// How samples are cut into parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The samples of the whole.
    pub samples: i64,
    /// Those that are to be worked through.
    pub range: Range<i64>,
    /// So many at a time.
    pub size: i64,
    /// Tells problem, parameters and samples apart from others, so that only parts of one whole are put together.
    pub identity: String,
}

impl Parts {
    /// All of a batch at once.
    pub fn one(samples: i64) -> Self {
        Parts { samples, range: 0..samples, size: samples.max(1), identity: String::new() }
    }

    /// Whether this is all of them, if not at once.
    pub fn is_whole(&self) -> bool {
        self.range == (0..self.samples)
    }

    /// Whether this is all of them at once.
    pub fn is_one(&self) -> bool {
        self.is_whole() && self.size >= self.samples
    }
}

/// A tensor of a quantity, or of a product.
#[derive(Debug)]
pub struct Taken {
    /// The quantity, `variance`, or the product, `ggn_product`.
    pub quantity: String,
    /// The parameter's full name.
    pub parameter: String,
    /// The factor's name; empty where there is only one.
    pub factor: String,
    /// The tensor.
    pub tensor: Tensor,
}

/// What an extraction gives, with what is to be known of it.
#[derive(Debug)]
pub struct Extraction {
    /// The loss, without dimensions and without any regulariser.
    pub loss: Tensor,
    /// The network's output, `[N, *out]`.
    pub output: Tensor,
    /// The labels that sampled quantities and the sampled product used.
    pub labels: Option<Tensor>,
    /// Quantities and products.
    pub taken: Vec<Taken>,
    /// schema_version, scale, reduction, mc_samples, mc_seed, dtype, skipped (names, comma-separated) and
    /// skipped_reasons (a JSON object).
    pub metadata: BTreeMap<String, String>,
    /// What was left out, and why: quantities of Table 1, and QUANTITY.LAYER.PARAMETER where only a parameter's is missing.
    pub skipped: Vec<(String, String)>,
}

impl Extraction {
    /// All tensors as a file names them: `loss`, `output`, QUANTITY.LAYER.PARAMETER, with factors
    /// QUANTITY.LAYER.PARAMETER.FACTOR, and [`LABELS`].
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let mut tensors =
            vec![("loss".to_owned(), self.loss.shallow_clone()), ("output".to_owned(), self.output.shallow_clone())];
        tensors.extend(self.taken.iter().map(|Taken { quantity, parameter, factor, tensor }| {
            let dot = if factor.is_empty() { "" } else { "." };
            (format!("{quantity}.{parameter}{dot}{factor}"), tensor.shallow_clone())
        }));
        tensors.extend(self.labels.iter().map(|labels| (LABELS.to_owned(), labels.shallow_clone())));
        tensors
    }
}
