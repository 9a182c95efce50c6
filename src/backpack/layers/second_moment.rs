//! X^T X, of which libtorch's general matrix product would compute both halves.

use tch::Tensor;

use crate::backpack::native::{product::matmul, symmetric};
use crate::error::Result;

/// Bands narrower than this cost more than the multiplications that they save.
const NARROWEST_BAND: i64 = 96;

/// The most bands a matrix is cut into; the cost tends to half the full product's, the number of products grows.
const BANDS: i64 = 8;

/// `scale` times the sum of the outer products of the rows of `x`: `[M, d]` to `[d, d]`, or `[G, M, d]` to `[G, d, d]`.
/// Of a wide one only the upper triangle is multiplied; the lower one is its mirror, so that the result is exactly
/// symmetric.
pub(crate) fn second_moment(x: &Tensor, scale: f64) -> Result<Tensor> {
    let mut shape = x.size();
    let axis = shape.len() - 2;
    let width = shape[axis + 1];
    if bands(width) == 1 {
        let whole = matmul(&x.transpose(-2, -1), x)?;
        return Ok(if scale == 1.0 { whole } else { whole * scale });
    }
    shape[axis] = width;
    let whole = Tensor::empty(shape.as_slice(), (x.kind(), x.device()));
    match axis {
        0 => add_second_moment(&whole, x, 0.0, scale)?,
        _ => (0..shape[0]).try_for_each(|group| add_second_moment(&whole.get(group), &x.get(group), 0.0, scale))?,
    }
    symmetric::mirror(&whole)?;
    Ok(whole)
}

/// The upper triangle of `sum`, `[d, d]`, becomes `old * sum + new * X^T X` for the rows `x`, `[M, d]`, without a matrix
/// for the product. The rest of `sum` is of no use then.
///
/// # Errors
/// What libtorch says when the shapes do not fit.
pub(crate) fn add_second_moment(sum: &Tensor, x: &Tensor, old: f64, new: f64) -> Result<()> {
    symmetric::add_second_moment(sum, x, old, new, bands(x.size()[1]))
}

fn bands(width: i64) -> i64 {
    (width / NARROWEST_BAND).clamp(1, BANDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn bands_give_the_full_product() {
        tch::manual_seed(0);
        for shape in [vec![30, 50], vec![30, 401], vec![20, 1000], vec![3, 20, 777]] {
            let x = Tensor::randn(shape.as_slice(), (Kind::Double, Device::Cpu));
            let full = x.transpose(-2, -1).matmul(&x) * 0.5;
            let error = f64::try_from((second_moment(&x, 0.5).unwrap() - &full).abs().max()).unwrap();
            assert!(error < 1e-11, "{shape:?}: {error}");
        }
    }
}
