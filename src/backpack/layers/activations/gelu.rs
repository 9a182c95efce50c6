//! `gelu`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::Function;
use super::functions::{normal_density, normal_distribution, squared_sech};
use crate::backpack::native::gelu_slope;

/// How a GELU is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum GeluApproximation {
    /// Exactly.
    #[default]
    None,
    /// As x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (Hendrycks and Gimpel, 2016).
    Tanh,
}

impl GeluApproximation {
    fn is_none(&self) -> bool {
        *self == GeluApproximation::None
    }
}

/// What the approximation takes the hyperbolic tangent of, sqrt(2 / pi) (x + 0.044715 x^3), with two derivatives.
struct Inner {
    value: Tensor,
    first: Tensor,
    second: Tensor,
}

impl Inner {
    fn at(x: &Tensor) -> Self {
        const CUBIC: f64 = 0.044715;
        let scale = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
        let square = x.square();
        Inner {
            value: (&square * CUBIC + 1.0) * x * scale,
            first: (square * (3.0 * CUBIC) + 1.0) * scale,
            second: x * (6.0 * CUBIC * scale),
        }
    }
}

/// Whether there is a kernel of our own for it.
fn is_plain(x: &Tensor) -> bool {
    x.device() == Device::Cpu && matches!(x.kind(), Kind::Float | Kind::Double)
}

/// x times the normal distribution function.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gelu {
    /// "none", or "tanh" for the approximation by a hyperbolic tangent
    #[serde(default, skip_serializing_if = "GeluApproximation::is_none")]
    #[schemars(extend("x-default" = "\"none\""))]
    pub approximate: GeluApproximation,
}

impl Function for Gelu {
    const NAME: &'static str = "gelu";
    const SUMMARY: &'static str = "x times the normal distribution function";

    fn value(&self, x: &Tensor) -> Tensor {
        x.gelu(match self.approximate {
            GeluApproximation::None => "none",
            GeluApproximation::Tanh => "tanh",
        })
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        match self.approximate {
            GeluApproximation::None if is_plain(x) => gelu_slope(x).expect("it is a tensor of floats on the CPU"),
            GeluApproximation::None => normal_distribution(x) + x * normal_density(x),
            GeluApproximation::Tanh => {
                let inner = Inner::at(x);
                (&inner.value * 2.0).sigmoid_() + x * squared_sech(&inner.value) * inner.first * 0.5
            }
        }
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        match self.approximate {
            GeluApproximation::None => normal_density(x) * (2.0 - x.square()),
            GeluApproximation::Tanh => {
                let Inner { value, first, second } = Inner::at(x);
                let bent = second * 0.5 - value.tanh() * first.square();
                squared_sech(&value) * (first + x * bent)
            }
        }
    }
}
