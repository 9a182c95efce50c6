//! The Kronecker factors of a weight that several positions share, in the readings that there are of them, and the
//! eigenvalues of EKFAC: all of it from a weight's rows and vectors by position, whatever the layer is.
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
//! convolutions. [`BatchFactors::eigenvalues`] are those of George et al. (2018).

use tch::{Kind, Tensor};

use super::affine::Rows;
use super::{FactoredSite, Layer, OrderedRows, Saved, second_moment};
use crate::backpack::eigen::decompose;
use crate::backpack::native::product::matmul;
use crate::error::{Error, Result};

/// How many bytes of rows are held at a time where they are summed over.
const ROW_BYTES: i64 = 64 << 20;

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
    /// Those of A; `[0, 0]` where the weight has none, being an earlier layer's, and B is the bias's alone.
    pub a: Tensor,
    /// Those of B.
    pub b: Tensor,
}

impl Basis {
    /// The eigenvectors of these factors, in the order of rising eigenvalues; NaN where a factor holds what is no number.
    ///
    /// # Errors
    /// [`Error::Torch`] where libtorch cannot decompose a factor.
    pub fn of(a: Option<&Tensor>, b: &Tensor) -> Result<Self> {
        let a = a.map_or_else(|| Ok(b.f_narrow(0, 0, 0)?.f_narrow(-1, 0, 0)?), eigenvectors)?;
        Ok(Basis { a, b: eigenvectors(b)? })
    }
}

fn eigenvectors(factor: &Tensor) -> Result<Tensor> {
    Ok(decompose(factor)?.map_or_else(|| factor.full_like(f64::NAN), |(_, vectors)| vectors))
}

/// A layer's Kronecker factors at a batch, in all readings.
pub(crate) struct BatchFactors<'a> {
    site: &'a dyn FactoredSite,
    weight: &'a Tensor,
    saved: &'a Saved,
    kind: &'static str,
}

impl<'a> BatchFactors<'a> {
    /// Those of a layer, at what it saved of the batch.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it has none.
    pub fn of(layer: &'a dyn Layer, saved: &'a Saved) -> Result<Self> {
        match layer.factored() {
            Some(site) => Ok(BatchFactors { site, weight: &layer.parameters()[0].value, saved, kind: layer.kind() }),
            None => Err(Error::Unsupported(format!("{} has no Kronecker factors", layer.kind()))),
        }
    }

    /// The number T of positions that share the weight.
    fn positions(&self) -> i64 {
        let matrix = self.site.matrix(self.weight).size();
        let outputs: i64 = matrix[..matrix.len() - 1].iter().product();
        self.saved.output.numel() as i64 / (self.saved.samples() * outputs).max(1)
    }

    fn ordered_rows(&self) -> Result<&dyn OrderedRows> {
        self.site
            .ordered_rows()
            .ok_or_else(|| Error::Unsupported(format!("{} has the factors of kfac and kflr alone", self.kind)))
    }

    /// The rows whose second moment the input factor of this reading is, `[M, d]`, where they take less than the factor
    /// itself; it is divided by N for BackPACK's, else by M.
    pub fn rows(&self, reading: Reading) -> Result<Option<Tensor>> {
        if reading != Reading::Reduce || self.positions() == 1 {
            return Ok(self.site.flat_rows(self.saved));
        }
        let mean = self.ordered_rows()?.mean(self.saved)?;
        Ok((mean.size()[1] == 1).then(|| mean.squeeze_dim(1)))
    }

    /// The input factor A of a reading, `[d, d]` or `[groups, d, d]`, where BackPACK's is not at hand.
    pub fn input(&self, reading: Reading) -> Result<Tensor> {
        let samples = self.saved.samples() as f64;
        match reading {
            Reading::Backpack => match self.site.flat_rows(self.saved) {
                Some(rows) => second_moment(&rows, 1.0 / samples),
                None => Ok(self.site.input_factor(self.saved)?.f_div_scalar_(samples)?),
            },
            // By way of BackPACK's, whose digits do not depend on whether it was asked for too.
            Reading::Expand => self.expanded(&self.input(Reading::Backpack)?),
            Reading::Reduce if self.positions() == 1 => self.input(Reading::Backpack),
            Reading::Reduce => {
                let mean = self.ordered_rows()?.mean(self.saved)?;
                Ok(ungrouped(second_moment(&mean.transpose(0, 1), 1.0 / samples)?))
            }
        }
    }

    /// The input factor of [`Reading::Expand`] from BackPACK's.
    pub fn expanded(&self, backpack: &Tensor) -> Result<Tensor> {
        Ok(match self.positions() {
            1 => backpack.shallow_clone(),
            positions => backpack.f_div_scalar(positions as f64)?,
        })
    }

    /// The output factor B of a reading for vectors `v`, `[V, N, *out]`: `[out, out]` or `[groups, d, d]`.
    pub fn output(&self, v: &Tensor, reading: Reading) -> Result<Tensor> {
        if reading != Reading::Expand || self.positions() == 1 {
            return self.site.output_factor(self.saved, v);
        }
        let shared = self.site.vectors(self.saved, v)?;
        let (groups, outputs) = (shared.size()[2], shared.size()[3]);
        let rows = shared.permute([2, 0, 1, 4, 3]).reshape([groups, -1, outputs]);
        if groups == 1 {
            return second_moment(&rows.squeeze_dim(0), 1.0);
        }
        second_moment(&rows, 1.0)
    }

    /// EKFAC's eigenvalues of the weight (parameter 0) or the bias: the sum over vectors and samples of the squared entries
    /// of each one's gradient in the basis, `[out, d]` or `[out]`; `v` are the vectors, `[V, N, *out]`.
    pub fn eigenvalues(&self, parameter: usize, v: &Tensor, basis: &Basis) -> Result<Tensor> {
        let shared = self.site.vectors(self.saved, v)?;
        let (a, b) = (grouped(&basis.a), grouped(&basis.b));
        let (groups, outputs, positions) = (shared.size()[2], shared.size()[3], shared.size()[4]);
        if parameter > 0 {
            let sums = shared.sum_dim_intlist(-1, false, None::<Kind>);
            let turned = matmul(&sums.permute([2, 0, 1, 3]).reshape([groups, -1, outputs]), &b)?;
            return Ok(turned.square().sum_dim_intlist(1, false, None::<Kind>).view([groups * outputs]));
        }
        let ordered = self.ordered_rows()?;
        let features = a.size()[1];
        let bytes = groups * features * positions * v.kind().elt_size_in_bytes() as i64;
        let (samples, mut start) = (self.saved.samples(), 0);
        let step = (ROW_BYTES / bytes.max(1)).clamp(1, samples.max(1));
        let sum = Tensor::zeros([groups, outputs, features], (v.kind(), v.device()));
        while start < samples {
            let length = step.min(samples - start);
            let rows = Rows(ordered.ordered(&self.saved.narrow(start, length))?);
            let _ = sum.shallow_clone().g_add_(&rows.squares_sum_in(&shared.narrow(1, start, length), &a, &b)?);
            start += length;
        }
        Ok(sum.view([groups * outputs, features]))
    }
}

/// `[d, d]` as `[1, d, d]`.
fn grouped(matrix: &Tensor) -> Tensor {
    if matrix.dim() == 2 { matrix.unsqueeze(0) } else { matrix.shallow_clone() }
}

/// `[1, d, d]` as `[d, d]`.
fn ungrouped(matrix: Tensor) -> Tensor {
    if matrix.size()[0] == 1 { matrix.squeeze_dim(0) } else { matrix }
}
