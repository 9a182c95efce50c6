//! Layers without parameters that are linear in their input and treat every sample alike: what they share.

use tch::Tensor;

use super::{Channels, Curvature, Layer, Mode, Recursion, Saved, both_sides, merge, split};
use crate::error::Result;

/// A linear map of each sample (in its forward pass perhaps with a constant added), the same for all samples.
///
/// It is a [`Layer`] with all quantities, KFRA where it keeps channels apart.
pub trait LinearMap: Send {
    /// The layer type's name, as in problem files ("permute").
    fn kind(&self) -> &'static str;

    /// The shape of the output of one sample, for the shape of one input; an error names what does not fit.
    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>>;

    /// The map, `[K, *in]` to `[K, *out]`.
    fn apply(&self, x: &Tensor) -> Result<Tensor>;

    /// Its transpose, `[K, *out]` to `[K, *in]`, where `input` is `*in`.
    fn transpose(&self, v: &Tensor, input: &[i64]) -> Result<Tensor>;

    /// The forward pass, `[N, *in]` to `[N, *out]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x)
    }

    /// Whether it acts on each channel, the first axis behind the samples, by itself: KFRA goes through it then.
    fn keeps_channels(&self) -> bool {
        false
    }
}

impl<M: LinearMap> Layer for M {
    fn kind(&self) -> &'static str {
        LinearMap::kind(self)
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        LinearMap::output_shape(self, input)
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, LinearMap::forward(self, input)?))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let back = self.transpose(&merge(v), &saved.input.size()[1..])?;
        Ok(split(&back, saved.samples()))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(split(&self.apply(&merge(v))?, saved.samples()))
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn channels(&self) -> Channels {
        if self.keeps_channels() { Channels::Apart { by_sample: false } } else { Channels::Mixed }
    }

    fn recursion(&self) -> Option<&dyn Recursion> {
        if self.keeps_channels() { Some(self) } else { None }
    }
}

impl<M: LinearMap> Recursion for M {
    fn input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        both_sides(g, &saved.output.size()[1..], |rows| self.transpose(rows, &saved.input.size()[1..]))
    }
}

/// An axis of tensors with this many axes, samples included, counted from the end where it is negative.
pub(super) fn axis(kind: &str, dim: i64, axes: usize) -> Result<usize> {
    let axes = axes as i64;
    let axis = if dim < 0 { dim + axes } else { dim };
    if axis == 0 {
        return Err(crate::Error::Shape(format!("{kind}: dim {dim} counts the samples, which have to stay apart")));
    }
    if axis < 0 || axis >= axes {
        return Err(crate::Error::Shape(format!(
            "{kind}: dim {dim} is none of an input with {axes} axes, samples included"
        )));
    }
    Ok(axis as usize)
}
