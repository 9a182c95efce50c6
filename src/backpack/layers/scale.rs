//! `scale`: its input times a number.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{LinearMap, sizes};
use crate::backpack::network::Operation;
use crate::error::Result;

/// Multiplication by a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scale {
    /// the number
    #[serde(deserialize_with = "sizes::finite")]
    factor: f64,
}

impl LayerType for Scale {
    const NAME: &'static str = "scale";
    const SUMMARY: &'static str = "its input times a number";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("factor = -0.7", &[6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        layer(*self)
    }
}

impl Scale {
    /// By this number.
    pub fn new(factor: f64) -> Self {
        Scale { factor }
    }
}

impl LinearMap for Scale {
    fn kind(&self) -> &'static str {
        "scale"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(input.to_vec())
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_mul_scalar(self.factor)?)
    }

    fn transpose(&self, v: &Tensor, _input: &[i64]) -> Result<Tensor> {
        self.apply(v)
    }
}
