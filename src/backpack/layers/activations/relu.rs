//! `relu`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::Saved;
use super::Function;
use crate::error::Result;

/// max(x, 0), with derivative 0 at 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Relu {}

impl Function for Relu {
    const NAME: &'static str = "relu";
    const SUMMARY: &'static str = "max(x, 0)";
    const IS_PIECEWISE_LINEAR: bool = true;

    fn value(&self, x: &Tensor) -> Tensor {
        x.relu()
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        x.gt(0.0).to_kind(x.kind())
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        x.zeros_like()
    }

    /// One sweep over memory, without a mask in between.
    fn scale(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(saved.output.f_threshold_backward(v, 0.0)?)
    }
}
