//! What quantities take of a parameter that multiplies, or is added to, entries of a sample by themselves: scales and
//! shifts of norms, gains, biases, position embeddings.

use tch::{Kind, Tensor};

use super::Saved;
use crate::error::Result;

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
pub(super) fn products(site: &dyn EntrywiseSite, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
    match site.factor(saved, parameter) {
        Some(factor) => site.gather(parameter, &v.f_mul(&factor)?),
        None => site.gather(parameter, v),
    }
}

/// The same summed over samples: `[V, *p]`.
pub(super) fn products_sum(site: &dyn EntrywiseSite, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
    match site.factor(saved, parameter) {
        Some(factor) => Ok(site.gather(parameter, &v.f_mul(&factor)?)?.f_sum_dim_intlist(1, false, None::<Kind>)?),
        // What is added is summed over samples before anything is gathered.
        None => Ok(site.gather(parameter, &v.f_sum_dim_intlist(1, true, None::<Kind>)?)?.squeeze_dim(1)),
    }
}

/// How the output moves along directions `[V, *p]`: `[V, N, *out]`.
pub(super) fn moved(site: &dyn EntrywiseSite, saved: &Saved, parameter: usize, directions: &Tensor) -> Result<Tensor> {
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
pub(super) fn squares_per_sample(
    site: &dyn EntrywiseSite,
    saved: &Saved,
    parameter: usize,
    v: &Tensor,
    signs: Option<&Tensor>,
) -> Result<Tensor> {
    if !site.is_apart(parameter) {
        return Ok(signed_squares(&products(site, saved, parameter, v)?, signs));
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
