//! `tanh`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Function;
use super::functions::squared_sech;

/// The hyperbolic tangent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tanh {}

impl Function for Tanh {
    const NAME: &'static str = "tanh";
    const SUMMARY: &'static str = "hyperbolic tangent";

    fn value(&self, x: &Tensor) -> Tensor {
        x.tanh()
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        squared_sech(x)
    }

    fn second_derivative(&self, x: &Tensor, y: &Tensor) -> Tensor {
        squared_sech(x) * y * -2.0
    }
}
