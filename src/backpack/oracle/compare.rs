//! What the oracle is asked for, what it answers with, and how far the extended backward pass is from it.

use rand::seq::index::sample;
use tch::{Device, Kind, Tensor};

use crate::backpack::layers::Mode;
use crate::backpack::quantities::Scale;
use crate::backpack::results::Quantities;
use crate::random::{Purpose, stream};

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

/// Which entries of a tensor are compared where every entry costs a derivative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// All of them.
    All,
    /// At most this many of each tensor, drawn without repetition.
    Drawn {
        /// How many.
        count: usize,
        /// The seed of the draw.
        seed: u64,
    },
}

impl Coordinates {
    /// The entries of a tensor of `size` entries that belongs to the parameter of this number, ascending; None is all.
    pub(super) fn pick(self, parameter: usize, size: i64, device: Device) -> Option<Tensor> {
        match self {
            Coordinates::Drawn { count, seed } if (count as i64) < size => {
                let mut generator = stream(seed, Purpose::Batch, 1000 + parameter as u64);
                let mut picked: Vec<i64> =
                    sample(&mut generator, size as usize, count).into_iter().map(|entry| entry as i64).collect();
                picked.sort_unstable();
                Some(Tensor::from_slice(&picked).to_device(device))
            }
            _ => None,
        }
    }
}

/// One tensor held against the oracle's.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The quantity's name.
    pub quantity: &'static str,
    /// The parameter, counted as in [`crate::backpack::Network::parameters`].
    pub parameter: usize,
    /// The factor's name; empty where there is only one.
    pub factor: &'static str,
    /// The largest difference over the largest entry (the variance: over the largest second moment); where all entries
    /// are zero but for rounding, over the largest of the quantity's at any parameter. Infinite where the quantity is
    /// missing or has another shape, not a number where either has such entries.
    pub error: f64,
    /// How many entries were compared.
    pub compared: usize,
}

/// The share of a quantity's largest entry below which others are zero but for rounding in double precision: a bias in
/// front of a normalisation that takes it away has a gradient that cancels to about 1e-17. What is linear in gradients,
/// and what adds up matrices or second derivatives before they cancel, is left with a few units in the last place; what
/// is made of squares of such is left with their squares.
fn rounding(quantity: &str) -> f64 {
    const LINEAR: [&str; 7] =
        ["grad", "batch_grad", "sqrt_ggn", "sqrt_ggn_mc", "diag_hessian", "batch_diag_hessian", "kfra"];
    if LINEAR.contains(&quantity) { 1e-13 } else { 1e-26 }
}

/// What an error of this tensor is measured against.
fn yardstick(one: &Expected, expected: &[Expected]) -> f64 {
    let alike = expected.iter().filter(|other| (other.quantity, other.factor) == (one.quantity, one.factor));
    let largest = alike.map(|other| other.yardstick).fold(0.0, f64::max);
    if one.yardstick < rounding(one.quantity) * largest { largest } else { one.yardstick }
}

/// Holds every tensor that the oracle has against the pass's.
pub fn compare(quantities: &Quantities, expected: &[Expected]) -> Vec<Comparison> {
    expected
        .iter()
        .map(|one| {
            let yardstick = yardstick(one, expected);
            let factor = |name: &str| quantities.find(one.quantity, one.parameter, name);
            let error = match (factor(one.factor), one.form) {
                (Some(tensor), Form::Same) if tensor.dim() as i64 > one.leading => {
                    let flat = tensor.to_kind(Kind::Double).flatten(one.leading, -1);
                    let entries = match &one.entries {
                        Some(entries) => flat.index_select(-1, entries),
                        None => flat,
                    };
                    against(&entries, &one.tensor, yardstick)
                }
                (Some(tensor), Form::Decomposed) => decomposed(tensor, one, yardstick),
                (Some(tensor), Form::SquaredInBasis) => match (factor("A"), factor("B")) {
                    (a, Some(b)) => squared_in_basis(tensor, one, yardstick, a, b),
                    _ => f64::INFINITY,
                },
                _ => f64::INFINITY,
            };
            let Expected { quantity, parameter, factor, .. } = *one;
            Comparison { quantity, parameter, factor, error, compared: one.tensor.numel() }
        })
        .collect()
}

