//! `selu`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Function;
use super::functions::positive_or;
use crate::error::Result;

// As PyTorch has them.
const ALPHA: f64 = 1.6732632423543772848170429916717;
const SCALE: f64 = 1.0507009873554804934193349852946;

/// ELU with the constants that keep mean and variance (Klambauer et al., 2017).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Selu {}

impl Function for Selu {
    const NAME: &'static str = "selu";
    const SUMMARY: &'static str = "scaled ELU";

    fn value(&self, x: &Tensor) -> Tensor {
        positive_or(x, &(x.expm1() * ALPHA)) * SCALE
    }

    fn library(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_selu()?)
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        (x.exp() * (ALPHA * SCALE)).masked_fill_(&x.gt(0.0), SCALE)
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        (x.exp() * (ALPHA * SCALE)).masked_fill_(&x.gt(0.0), 0.0)
    }
}
