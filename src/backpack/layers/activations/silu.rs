//! `silu`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Function;
use super::functions::{one_minus_sigmoid, one_minus_two_sigmoid};

/// x sigmoid(x).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Silu {}

impl Function for Silu {
    const NAME: &'static str = "silu";
    const SUMMARY: &'static str = "x times its sigmoid";

    fn value(&self, x: &Tensor) -> Tensor {
        x.silu()
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        x.sigmoid() * (1.0 + x * one_minus_sigmoid(x))
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        one_minus_sigmoid(x) * x.sigmoid() * (2.0 + x * one_minus_two_sigmoid(x))
    }
}
