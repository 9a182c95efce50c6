//! `scale`: its input times a number.

use tch::Tensor;

use super::LinearMap;
use crate::error::Result;

/// Multiplication by a number.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    factor: f64,
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
