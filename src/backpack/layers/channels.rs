//! What layers on images share: their shape, and sums over the positions of each channel.

use tch::{Kind, Tensor};

use crate::backpack::native::product::matmul;
use crate::error::{Error, Result};

/// How a layer's Jacobian with respect to its input treats the channels of an image, the first axis behind the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Channels {
    /// Output channels depend on several input channels, or there are no such channels.
    Mixed,
    /// Each output channel depends on the input channel in its place alone; flattening keeps them one after the other.
    Apart {
        /// Whether the Jacobian may be another one for each sample.
        by_sample: bool,
    },
}

/// `[channels, height, width]` of an image, or an error that names the layer.
pub(super) fn image_shape(kind: &str, input: &[i64]) -> Result<[i64; 3]> {
    <[i64; 3]>::try_from(input).map_err(|_| {
        Error::Shape(format!("{kind}: expected an input of shape [channels, height, width], got {input:?}"))
    })
}

/// `[V, N, out, *]` summed over positions: `[V, N, out]`.
pub(super) fn sum_positions(v: &Tensor) -> Tensor {
    v.flatten(3, -1).sum_dim_intlist(3, false, None::<Kind>)
}

/// The output factor of a convolution: the sum over vectors and samples of the outer products of `v` (`[V, N, out, *]`)
/// summed over positions, `[out, out]` or `[groups, out / groups, out / groups]`.
pub(super) fn channel_factor(v: &Tensor, groups: i64) -> Result<Tensor> {
    let v = sum_positions(v).flatten(0, 1);
    if groups == 1 {
        return matmul(&v.tr(), &v);
    }
    let v = v.view([v.size()[0], groups, -1]).permute([1, 0, 2]);
    matmul(&v.transpose(1, 2), &v)
}

/// KFRA's output factor: a matrix over (channel, position) on both sides summed over positions on both sides.
pub(super) fn channel_blocks(g: &Tensor, channels: i64, groups: i64) -> Result<Tensor> {
    let positions = g.size()[0] / channels;
    let whole =
        g.view([channels, positions, channels, positions]).sum_dim_intlist([1i64, 3].as_slice(), false, None::<Kind>);
    if groups == 1 {
        return Ok(whole);
    }
    let each = channels / groups;
    let blocks: Vec<Tensor> =
        (0..groups).map(|group| whole.narrow(0, group * each, each).narrow(1, group * each, each)).collect();
    Ok(Tensor::stack(&blocks, 0))
}

/// A product that libtorch takes for one vector at a time, for each of `[V, *]`: `[V, *result]`.
pub(super) fn each_vector(v: &Tensor, product: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let each: Result<Vec<Tensor>> = (0..v.size()[0]).map(|vector| product(&v.get(vector))).collect();
    Ok(Tensor::stack(&each?, 0))
}
