//! `elu`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Function;
use super::functions::positive_or;
use crate::backpack::layers::sizes;
use crate::error::Result;

/// x for x > 0, else alpha (exp(x) - 1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Elu {
    /// minus the limit for large negative values
    #[serde(default = "sizes::unit", deserialize_with = "sizes::finite")]
    pub alpha: f64,
}

impl Function for Elu {
    const NAME: &'static str = "elu";
    const SUMMARY: &'static str = "x, or alpha (exp(x) - 1) where it is negative";

    fn value(&self, x: &Tensor) -> Tensor {
        positive_or(x, &(x.expm1() * self.alpha))
    }

    /// The bindings have libtorch's with its default alpha alone.
    fn library(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self.alpha {
            1.0 => x.f_elu()?,
            alpha => x.f_relu()? + x.f_clamp_max(0.0)?.f_elu()? * alpha,
        })
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        (x.exp() * self.alpha).masked_fill_(&x.gt(0.0), 1.0)
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        (x.exp() * self.alpha).masked_fill_(&x.gt(0.0), 0.0)
    }
}
