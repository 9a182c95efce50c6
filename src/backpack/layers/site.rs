//! Sites: how a parameter meets the input of its layer. What quantities take of a parameter is written once for each way:
//! for weights that multiply rows of the input in `affine.rs` and `kronecker.rs`, for scales and shifts here,
//! for all others on their products in `taken.rs`.

use std::fmt;

use tch::{Kind, Tensor};

use super::{Saved, second_moment};
use crate::error::Result;

/// Why a bias has no factors of its own.
pub(super) const OF_WEIGHT: &str = "a bias has the output factor of its weight";

/// How a parameter meets the input of its layer.
#[derive(Clone, Copy)]
pub enum ParameterSite<'a> {
    /// It multiplies rows of the input at positions that do not depend on each other: it has Kronecker factors.
    Factored(&'a dyn FactoredSite),
    /// It multiplies rows, and has no Kronecker factors for this reason.
    Affine(&'a dyn AffineSite, &'static str),
    /// Its entries each multiply entries of a sample, or are added to them; why it has no Kronecker factors.
    Entrywise(&'a dyn EntrywiseSite, &'static str),
    /// Only its products are known, [`parameter_vjp`](super::Layer::parameter_vjp) and
    /// [`parameter_jvp`](super::Layer::parameter_jvp); why it has no Kronecker factors.
    Products(&'static str),
}

impl fmt::Debug for ParameterSite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParameterSite::Factored(_) => "Factored",
            ParameterSite::Affine(..) => "Affine",
            ParameterSite::Entrywise(..) => "Entrywise",
            ParameterSite::Products(_) => "Products",
        })
    }
}

/// A weight that multiplies rows of the input, or of what is made of it, at `T` positions.
///
/// For one vector and one sample its product is `v x^T`, with the rows `x` and the vectors `v` as columns, position by
/// position; in `G` groups that do not mix, of `d` features and `o` outputs each.
pub trait AffineSite {
    /// The rows that a parameter meets: `[N, G, d, T]`, with d in whatever order [`Self::as_weight`] knows.
    fn rows(&self, saved: &Saved, parameter: usize) -> Result<Tensor>;

    /// Vectors at the output, `[V, N, *out]`, as they reach the positions: `[V, N, G, o, T]`.
    fn vectors(&self, saved: &Saved, v: &Tensor) -> Result<Tensor>;

    /// `[*leading, G, o, d]` as the weight lies: `[*leading, *p]`.
    fn as_weight(&self, parameter: usize, products: &Tensor, leading: &[i64]) -> Tensor;

    /// Rows `[N, d]` and vectors `[V, N, o]` of the only position, where there is one and no groups, and both are at hand.
    fn single_position(&self, _saved: &Saved, _v: &Tensor) -> Option<(Tensor, Tensor)> {
        None
    }

    /// How many bytes the rows of one sample take where [`Self::rows`] makes them; 0 where they are a view of what there is.
    fn made_bytes(&self, _saved: &Saved) -> i64 {
        0
    }
}

/// An affine site with Kronecker factors: the layer's first parameter.
pub trait FactoredSite: AffineSite {
    /// A tensor shaped like the weight as the matrix whose rows and columns the factors B and A belong to: `[o, d]`, or
    /// `[G, o, d]`.
    fn matrix(&self, weight: &Tensor) -> Tensor;

    /// The inverse of [`Self::matrix`].
    fn weight_of(&self, matrix: &Tensor) -> Tensor;

    /// The sum over samples and positions of the outer products of the rows, d as in [`Self::matrix`]: `[d, d]`, or
    /// `[G, d, d]`. Divided by N it is BackPACK's A.
    fn input_factor(&self, saved: &Saved) -> Result<Tensor>;

    /// The rows whose second moment [`Self::input_factor`] is, `[M, d]`, where they are at hand without a computation:
    /// a running mean of A is then made of them, without A itself.
    fn flat_rows(&self, _saved: &Saved) -> Option<Tensor> {
        None
    }

    /// B for vectors `v`, `[V, N, *out]`: the sum over `V` and `N` of the outer products of `v` summed over positions:
    /// `[o, o]`, or `[G, o, o]`. It is also the bias's exact block.
    fn output_factor(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let sums = self.vectors(saved, v)?.sum_dim_intlist(-1, false, None::<Kind>);
        let (groups, outputs) = (sums.size()[2], sums.size()[3]);
        if groups == 1 {
            return second_moment(&sums.reshape([-1, outputs]), 1.0);
        }
        second_moment(&sums.permute([2, 0, 1, 3]).reshape([groups, -1, outputs]), 1.0)
    }

    /// The rows with d as in [`Self::matrix`], `[N, G, d, T]`, of which the readings other than BackPACK's and EKFAC are
    /// made; None where those are not defined.
    fn ordered_rows(&self) -> Option<&dyn OrderedRows>;

    /// The number of output channels, where the output factors need nothing but sums over positions and are given them
    /// as well: [`Self::output_factor`] vectors `[V, N, channels, 1]`, [`Self::averaged_output_factor`] the matrix summed
    /// on both sides, `[channels, channels]`. None where they need all.
    fn position_sums(&self) -> Option<i64> {
        None
    }

