//! What layers on sequences, images and volumes share: one to three axes behind the channels, and sums over positions.

use tch::{Kind, Tensor};

use crate::backpack::native::product::matmul;
use crate::error::{Error, Result};

/// How tensors with `AXES` axes behind their channels become what the layers compute with: two axes or three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lift<const AXES: usize>;

impl<const AXES: usize> Lift<AXES> {
    /// Whether lifting changes nothing.
    pub const IS_PLAIN: bool = AXES > 1;

    /// `[.., C, *axes]` as it is computed with.
    pub fn up(x: &Tensor) -> Tensor {
        if Self::IS_PLAIN { x.shallow_clone() } else { x.unsqueeze(-2) }
    }

    /// The inverse of [`Self::up`].
    pub fn down(x: Tensor) -> Tensor {
        if Self::IS_PLAIN { x } else { x.squeeze_dim(-2) }
    }

    /// A number for each axis, with `extra` for the height of a line.
    pub fn numbers(values: [i64; AXES], extra: i64) -> Vec<i64> {
        let extra = if Self::IS_PLAIN { None } else { Some(extra) };
        extra.into_iter().chain(values).collect()
    }

    /// The channels, and the sizes of the axes, of a sample's shape; or an error that names the layer.
    pub fn shape(kind: &str, input: &[i64]) -> Result<(i64, Vec<i64>)> {
        match input {
            [channels, axes @ ..] if axes.len() == AXES => {
                let extra = (!Self::IS_PLAIN).then_some(1);
                Ok((*channels, extra.into_iter().chain(axes.iter().copied()).collect()))
            }
            _ => Err(Error::Shape(format!(
                "{kind}: expected an input of shape {}, got {input:?}",
                ["[channels, length]", "[channels, height, width]", "[channels, depth, height, width]"][AXES - 1]
            ))),
        }
    }

    /// The sizes of the `AXES` axes of lifted ones.
    pub fn lower(lifted: &[i64]) -> &[i64] {
        &lifted[lifted.len() - AXES..]
    }
}

/// Zeros before and behind each (lifted) axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zeros(pub Vec<[i64; 2]>);

impl Zeros {
    /// None.
    pub fn none(axes: usize) -> Self {
        Zeros(vec![[0, 0]; axes])
    }

    /// Whether each axis has as many before as behind.
    pub fn is_symmetric(&self) -> bool {
        self.0.iter().all(|[before, behind]| before == behind)
    }

    /// Whether there are none.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|pair| *pair == [0, 0])
    }

    /// In the order of libtorch's `constant_pad_nd`: the last axis first.
    pub fn list(&self) -> Vec<i64> {
        self.0.iter().rev().flatten().copied().collect()
    }

    /// The sizes with them.
    pub fn around(&self, sizes: &[i64]) -> Vec<i64> {
        sizes.iter().zip(&self.0).map(|(size, [before, behind])| size + before + behind).collect()
    }

    /// `[.., *axes]` with them around.
    pub fn pad(&self, x: &Tensor) -> Tensor {
        x.constant_pad_nd(self.list())
    }

    /// The part within them, of these sizes.
    pub fn crop(&self, x: &Tensor, sizes: &[i64]) -> Tensor {
        let axes = sizes.len() as i64;
        let parts = sizes.iter().zip(&self.0).enumerate();
        parts.fold(x.shallow_clone(), |x, (axis, (size, [before, _]))| x.narrow(axis as i64 - axes, *before, *size))
    }
}

// What layers on images share: their shape, and sums over the positions of each channel.

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
