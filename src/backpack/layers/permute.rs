//! `permute`: the axes of a sample in another order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{LinearMap, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

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
