//! How far the extended backward pass is from the oracle.

use tch::{Kind, Tensor};

use super::question::{Expected, Form, largest};
use crate::backpack::results::Quantities;

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
