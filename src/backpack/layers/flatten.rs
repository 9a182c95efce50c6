//! `flatten`: `[N, *shape]` to `[N, features]`, or some neighbouring axes of it in one.

use tch::Tensor;

use super::linear_map::axis;
use super::{Channels, Curvature, Layer, LinearMap, Mode, Saved};
use crate::error::{Error, Result};

/// Makes one axis of all axes but the samples.
#[derive(Default)]
pub struct Flatten;

impl Flatten {
    /// A flattening layer.
    pub fn new() -> Self {
        Flatten
    }
}

impl Layer for Flatten {
    fn kind(&self) -> &'static str {
        "flatten"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(vec![input.iter().product()])
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let features: i64 = input.size()[1..].iter().product();
        Ok(Saved::new(input, input.reshape([input.size()[0], features])))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.reshape([&v.size()[..2], &saved.input.size()[1..]].concat().as_slice()))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.reshape([&v.size()[..2], &saved.output.size()[1..]].concat().as_slice()))
    }

    fn curvature(&self) -> Curvature {
        Curvature::Zero
    }

    fn refuses_kfra(&self, _input: &[i64]) -> Option<String> {
        None
    }

    fn channels(&self) -> Channels {
        Channels::Apart { by_sample: false }
    }

    fn kfra_input(&self, _saved: &Saved, g: &Tensor) -> Result<Tensor> {
        Ok(g.shallow_clone())
    }
}

/// Makes one axis of neighbouring ones.
#[derive(Clone, Copy, Debug)]
pub struct FlattenAxes {
    start: i64,
    end: i64,
}

impl FlattenAxes {
    /// Of the axes from `start` to `end`, both included; 0 counts the samples and is not possible, negative ones are
    /// counted from the end.
    pub fn new(start: i64, end: i64) -> Self {
        FlattenAxes { start, end }
    }
}

impl LinearMap for FlattenAxes {
    fn kind(&self) -> &'static str {
        "flatten"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        let (start, end) = (axis("flatten", self.start, input.len() + 1)?, axis("flatten", self.end, input.len() + 1)?);
        if start > end {
            return Err(Error::Shape(format!(
                "flatten: start_dim {} lies behind end_dim {} for an input of {input:?}",
                self.start, self.end
            )));
        }
        let together = input[start - 1..end].iter().product();
        Ok([&input[..start - 1], &[together], &input[end..]].concat())
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let shape = LinearMap::output_shape(self, &x.size()[1..])?;
        Ok(x.f_reshape([&x.size()[..1], shape.as_slice()].concat().as_slice())?)
    }

    fn transpose(&self, v: &Tensor, input: &[i64]) -> Result<Tensor> {
        Ok(v.f_reshape([&v.size()[..1], input].concat().as_slice())?)
    }
}