/// max |a - b| / max |b|; where b is zero, max |a|; infinite where the shapes differ.
pub fn error_between(a: &Tensor, b: &Tensor) -> f64 {
    against(&a.to_kind(Kind::Double), b, largest(b))
}

/// How far `q`, `[(groups,) d, d]`, is from an orthogonal matrix of eigenvectors, in the order of rising eigenvalues, of
/// the matrix that the oracle has columns of: A[:, K] = Q L Q[K, :]^T, with the diagonal L that fits best.
fn decomposed(q: &Tensor, expected: &Expected, yardstick: f64) -> f64 {
    let q = q.to_kind(Kind::Double);
    let own = match &expected.entries {
        Some(entries) => q.index_select(-2, entries).transpose(-2, -1),
        None => q.transpose(-2, -1),
    };
    if own.size() != expected.tensor.size() {
        return f64::INFINITY;
    }
    let turned = q.transpose(-2, -1).matmul(&expected.tensor.to_kind(Kind::Double));
    // How much of each eigenvector is in the columns looked at: its eigenvalue is known as well as that.
    let seen = own.square().sum_dim_intlist(-1, true, None::<Kind>);
    let values = (&turned * &own).sum_dim_intlist(-1, true, None::<Kind>) / seen.clamp_min(f64::MIN_POSITIVE);
    let residual = largest(&(turned - &values * own));
    let count = q.size()[q.dim() - 1];
    let of = |tensor: &Tensor, from: i64| tensor.narrow(-2, from, count - 1);
    let falls = (of(&values, 0) - of(&values, 1)) * of(&seen, 0).minimum(&of(&seen, 1));
    let disorder = if count > 1 { f64::try_from(falls.max()).unwrap_or(f64::NAN).max(0.0) } else { 0.0 };
    let identity = Tensor::eye(count, (Kind::Double, q.device()));
    let skew = largest(&(q.transpose(-2, -1).matmul(&q) - identity));
    let scale = if yardstick > 0.0 { yardstick } else { 1.0 };
    // A NaN of the matrix is one of the residual.
    if residual.is_nan() { residual } else { skew.max(residual.max(disorder) / scale) }
}

/// How far a sum of squares is from that of the oracle's vectors or matrices in the basis of these factors.
fn squared_in_basis(found: &Tensor, expected: &Expected, yardstick: f64, a: Option<&Tensor>, b: &Tensor) -> f64 {
    let grouped = |matrix: &Tensor| {
        let matrix = matrix.to_kind(Kind::Double);
        if matrix.dim() == 2 { matrix.unsqueeze(0) } else { matrix }
    };
    let all = expected.tensor.to_kind(Kind::Double);
    let turned = grouped(b).transpose(-2, -1);
    let turned = match (all.dim(), a) {
        (4, Some(a)) => turned.matmul(&all).matmul(&grouped(a)),
        (3, _) => turned.matmul(&all.unsqueeze(-1)).squeeze_dim(-1),
        _ => return f64::INFINITY,
    };
    let sum = turned.square().sum_dim_intlist(0, false, None::<Kind>).flatten(0, 1);
    against(&found.to_kind(Kind::Double), &sum, yardstick)
}

fn against(a: &Tensor, b: &Tensor, yardstick: f64) -> f64 {
    if a.size() != b.size() {
        return f64::INFINITY;
    }
    let difference = largest(&(a - b.to_kind(Kind::Double)));
    if yardstick > 0.0 { difference / yardstick } else { difference }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_is_drawn_twice_and_small_tensors_are_looked_at_whole() {
        let drawn = Coordinates::Drawn { count: 64, seed: 1 };
        let mut picked = Vec::<i64>::try_from(drawn.pick(0, 100, Device::Cpu).unwrap()).unwrap();
        picked.dedup();
        assert_eq!(picked.len(), 64);
        assert!(picked.iter().all(|entry| (0..100).contains(entry)));
        assert!(drawn.pick(0, 64, Device::Cpu).is_none());
        assert_ne!(picked, Vec::<i64>::try_from(drawn.pick(1, 100, Device::Cpu).unwrap()).unwrap());
    }
}
