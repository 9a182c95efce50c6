//! X^T X, of which libtorch's general matrix product would compute both halves.

use tch::Tensor;

/// Below this width the product is too small for its halves to pay.
const SMALLEST_BLOCK: i64 = 192;

/// The most blocks a side is cut into; the cost tends to half the full product's, the number of calls grows.
const BLOCKS: i64 = 4;

/// The sum of the outer products of the rows of `x`: `[M, d]` to `[d, d]`, or `[G, M, d]` to `[G, d, d]`. Only the lower
/// block triangle is multiplied; the upper one is its mirror, so that the result is exactly symmetric.
pub(super) fn second_moment(x: &Tensor) -> Tensor {
    let width = *x.size().last().expect("a matrix has columns");
    let blocks = (width / SMALLEST_BLOCK).clamp(1, BLOCKS);
    if blocks == 1 {
        return x.transpose(-2, -1).matmul(x);
    }
    let bound = |block: i64| block * width / blocks;
    let bands: Vec<Tensor> = (0..blocks)
        .map(|block| {
            let (start, end) = (bound(block), bound(block + 1));
            x.narrow(-1, start, end - start).transpose(-2, -1).matmul(&x.narrow(-1, 0, end))
        })
        .collect();
    let mut shape = x.size();
    let axis = shape.len() - 2;
    shape[axis] = width;
    let whole = Tensor::empty(shape.as_slice(), (x.kind(), x.device()));
    for (block, band) in bands.iter().enumerate() {
        let (start, end) = (bound(block as i64), bound(block as i64 + 1));
        whole.narrow(-2, start, end - start).narrow(-1, 0, end).copy_(band);
        if start > 0 {
            let mirrored = band.narrow(-1, 0, start).transpose(-2, -1);
            whole.narrow(-2, 0, start).narrow(-1, start, end - start).copy_(&mirrored);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn blocks_give_the_full_product() {
        tch::manual_seed(0);
        for shape in [vec![30, 50], vec![30, 401], vec![20, 1000], vec![3, 20, 777]] {
            let x = Tensor::randn(shape.as_slice(), (Kind::Double, Device::Cpu));
            let full = x.transpose(-2, -1).matmul(&x);
            let error = f64::try_from((second_moment(&x) - &full).abs().max()).unwrap();
            assert!(error < 1e-11, "{shape:?}: {error}");
        }
    }
}
