//! Functions that several activations are made of, each without the loss of digits that its textbook form has.

use tch::Tensor;

/// 1 - sigmoid(x), which the difference would lose for large x.
pub fn one_minus_sigmoid(x: &Tensor) -> Tensor {
    x.neg().sigmoid_()
}

/// 1 - 2 sigmoid(x), which the difference would lose for small x.
pub fn one_minus_two_sigmoid(x: &Tensor) -> Tensor {
    (x * -0.5).tanh_()
}

/// 1 - tanh(x)^2.
pub fn squared_sech(x: &Tensor) -> Tensor {
    let mut twice = x * 2.0;
    one_minus_sigmoid(&twice) * twice.sigmoid_() * 4.0
}

/// The normal distribution function.
pub fn normal_distribution(x: &Tensor) -> Tensor {
    (x * -std::f64::consts::FRAC_1_SQRT_2).erfc_() * 0.5
}

/// exp(-x^2 / 2) / sqrt(2 pi). Rounding the square of a large x would cost digits of the result, so x is split into a
/// multiple of 1/16, whose square is exact, and what is left.
pub fn normal_density(x: &Tensor) -> Tensor {
    // Beyond this the density is zero in double precision too.
    let x = x.clamp(-40.0, 40.0);
    let mut coarse = (&x * 16.0).round_() / 16.0;
    let mut rest = (&x - &coarse) * (x + &coarse);
    let scale = 0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    coarse.square_().g_mul_scalar_(-0.5).exp_() * rest.g_mul_scalar_(-0.5).exp_() * scale
}

/// `x` where it is positive, else the entry of `otherwise`.
pub fn positive_or(x: &Tensor, otherwise: &Tensor) -> Tensor {
    x.where_self(&x.gt(0.0), otherwise)
}

/// A 0-dimensional tensor beside `x`.
pub fn constant(x: &Tensor, value: f64) -> Tensor {
    Tensor::full([], value, (x.kind(), x.device()))
}
