//! The Kronecker factors of a weight that several positions share, in the readings that there are of them, and the
//! eigenvalues of EKFAC: all of it from a layer's rows and vectors by position, whatever the layer is.
//!
//! With N samples, T positions, rows x_nt and vectors s_vnt (the 1/N of a mean loss in them):
//!
//! ```text
//! backpack  A = sum_nt x_nt x_nt^T / N         B = sum_vn (sum_t s_vnt) (sum_t s_vnt)^T
//! expand    A = sum_nt x_nt x_nt^T / (N T)     B = sum_vnt s_vnt s_vnt^T
//! reduce    A = sum_n (mean_t x_nt) (..)^T / N  B as in backpack
//! ```
//!
//! `expand` and `reduce` are those of Eschenhagen et al. (2023); the first one is Grosse and Martens' (2016) for
//! convolutions. [`eigenvalues`] are those of George et al. (2018).

use tch::{Kind, Tensor};

use super::affine::Rows;
use super::{Layer, Saved, second_moment};
use crate::error::Result;

/// How many bytes of rows are held at a time where they are summed over.
const ROW_BYTES: i64 = 64 << 20;

/// What a layer does in the Kronecker-factored quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KroneckerSupport {
    /// It has no parameters and only passes vectors on.
    Passes,
    /// Its weight has the factors `[B, A]`, its bias `[B]`.
    Factors,
    /// It has parameters but no such factors; the reason.
    Refuses(&'static str),
}

/// How the factors treat the positions that share a weight. With a single position there is no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// BackPACK's: positions are summed in A and in B.
    Backpack,
    /// Each position counts as a sample.
    Expand,
    /// A sample's positions are averaged in A and summed in B.
    Reduce,
}

impl Reading {
    /// All of them.
    pub const ALL: [Reading; 3] = [Reading::Backpack, Reading::Expand, Reading::Reduce];
}

/// Eigenvectors of a layer's factors, by columns: `[d, d]` and `[out, out]`, or `[groups, d, d]` each.
#[derive(Debug)]
pub struct Basis {
    /// Those of A.
    pub a: Tensor,
    /// Those of B.
    pub b: Tensor,
}

impl Basis {
    /// The eigenvectors of these factors, in the order of rising eigenvalues; NaN where a factor holds what is no number.
    ///
    /// # Errors
    /// What libtorch says when the decomposition does not converge.
    pub fn of(a: &Tensor, b: &Tensor) -> Result<Self> {
        Ok(Basis { a: eigenvectors(a)?, b: eigenvectors(b)? })
    }
}

fn eigenvectors(factor: &Tensor) -> Result<Tensor> {
    if i64::try_from(factor.isfinite().all().to_kind(Kind::Int64))? == 0 {
        return Ok(factor.full_like(f64::NAN));
    }
    Ok(factor.f_linalg_eigh("L")?.1)
}

/// The number T of positions that share the weight of a layer with Kronecker factors.
pub(crate) fn positions(layer: &dyn Layer, saved: &Saved) -> i64 {
    let matrix = layer.kronecker_matrix(&layer.parameters()[0].value).size();
    let outputs: i64 = matrix[..matrix.len() - 1].iter().product();
    saved.output.numel() as i64 / (saved.samples() * outputs).max(1)
}

/// The rows whose second moment the input factor of this reading is, `[M, d]`, where they take less than the factor
/// itself; it is divided by N for BackPACK's, else by M.
pub(crate) fn input_rows(layer: &dyn Layer, saved: &Saved, reading: Reading) -> Result<Option<Tensor>> {
    if reading != Reading::Reduce || positions(layer, saved) == 1 {
        return Ok(layer.input_rows(saved));
    }
    let mean = layer.mean_rows(saved)?;
    Ok((mean.size()[1] == 1).then(|| mean.squeeze_dim(1)))
}

