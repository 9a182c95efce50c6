//! `leaky_relu`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Function;
use super::functions::{constant, positive_or};
use crate::backpack::layers::sizes;
use crate::error::Result;

/// x for x > 0, else slope x.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeakyRelu {
    /// the factor of negative values
    #[serde(default = "slope", deserialize_with = "sizes::finite")]
    pub negative_slope: f64,
}

fn slope() -> f64 {
    0.01
}

impl Function for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const SUMMARY: &'static str = "x, or a multiple of it where it is negative";
    const EXAMPLE: &'static str = "negative_slope = 0.1";
    const IS_PIECEWISE_LINEAR: bool = true;

    fn value(&self, x: &Tensor) -> Tensor {
        positive_or(x, &(x * self.negative_slope))
    }

    /// The bindings have libtorch's with its default slope alone.
    fn library(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_prelu(&Tensor::full([1], self.negative_slope, (x.kind(), x.device())))?)
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        constant(x, 1.0).where_self(&x.gt(0.0), &constant(x, self.negative_slope))
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        x.zeros_like()
    }
}
