//! `mean`: the mean over some axes, which are dropped.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::linear_map::axis;
use super::{LinearMap, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The mean over axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mean {
    /// a dimension or a list of them; samples are 0
    #[serde(rename = "dim", deserialize_with = "sizes::axes")]
    dims: Vec<i64>,
}

impl LayerType for Mean {
    const NAME: &'static str = "mean";
    const SUMMARY: &'static str = "the mean over dimensions, which are dropped";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("dim = [-1, 2]", &[4, 5, 6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        layer(self.clone())
    }
}

impl Mean {
    /// Over these axes, of which 0 counts the samples and is not possible; a negative one is counted from the end.
    pub fn new(dims: &[i64]) -> Self {
        Mean { dims: dims.to_vec() }
    }

    /// The axes for an input of so many axes, samples included, in ascending order.
    fn axes(&self, count: usize) -> Result<Vec<usize>> {
        let mut axes = self.dims.iter().map(|&dim| axis("mean", dim, count)).collect::<Result<Vec<_>>>()?;
        axes.sort_unstable();
        match axes.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::Shape(format!("mean: the axis {} is given twice", pair[0]))),
            None => Ok(axes),
        }
    }
}

impl LinearMap for Mean {
    fn kind(&self) -> &'static str {
        "mean"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        let axes = self.axes(input.len() + 1)?;
        let kept = input.iter().enumerate().filter(|(place, _)| !axes.contains(&(place + 1)));
        Ok(kept.map(|(_, &size)| size).collect())
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let axes: Vec<i64> = self.axes(x.dim())?.into_iter().map(|axis| axis as i64).collect();
        Ok(x.f_mean_dim(axes.as_slice(), false, None::<Kind>)?)
    }

    fn transpose(&self, v: &Tensor, input: &[i64]) -> Result<Tensor> {
        let mut back = v.shallow_clone();
        let mut count = 1;
        // In ascending order each axis finds its place among those that are there already.
        for axis in self.axes(input.len() + 1)? {
            back = back.f_unsqueeze(axis as i64)?;
            count *= input[axis - 1];
        }
        let shape = [&v.size()[..1], input].concat();
        Ok((back / count as f64).f_expand(shape.as_slice(), false)?)
    }
}
