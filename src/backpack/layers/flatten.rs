//! `flatten`: `[N, *shape]` to `[N, features]`, or some neighbouring axes of it in one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::linear_map::axis;
use super::{Channels, Curvature, Layer, LinearMap, Mode, Recursion, Saved, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// Makes one axis of all axes but the samples.
#[derive(Debug, Default)]
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

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn recursion(&self) -> Option<&dyn Recursion> {
        Some(self)
    }

    fn channels(&self) -> Channels {
        Channels::Apart { by_sample: false }
    }
}

impl Recursion for Flatten {
    fn input(&self, _saved: &Saved, g: &Tensor) -> Result<Tensor> {
        Ok(g.shallow_clone())
    }
}

/// Makes one axis of neighbouring ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlattenAxes {
    /// the first of them; samples are dimension 0
    #[serde(
        rename = "start_dim",
        default = "first",
        deserialize_with = "sizes::axis",
        skip_serializing_if = "is_first"
    )]
    #[schemars(extend("x-default" = "1"))]
    start: i64,
    /// the last of them; negative numbers count from the end
    #[serde(rename = "end_dim", default = "last", deserialize_with = "sizes::axis", skip_serializing_if = "is_last")]
    #[schemars(extend("x-default" = "-1"))]
    end: i64,
}

fn first() -> i64 {
    1
}

fn last() -> i64 {
    -1
}

// Options that this type has got since its first version are left out where they are not used, so that old runs keep
// their hashes.
fn is_first(dim: &i64) -> bool {
    *dim == first()
}

fn is_last(dim: &i64) -> bool {
    *dim == last()
}

impl LayerType for FlattenAxes {
    const NAME: &'static str = "flatten";
    const SUMMARY: &'static str = "neighbouring dimensions of a sample merged into one";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("", &[4, 5, 6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        match (self.start, self.end) {
            (1, -1) => layer(Flatten::new()),
            _ => layer(*self),
        }
    }
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
