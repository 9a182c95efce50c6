//! Layers that keep every entry and give it another place: `reshape`, `flatten` and `permute`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::linear_map::axis;
use super::{Channels, Curvature, Layer, LinearMap, Mode, Recursion, Saved, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// Another shape of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reshape {
    /// a sample's shape; one size may be -1
    #[serde(deserialize_with = "sizes::list::<_, -1>")]
    shape: Vec<i64>,
}

impl LayerType for Reshape {
    const NAME: &'static str = "reshape";
    const SUMMARY: &'static str = "the entries in another shape";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("shape = [2, -1, 6]", &[4, 5, 6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        layer(Reshape::new(&self.shape)?)
    }
}

impl Reshape {
    /// This shape, without samples; one size may be -1 and follows from the others.
    ///
    /// # Errors
    /// [`Error::Shape`] for sizes below 1 other than one -1.
    pub fn new(shape: &[i64]) -> Result<Self> {
        let open = shape.iter().filter(|&&size| size == -1).count();
        if shape.is_empty() || open > 1 || shape.iter().any(|&size| size < 1 && size != -1) {
            return Err(Error::Shape(format!(
                "reshape: expected sizes of at least 1, one of which may be -1; got {shape:?}"
            )));
        }
        Ok(Reshape { shape: shape.to_vec() })
    }
}

impl LinearMap for Reshape {
    fn kind(&self) -> &'static str {
        "reshape"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        let entries: i64 = input.iter().product();
        let known: Option<i64> =
            self.shape.iter().filter(|&&size| size != -1).try_fold(1i64, |product, size| product.checked_mul(*size));
        let misfit = || Error::Shape(format!("reshape: an input of {input:?} has no shape {:?}", self.shape));
        let known = known.filter(|&known| known > 0 && entries % known == 0).ok_or_else(misfit)?;
        let shape: Vec<i64> = self.shape.iter().map(|&size| if size == -1 { entries / known } else { size }).collect();
        if shape.iter().product::<i64>() == entries { Ok(shape) } else { Err(misfit()) }
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let shape = LinearMap::output_shape(self, &x.size()[1..])?;
        Ok(x.f_reshape([&x.size()[..1], shape.as_slice()].concat().as_slice())?)
    }

    fn transpose(&self, v: &Tensor, input: &[i64]) -> Result<Tensor> {
        Ok(v.f_reshape([&v.size()[..1], input].concat().as_slice())?)
    }
}

// `flatten`: `[N, *shape]` to `[N, features]`, or some neighbouring axes of it in one.

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

// `permute`: the axes of a sample in another order.

/// Another order of the axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Permute {
    /// all dimensions, 0 (the samples) first
    #[serde(deserialize_with = "sizes::list::<_, 0>")]
    dims: Vec<i64>,
}

impl LayerType for Permute {
    const NAME: &'static str = "permute";
    const SUMMARY: &'static str = "the dimensions in another order";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("dims = [0, 2, 3, 1]", &[4, 5, 6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        layer(Permute::new(&self.dims)?)
    }
}

impl Permute {
    /// The output's axis k is the input's axis `dims[k]`; axis 0 counts the samples and stays the first.
    ///
    /// # Errors
    /// [`Error::Shape`] when `dims` is not 0 followed by the other axes in some order.
    pub fn new(dims: &[i64]) -> Result<Self> {
        let mut sorted = dims.to_vec();
        sorted.sort_unstable();
        if dims.first() != Some(&0) || sorted.iter().enumerate().any(|(place, &dim)| place as i64 != dim) {
            return Err(Error::Shape(format!(
                "permute: expected all axes once, and 0, which counts the samples, first; got {dims:?}"
            )));
        }
        Ok(Permute { dims: dims.to_vec() })
    }
}

impl LinearMap for Permute {
    fn kind(&self) -> &'static str {
        "permute"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        if input.len() + 1 != self.dims.len() {
            return Err(Error::Shape(format!(
                "permute: the order {:?} is for {} axes, samples included; the input has {}",
                self.dims,
                self.dims.len(),
                input.len() + 1
            )));
        }
        Ok(self.dims[1..].iter().map(|&dim| input[dim as usize - 1]).collect())
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_permute(self.dims.as_slice())?)
    }

    fn transpose(&self, v: &Tensor, _input: &[i64]) -> Result<Tensor> {
        let mut back = vec![0; self.dims.len()];
        for (place, &dim) in self.dims.iter().enumerate() {
            back[dim as usize] = place as i64;
        }
        Ok(v.f_permute(back.as_slice())?)
    }
}
