//! `identity`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::Saved;
use super::Function;
use crate::error::Result;

/// x.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Identity {}

impl Function for Identity {
    const NAME: &'static str = "identity";
    const SUMMARY: &'static str = "its input";
    const IS_PIECEWISE_LINEAR: bool = true;
    const IS_IDENTITY: bool = true;

    fn value(&self, x: &Tensor) -> Tensor {
        x.shallow_clone()
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        x.ones_like()
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        x.zeros_like()
    }

    fn scale(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.shallow_clone())
    }

    fn average_both_sides(&self, _saved: &Saved, g: &Tensor) -> Tensor {
        g.shallow_clone()
    }
}