    /// KFRA's B from the batch-averaged GGN with respect to the output, `[out, out]` with the output flattened.
    fn averaged_output_factor(&self, g: &Tensor) -> Result<Tensor>;
}

/// Rows in the order of the weight's columns.
pub trait OrderedRows {
    /// What the weight meets at each position, `[N, G, d, T]`.
    fn ordered(&self, saved: &Saved) -> Result<Tensor>;

    /// The mean over positions, `[N, G, d]`.
    fn mean(&self, saved: &Saved) -> Result<Tensor> {
        Ok(self.ordered(saved)?.f_mean_dim([-1i64].as_slice(), false, None::<Kind>)?)
    }
}

/// What a layer does in the Kronecker-factored quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KroneckerSupport {
    /// It has no parameters and only passes vectors on.
    Passes,
    /// Its weight has the factors `[B, A]`, its bias `[B]`.
    Factors,
    /// It has parameters but no such factors; the reason.
    Refuses(&'static str),
}

// What quantities take of a parameter that multiplies, or is added to, entries of a sample by themselves: scales and
// shifts of norms, gains, biases, position embeddings.

/// A parameter whose entries each multiply entries of what a layer makes of a sample, or are added to them.
pub trait EntrywiseSite {
    /// What the parameter multiplies, `[N, *out]`; None where it is added.
    fn factor(&self, _saved: &Saved, _parameter: usize) -> Option<Tensor> {
        None
    }

    /// `[K, N, *out]` summed over the entries that share one of the parameter's: `[K, N, *p]`.
    fn gather(&self, parameter: usize, v: &Tensor) -> Result<Tensor>;

    /// Directions `[V, *p]` as they broadcast to `[V, N, *out]`.
    fn spread(&self, saved: &Saved, parameter: usize, directions: &Tensor) -> Result<Tensor>;

    /// Whether each of the parameter's entries meets one entry of a sample alone, so that squares need no product first.
    fn is_apart(&self, _parameter: usize) -> bool {
        false
    }
}

/// The parameter's product for every vector and sample: `[V, N, *out]` to `[V, N, *p]`.
pub(super) fn entrywise_products(
    site: &dyn EntrywiseSite,
    saved: &Saved,
    parameter: usize,
    v: &Tensor,
) -> Result<Tensor> {
    match site.factor(saved, parameter) {
        Some(factor) => site.gather(parameter, &v.f_mul(&factor)?),
        None => site.gather(parameter, v),
    }
}

/// The same summed over samples: `[V, *p]`.
pub(super) fn entrywise_products_sum(
    site: &dyn EntrywiseSite,
    saved: &Saved,
    parameter: usize,
    v: &Tensor,
) -> Result<Tensor> {
    match site.factor(saved, parameter) {
        Some(factor) => Ok(site.gather(parameter, &v.f_mul(&factor)?)?.f_sum_dim_intlist(1, false, None::<Kind>)?),
        // What is added is summed over samples before anything is gathered.
        None => Ok(site.gather(parameter, &v.f_sum_dim_intlist(1, true, None::<Kind>)?)?.squeeze_dim(1)),
    }
}

/// How the output moves along directions `[V, *p]`: `[V, N, *out]`.
pub(super) fn entrywise_moved(
    site: &dyn EntrywiseSite,
    saved: &Saved,
    parameter: usize,
    directions: &Tensor,
) -> Result<Tensor> {
    let spread = site.spread(saved, parameter, directions)?;
    match site.factor(saved, parameter) {
        Some(factor) => Ok(spread.f_mul(&factor)?),
        None => {
            let shape = [&directions.size()[..1], saved.output.size().as_slice()].concat();
            Ok(spread.f_expand(shape.as_slice(), false)?)
        }
    }
}

/// The sum over vectors of the squared products, each times its sign: `[N, *p]`.
pub(super) fn entrywise_squares(
    site: &dyn EntrywiseSite,
    saved: &Saved,
    parameter: usize,
    v: &Tensor,
    signs: Option<&Tensor>,
) -> Result<Tensor> {
    if !site.is_apart(parameter) {
        return Ok(signed_squares(&entrywise_products(site, saved, parameter, v)?, signs));
    }
    let squares = signed_squares(v, signs);
    let squares = match site.factor(saved, parameter) {
        Some(factor) => squares.f_mul(&factor.f_square()?)?,
        None => squares,
    };
    Ok(site.gather(parameter, &squares.unsqueeze(0))?.squeeze_dim(0))
}

/// The sum over vectors, each times its sign, of the squares of `v`: `[V, N, *]` to `[N, *]`.
pub(super) fn signed_squares(v: &Tensor, signs: Option<&Tensor>) -> Tensor {
    let squares = v.square();
    match signs {
        Some(signs) => {
            let mut shape = signs.size();
            shape.resize(squares.dim(), 1);
            (squares * signs.view(shape.as_slice())).sum_dim_intlist(0, false, None::<Kind>)
        }
        None if v.size()[0] == 1 => squares.squeeze_dim(0),
        None => squares.sum_dim_intlist(0, false, None::<Kind>),
    }
}
