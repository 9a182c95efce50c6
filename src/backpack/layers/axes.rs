//! Layers for one to three axes behind the channels, written once: a line is an image of height 1.

use tch::Tensor;

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
