//! The elementwise layers: relu, leaky_relu, elu, selu, sigmoid, tanh, log_sigmoid, gelu, silu, identity.

use tch::Tensor;

use super::{Channels, Curvature, Layer, Mode, Saved};
use crate::error::Result;

/// SELU's constants (Klambauer et al., 2017), as PyTorch has them.
const SELU_ALPHA: f64 = 1.6732632423543772848170429916717;
const SELU_SCALE: f64 = 1.0507009873554804934193349852946;

/// A function that acts on each entry by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ActivationKind {
    /// max(x, 0), with derivative 0 at 0.
    Relu,
    /// x for x > 0, else slope x.
    LeakyRelu {
        /// The slope for negative inputs.
        negative_slope: f64,
    },
    /// x for x > 0, else alpha (exp(x) - 1).
    Elu {
        /// The (negated) limit for very negative inputs.
        alpha: f64,
    },
    /// ELU with the constants that keep mean and variance.
    Selu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// log(sigmoid(x)).
    LogSigmoid,
    /// x times the normal distribution function (exact, not the tanh form).
    Gelu,
    /// x sigmoid(x).
    Silu,
    /// x.
    Identity,
}

impl ActivationKind {
    /// The layer type's name in problem files.
    pub fn name(self) -> &'static str {
        match self {
            ActivationKind::Relu => "relu",
            ActivationKind::LeakyRelu { .. } => "leaky_relu",
            ActivationKind::Elu { .. } => "elu",
            ActivationKind::Selu => "selu",
            ActivationKind::Sigmoid => "sigmoid",
            ActivationKind::Tanh => "tanh",
            ActivationKind::LogSigmoid => "log_sigmoid",
            ActivationKind::Gelu => "gelu",
            ActivationKind::Silu => "silu",
            ActivationKind::Identity => "identity",
        }
    }

    fn is_piecewise_linear(self) -> bool {
        matches!(self, ActivationKind::Relu | ActivationKind::LeakyRelu { .. } | ActivationKind::Identity)
    }

    fn value(self, x: &Tensor) -> Tensor {
        match self {
            ActivationKind::Relu => x.relu(),
            ActivationKind::LeakyRelu { negative_slope } => x.positive_or(&(x * negative_slope)),
            ActivationKind::Elu { alpha } => x.positive_or(&(x.expm1() * alpha)),
            ActivationKind::Selu => x.positive_or(&(x.expm1() * SELU_ALPHA)) * SELU_SCALE,
            ActivationKind::Sigmoid => x.sigmoid(),
            ActivationKind::Tanh => x.tanh(),
            ActivationKind::LogSigmoid => x.log_sigmoid(),
            ActivationKind::Gelu => x.gelu("none"),
            ActivationKind::Silu => x.silu(),
            ActivationKind::Identity => x.shallow_clone(),
        }
    }

    /// The first derivative, from the input `x` and the output `y`. It is taken from the input wherever the output has
    /// come so close to a limit that the difference from it is lost.
    fn derivative(self, x: &Tensor, y: &Tensor) -> Tensor {
        match self {
            ActivationKind::Relu => x.gt(0.0).to_kind(x.kind()),
            ActivationKind::LeakyRelu { negative_slope } => {
                constant(x, 1.0).where_positive(x, &constant(x, negative_slope))
            }
            ActivationKind::Elu { alpha } => (x.exp() * alpha).masked_fill_(&x.gt(0.0), 1.0),
            ActivationKind::Selu => (x.exp() * (SELU_ALPHA * SELU_SCALE)).masked_fill_(&x.gt(0.0), SELU_SCALE),
            ActivationKind::Sigmoid => one_minus_sigmoid(x) * y,
            ActivationKind::Tanh => squared_sech(x),
            ActivationKind::LogSigmoid => one_minus_sigmoid(x),
            ActivationKind::Gelu => normal_distribution(x) + x * normal_density(x),
            ActivationKind::Silu => x.sigmoid() * (1.0 + x * one_minus_sigmoid(x)),
            ActivationKind::Identity => x.ones_like(),
        }
    }

    fn second_derivative(self, x: &Tensor, y: &Tensor) -> Tensor {
        match self {
            ActivationKind::Relu | ActivationKind::LeakyRelu { .. } | ActivationKind::Identity => x.zeros_like(),
            ActivationKind::Elu { alpha } => (x.exp() * alpha).masked_fill_(&x.gt(0.0), 0.0),
            ActivationKind::Selu => (x.exp() * (SELU_ALPHA * SELU_SCALE)).masked_fill_(&x.gt(0.0), 0.0),
            ActivationKind::Sigmoid => one_minus_sigmoid(x) * y * one_minus_two_sigmoid(x),
            ActivationKind::Tanh => squared_sech(x) * y * -2.0,
            ActivationKind::LogSigmoid => -(one_minus_sigmoid(x) * x.sigmoid()),
            ActivationKind::Gelu => normal_density(x) * (2.0 - x.square()),
            ActivationKind::Silu => one_minus_sigmoid(x) * x.sigmoid() * (2.0 + x * one_minus_two_sigmoid(x)),
        }
    }
}

