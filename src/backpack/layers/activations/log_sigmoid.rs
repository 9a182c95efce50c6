//! `log_sigmoid`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Function;
use super::functions::one_minus_sigmoid;

/// log(sigmoid(x)).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogSigmoid {}

impl Function for LogSigmoid {
    const NAME: &'static str = "log_sigmoid";
    const SUMMARY: &'static str = "logarithm of the sigmoid";

    fn value(&self, x: &Tensor) -> Tensor {
        x.log_sigmoid()
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        one_minus_sigmoid(x)
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        -(one_minus_sigmoid(x) * x.sigmoid())
    }
}
