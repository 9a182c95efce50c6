//! What the oracle is asked for, and what it answers with.

use tch::{Kind, Tensor};

use super::coordinates::Coordinates;
use crate::backpack::layers::Mode;
use crate::backpack::quantities::Scale;

/// How the oracle differentiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One graph of the whole batch. Everything but `batch_diag_hessian`.
    WholeBatch,
    /// Every sample alone, the results added up.
    Samples,
}

/// What the oracle is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The names of the quantities.
    pub quantities: &'a [&'a str],
    /// How it differentiates.
    pub way: Way,
    /// How the forward pass is made.
    pub mode: Mode,
    /// The normalisation of first-order statistics.
    pub scale: Scale,
    /// The labels of the sampled quantities, `[M, N]` or `[M, N, D]`.
    pub labels: Option<&'a Tensor>,
    /// Which entries are looked at, of what takes a derivative an entry.
    pub coordinates: Coordinates,
    /// The largest matrix of KFRA's recursion in bytes; layers that need a larger one are left out.
    pub kfra_bytes: u64,
}

impl Question<'_> {
    /// All entries of every quantity named, by this way, in evaluation mode with BackPACK's scale.
    pub fn new<'a>(quantities: &'a [&'a str], way: Way) -> Question<'a> {
        Question {
            quantities,
            way,
            mode: Mode::Evaluation,
            scale: Scale::Backpack,
            labels: None,
            coordinates: Coordinates::All,
            kfra_bytes: u64::MAX,
        }
    }

    pub(super) fn asks(&self, names: &[&str]) -> bool {
        self.quantities.iter().any(|name| names.contains(name))
    }
}

/// One tensor as the oracle has it.
#[derive(Debug)]
pub struct Expected {
    /// The quantity's name.
    pub quantity: &'static str,
    /// The parameter, counted as in [`Network::parameters`](crate::backpack::Network::parameters).
    pub parameter: usize,
    /// The factor's name; empty where there is only one.
    pub factor: &'static str,
    /// The entries looked at: the quantity with its axes from `leading` on flattened to one, of which `entries` are
    /// taken.
    pub tensor: Tensor,
    /// The number of axes that are kept.
    pub leading: i64,
    /// Which entries of the flattened last axis; None is all.
    pub entries: Option<Tensor>,
    /// What an error is measured against: the tensor's largest absolute entry, except for the variance, which is a
    /// difference of second moments and is measured against the largest of those.
    pub yardstick: f64,
    /// What the tensor says of the quantity's.
    pub form: Form,
}

/// What the oracle's tensor says of a quantity's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It is the same.
    Same,
    /// It is a symmetric matrix of which the quantity's has the eigenvectors, in the order of rising eigenvalues; signs,
    /// and bases of what has equal eigenvalues, are free.
    Decomposed,
    /// It holds vectors or matrices `[K, groups, out(, d)]`, of whose squared entries in the basis of the quantity's
    /// factors B (and A) the quantity's is the sum.
    SquaredInBasis,
}

impl Expected {
    /// A quantity looked at as a whole.
    pub(super) fn whole(quantity: &'static str, parameter: usize, factor: &'static str, tensor: Tensor) -> Self {
        Expected { factor, ..Self::entries(quantity, parameter, tensor.flatten(0, -1), 0, None) }
    }

    /// Entries of a quantity.
    pub(super) fn entries(
        quantity: &'static str,
        parameter: usize,
        tensor: Tensor,
        leading: i64,
        entries: Option<Tensor>,
    ) -> Self {
        let yardstick = largest(&tensor);
        Expected { quantity, parameter, factor: "", tensor, leading, entries, yardstick, form: Form::Same }
    }
}

/// A batch whose one row is this sample by itself. Dropout's mask is that of a place in a batch, so that in training
/// the batch is of copies of the sample, and the row is its own.
pub(super) fn alone_among(input: &Tensor, sample: i64, mode: Mode) -> (Tensor, i64) {
    let alone = input.narrow(0, sample, 1);
    match mode {
        Mode::Evaluation => (alone, 0),
        Mode::Training { .. } => (alone.expand_as(input).contiguous(), sample),
    }
}

pub(super) fn largest(tensor: &Tensor) -> f64 {
    if tensor.numel() == 0 { 0.0 } else { tensor.abs().max().to_kind(Kind::Double).double_value(&[]) }
}