/// Choices by the sign of a tensor.
trait BySign {
    fn positive_or(&self, otherwise: &Tensor) -> Tensor;
    fn where_positive(&self, x: &Tensor, otherwise: &Tensor) -> Tensor;
}

impl BySign for Tensor {
    fn positive_or(&self, otherwise: &Tensor) -> Tensor {
        self.where_self(&self.gt(0.0), otherwise)
    }

    fn where_positive(&self, x: &Tensor, otherwise: &Tensor) -> Tensor {
        self.where_self(&x.gt(0.0), otherwise)
    }
}

/// A 0-dimensional tensor beside `x`.
fn constant(x: &Tensor, value: f64) -> Tensor {
    Tensor::full([], value, (x.kind(), x.device()))
}

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

/// A layer that applies one function to every entry.
pub struct Activation {
    kind: ActivationKind,
}

impl Activation {
    /// A layer of this function.
    pub fn new(kind: ActivationKind) -> Self {
        Activation { kind }
    }

    /// v times the derivative; the Jacobian is diagonal, so this is both products.
    fn scale(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(match self.kind {
            ActivationKind::Identity => v.shallow_clone(),
            // One sweep over memory, without a mask in between.
            ActivationKind::Relu => saved.output.f_threshold_backward(v, 0.0)?,
            kind => v * kind.derivative(&saved.input, &saved.output),
        })
    }
}

impl Layer for Activation {
    fn kind(&self) -> &'static str {
        self.kind.name()
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(input.to_vec())
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, self.kind.value(input)))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        self.scale(saved, v)
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        self.scale(saved, v)
    }

    fn curvature(&self) -> Curvature {
        if self.kind.is_piecewise_linear() { Curvature::Zero } else { Curvature::Elementwise }
    }

    fn second_derivative(&self, saved: &Saved) -> Result<Tensor> {
        Ok(self.kind.second_derivative(&saved.input, &saved.output))
    }

    fn refuses_kfra(&self, _input: &[i64]) -> Option<String> {
        None
    }

    fn channels(&self) -> Channels {
        Channels::Apart { by_sample: self.kind != ActivationKind::Identity }
    }

    fn kfra_input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        if self.kind == ActivationKind::Identity {
            return Ok(g.shallow_clone());
        }
        Ok(super::averaged_outer(&self.kind.derivative(&saved.input, &saved.output)) * g)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const KINDS: [ActivationKind; 10] = [
        ActivationKind::Relu,
        ActivationKind::LeakyRelu { negative_slope: 0.1 },
        ActivationKind::Elu { alpha: 1.3 },
        ActivationKind::Selu,
        ActivationKind::Sigmoid,
        ActivationKind::Tanh,
        ActivationKind::LogSigmoid,
        ActivationKind::Gelu,
        ActivationKind::Silu,
        ActivationKind::Identity,
    ];

    /// Autograd knows libtorch's own functions; ours have to agree with their first and second derivatives.
    #[test]
    fn derivatives_are_autograds() {
        let library = |kind: ActivationKind, x: &Tensor| match kind {
            ActivationKind::LeakyRelu { .. } => x.where_self(&x.gt(0.0), &(x * 0.1)),
            ActivationKind::Elu { .. } => x.where_self(&x.gt(0.0), &(x.expm1() * 1.3)),
            ActivationKind::Selu => x.selu(),
            _ => kind.value(x),
        };
        for kind in KINDS {
            let x = Tensor::linspace(-4.0, 4.0, 38, (Kind::Double, Device::Cpu)).set_requires_grad(true);
            let y = library(kind, &x);
            let first = Tensor::run_backward(&[y.sum(Kind::Double)], &[&x], true, true).remove(0);
            let plain = x.detach();
            let ours = kind.value(&plain);
            let close = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap() < 1e-12;
            assert!(close(&ours, &y.detach()), "{kind:?} value");
            assert!(close(&kind.derivative(&plain, &ours), &first.detach()), "{kind:?} derivative");
            if !kind.is_piecewise_linear() {
                let second = Tensor::run_backward(&[first.sum(Kind::Double)], &[&x], false, false).remove(0);
                assert!(close(&kind.second_derivative(&plain, &ours), &second), "{kind:?} second derivative");
            }
        }
    }
}