/// The input factor A of a reading, `[d, d]` or `[groups, d, d]`, where BackPACK's is not at hand.
pub(crate) fn input_factor(layer: &dyn Layer, saved: &Saved, reading: Reading) -> Result<Tensor> {
    let samples = saved.samples() as f64;
    match reading {
        Reading::Backpack => match layer.input_rows(saved) {
            Some(rows) => second_moment(&rows, 1.0 / samples),
            None => Ok(layer.input_factor(saved)?.f_div_scalar_(samples)?),
        },
        // By way of BackPACK's, whose digits do not depend on whether it was asked for too.
        Reading::Expand => expanded(layer, saved, &input_factor(layer, saved, Reading::Backpack)?),
        Reading::Reduce if positions(layer, saved) == 1 => input_factor(layer, saved, Reading::Backpack),
        Reading::Reduce => {
            let mean = layer.mean_rows(saved)?;
            Ok(ungrouped(second_moment(&mean.transpose(0, 1), 1.0 / samples)?))
        }
    }
}

/// The input factor of [`Reading::Expand`] from BackPACK's.
pub(crate) fn expanded(layer: &dyn Layer, saved: &Saved, backpack: &Tensor) -> Result<Tensor> {
    Ok(match positions(layer, saved) {
        1 => backpack.shallow_clone(),
        positions => backpack.f_div_scalar(positions as f64)?,
    })
}

/// The output factor B of a reading for vectors `v`, `[V, N, *out]`: `[out, out]` or `[groups, d, d]`.
pub(crate) fn output_factor(layer: &dyn Layer, saved: &Saved, v: &Tensor, reading: Reading) -> Result<Tensor> {
    if reading != Reading::Expand || positions(layer, saved) == 1 {
        return layer.output_factor(saved, v);
    }
    let shared = layer.shared_vectors(v)?;
    let (groups, outputs) = (shared.size()[2], shared.size()[3]);
    let rows = shared.permute([2, 0, 1, 4, 3]).reshape([groups, -1, outputs]);
    if groups == 1 {
        return second_moment(&rows.squeeze_dim(0), 1.0);
    }
    second_moment(&rows, 1.0)
}

/// EKFAC's eigenvalues of a weight (parameter 0) or a bias: the sum over vectors and samples of the squared entries of
/// each one's gradient in the basis, `[out, d]` or `[out]`; `v` are the vectors, `[V, N, *out]`.
pub(crate) fn eigenvalues(
    layer: &dyn Layer,
    saved: &Saved,
    parameter: usize,
    v: &Tensor,
    basis: &Basis,
) -> Result<Tensor> {
    let shared = layer.shared_vectors(v)?;
    let (a, b) = (grouped(&basis.a), grouped(&basis.b));
    let (groups, outputs, positions) = (shared.size()[2], shared.size()[3], shared.size()[4]);
    if parameter > 0 {
        let sums = shared.sum_dim_intlist(-1, false, None::<Kind>);
        let turned = sums.permute([2, 0, 1, 3]).reshape([groups, -1, outputs]).f_matmul(&b)?;
        return Ok(turned.square().sum_dim_intlist(1, false, None::<Kind>).view([groups * outputs]));
    }
    let features = a.size()[1];
    let bytes = groups * features * positions * v.kind().elt_size_in_bytes() as i64;
    let (samples, mut start) = (saved.samples(), 0);
    let step = (ROW_BYTES / bytes.max(1)).clamp(1, samples.max(1));
    let sum = Tensor::zeros([groups, outputs, features], (v.kind(), v.device()));
    while start < samples {
        let length = step.min(samples - start);
        let rows = Rows(layer.shared_rows(&saved.narrow(start, length))?);
        let _ = sum.shallow_clone().g_add_(&rows.squares_sum_in(&shared.narrow(1, start, length), &a, &b)?);
        start += length;
    }
    Ok(sum.view([groups * outputs, features]))
}

/// `[d, d]` as `[1, d, d]`.
fn grouped(matrix: &Tensor) -> Tensor {
    if matrix.dim() == 2 { matrix.unsqueeze(0) } else { matrix.shallow_clone() }
}

/// `[1, d, d]` as `[d, d]`.
fn ungrouped(matrix: Tensor) -> Tensor {
    if matrix.size()[0] == 1 { matrix.squeeze_dim(0) } else { matrix }
}
