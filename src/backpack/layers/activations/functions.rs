//! Functions that several activations are made of, each without the loss of digits that its textbook form has.

use tch::{Device, Tensor};

/// So many entries at a time stay in a core's cache through all steps of a function.
const BLOCK: i64 = 1 << 15;

/// A function of each entry by itself that takes many steps: of a large tensor on the CPU block by block, so that the steps
/// between do not go by way of memory.
pub fn in_blocks(x: &Tensor, function: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let entries = x.numel() as i64;
    if entries <= BLOCK || x.device() != Device::Cpu || !x.is_contiguous() {
        return function(x);
    }
    let (flat, result) = (x.view([-1]), x.empty_like());
    let filled = result.view([-1]);
    let mut start = 0;
    while start < entries {
        let length = BLOCK.min(entries - start);
        filled.narrow(0, start, length).copy_(&function(&flat.narrow(0, start, length)));
        start += length;
    }
    result
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn chunks_add_nothing_to_a_function() {
        let x = Tensor::linspace(-6.0, 6.0, 3 * BLOCK + 5, (Kind::Double, Device::Cpu)).view([1, -1]);
        let error = (in_blocks(&x, normal_density) - normal_density(&x)).abs().max();
        assert!(f64::try_from(error).unwrap() < 1e-16);
        let turned = x.tr();
        assert_eq!(in_blocks(&turned, |x| x * 2.0).size(), turned.size());
    }
}
