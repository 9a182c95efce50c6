//! `sigmoid`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Function;
use super::functions::{one_minus_sigmoid, one_minus_two_sigmoid};

/// 1 / (1 + exp(-x)).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sigmoid {}

impl Function for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const SUMMARY: &'static str = "1 / (1 + exp(-x))";

    fn value(&self, x: &Tensor) -> Tensor {
        x.sigmoid()
    }

    fn derivative(&self, x: &Tensor, y: &Tensor) -> Tensor {
        one_minus_sigmoid(x) * y
    }

    fn second_derivative(&self, x: &Tensor, y: &Tensor) -> Tensor {
        one_minus_sigmoid(x) * y * one_minus_two_sigmoid(x)
    }
}
