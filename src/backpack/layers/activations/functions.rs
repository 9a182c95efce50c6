//! The activations that there are, those whose second derivative vanishes first, and what several of them are made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::Function;
use crate::backpack::layers::{Saved, sizes};
use crate::backpack::native::gelu_slope;
use crate::error::Result;

// Activations whose second derivative vanishes: `identity`, `relu` and `leaky_relu`.

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

/// x for x > 0, else slope x.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeakyRelu {
    /// the factor of negative values
    #[serde(default = "leaky_slope", deserialize_with = "sizes::finite")]
    pub negative_slope: f64,
}

fn leaky_slope() -> f64 {
    0.01
}

impl Function for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const SUMMARY: &'static str = "x, or a multiple of it where it is negative";
    const EXAMPLE: &'static str = "negative_slope = 0.1";
    const IS_PIECEWISE_LINEAR: bool = true;

    fn value(&self, x: &Tensor) -> Tensor {
        positive_or(x, &(x * self.negative_slope))
    }

    /// The bindings have libtorch's with its default slope alone.
    fn library(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_prelu(&Tensor::full([1], self.negative_slope, (x.kind(), x.device())))?)
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        constant(x, 1.0).where_self(&x.gt(0.0), &constant(x, self.negative_slope))
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        x.zeros_like()
    }
}

// Activations with curvature.

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

// As PyTorch has them.
const SELU_ALPHA: f64 = 1.6732632423543772848170429916717;
const SELU_SCALE: f64 = 1.0507009873554804934193349852946;

/// ELU with the constants that keep mean and variance (Klambauer et al., 2017).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Selu {}

impl Function for Selu {
    const NAME: &'static str = "selu";
    const SUMMARY: &'static str = "scaled ELU";

    fn value(&self, x: &Tensor) -> Tensor {
        positive_or(x, &(x.expm1() * SELU_ALPHA)) * SELU_SCALE
    }

    fn library(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_selu()?)
    }

    fn derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        (x.exp() * (SELU_ALPHA * SELU_SCALE)).masked_fill_(&x.gt(0.0), SELU_SCALE)
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        (x.exp() * (SELU_ALPHA * SELU_SCALE)).masked_fill_(&x.gt(0.0), 0.0)
    }
}

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
struct TanhInner {
    value: Tensor,
    first: Tensor,
    second: Tensor,
}

impl TanhInner {
    fn at(x: &Tensor) -> Self {
        const CUBIC: f64 = 0.044715;
        let scale = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
        let square = x.square();
        TanhInner {
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
                let inner = TanhInner::at(x);
                (&inner.value * 2.0).sigmoid_() + x * squared_sech(&inner.value) * inner.first * 0.5
            }
        }
    }

    fn second_derivative(&self, x: &Tensor, _y: &Tensor) -> Tensor {
        match self.approximate {
            GeluApproximation::None => normal_density(x) * (2.0 - x.square()),
            GeluApproximation::Tanh => {
                let TanhInner { value, first, second } = TanhInner::at(x);
                let bent = second * 0.5 - value.tanh() * first.square();
                squared_sech(&value) * (first + x * bent)
            }
        }
    }
}

// Functions that several activations are made of, each without the loss of digits that its textbook form has.

/// 1 - sigmoid(x), which the difference would lose for large x.
fn one_minus_sigmoid(x: &Tensor) -> Tensor {
    x.neg().sigmoid_()
}

/// 1 - 2 sigmoid(x), which the difference would lose for small x.
fn one_minus_two_sigmoid(x: &Tensor) -> Tensor {
    (x * -0.5).tanh_()
}

/// 1 - tanh(x)^2.
fn squared_sech(x: &Tensor) -> Tensor {
    let mut twice = x * 2.0;
    one_minus_sigmoid(&twice) * twice.sigmoid_() * 4.0
}

/// The normal distribution function.
fn normal_distribution(x: &Tensor) -> Tensor {
    (x * -std::f64::consts::FRAC_1_SQRT_2).erfc_() * 0.5
}

/// exp(-x^2 / 2) / sqrt(2 pi). Rounding the square of a large x would cost digits of the result, so x is split into a
/// multiple of 1/16, whose square is exact, and what is left.
fn normal_density(x: &Tensor) -> Tensor {
    // Beyond this the density is zero in double precision too.
    let x = x.clamp(-40.0, 40.0);
    let mut coarse = (&x * 16.0).round_() / 16.0;
    let mut rest = (&x - &coarse) * (x + &coarse);
    let scale = 0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    coarse.square_().g_mul_scalar_(-0.5).exp_() * rest.g_mul_scalar_(-0.5).exp_() * scale
}

/// `x` where it is positive, else the entry of `otherwise`.
fn positive_or(x: &Tensor, otherwise: &Tensor) -> Tensor {
    x.where_self(&x.gt(0.0), otherwise)
}

/// A 0-dimensional tensor beside `x`.
fn constant(x: &Tensor, value: f64) -> Tensor {
    Tensor::full([], value, (x.kind(), x.device()))
}
