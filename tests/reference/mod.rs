//! The activations' derivatives in arithmetic of several hundred digits, from their definitions.

use crate::cases::spec::ActivationKind;
use dashu_float::FBig;
use dashu_float::round::mode::HalfEven;

/// A binary number of many digits.
pub type Big = FBig<HalfEven, 2>;

/// Bits of the significand. The differences below lose fewer than 100 for the inputs that are tried.
const BITS: usize = 500;

/// SELU's constants (Klambauer et al., 2017).
const SELU_ALPHA: f64 = 1.6732632423543772848170429916717;
const SELU_SCALE: f64 = 1.0507009873554804934193349852946;

/// A number, exactly.
pub fn big(x: f64) -> Big {
    with_bits(x, BITS)
}

fn with_bits(x: f64, bits: usize) -> Big {
    Big::try_from(x).expect("a finite number").with_precision(bits).value()
}

/// The nearest double.
pub fn double(x: &Big) -> f64 {
    x.to_f64().value()
}

/// 1 / (1 + exp(-x)).
pub fn sigmoid(x: &Big) -> Big {
    big(1.0) / (big(1.0) + (-x).exp())
}

/// The first and second derivative at `x`.
pub fn derivatives(kind: ActivationKind, x: f64) -> [Big; 2] {
    let (zero, one, two, at) = (big(0.0), big(1.0), big(2.0), big(x));
    match kind {
        ActivationKind::Relu => [if x > 0.0 { one } else { zero.clone() }, zero],
        ActivationKind::LeakyRelu { negative_slope } => [if x > 0.0 { one } else { big(negative_slope) }, zero],
        ActivationKind::Identity => [one, zero],
        ActivationKind::Elu { .. } if x > 0.0 => [one, zero],
        ActivationKind::Elu { alpha } => [big(alpha) * at.exp(), big(alpha) * at.exp()],
        ActivationKind::Selu if x > 0.0 => [big(SELU_SCALE), zero],
        ActivationKind::Selu => {
            let value = big(SELU_SCALE) * big(SELU_ALPHA) * at.exp();
            [value.clone(), value]
        }
        ActivationKind::Sigmoid => {
            let (s, rest) = (sigmoid(&at), sigmoid(&-at));
            [&s * &rest, &s * &rest * (&rest - &s)]
        }
        ActivationKind::Tanh => {
            let square = (&two * &at).exp();
            let tanh = (&square - &one) / (&square + &one);
            let first = big(4.0) * &square / ((&one + &square) * (&one + &square));
            [first.clone(), -two * tanh * first]
        }
        ActivationKind::LogSigmoid => {
            let (s, rest) = (sigmoid(&at), sigmoid(&-at));
            [rest.clone(), -(s * rest)]
        }
        ActivationKind::Gelu => {
            let square = &at * &at;
            let density = (-&square / &two).exp() / (&two * Big::pi(BITS)).sqrt();
            [normal_distribution(x) + &at * &density, density * (two - square)]
        }
        ActivationKind::TanhGelu => {
            let (cubic, scale) = (big(0.044715), (&two / Big::pi(BITS)).sqrt());
            let square = &at * &at;
            let inner = &scale * (&at + &cubic * &at * &square);
            let first = &scale * (&one + big(3.0) * &cubic * &square);
            let second = &scale * big(6.0) * &cubic * &at;
            // (1 + tanh(u)) / 2 and 1 - tanh(u)^2 by sigmoids.
            let (s, rest) = (sigmoid(&(&two * &inner)), sigmoid(&(-&two * &inner)));
            let (tanh, bend) = (&s - &rest, big(4.0) * &s * &rest);
            let half = &one / &two;
            let once = &s + &half * &at * &bend * &first;
            [once, &bend * (&first + &at * (&half * second - tanh * &first * &first))]
        }
        ActivationKind::Silu => {
            let (s, rest) = (sigmoid(&at), sigmoid(&-&at));
            let first = &s * (one + &at * &rest);
            [first, &s * &rest * (two + at * (&rest - &s))]
        }
    }
}

/// The normal distribution function.
fn normal_distribution(x: f64) -> Big {
    if x.abs() > 45.0 {
        // exp(-1000): zero or one for the doubles.
        return if x > 0.0 { big(1.0) } else { big(0.0) };
    }
    // erf(z) = 2 / sqrt(pi) exp(-z^2) sum_n 2^n z^(2n + 1) / (1 3 5 ... (2n + 1)), whose terms have one sign; the
    // distribution's lower end is 1 - erf, for which there are 3 bits for each unit of z^2.
    let bits = BITS + (1.5 * x * x) as usize;
    let size = with_bits(x.abs(), bits);
    let square = &size * &size;
    let z = &size / with_bits(2.0, bits).sqrt();
    let (mut term, mut sum, mut odd) = (z.clone(), with_bits(0.0, bits), 1.0);
    loop {
        let next = &sum + &term;
        if next == sum {
            break;
        }
        (sum, odd) = (next, odd + 2.0);
        term = term * &square / with_bits(odd, bits);
    }
    let erf = with_bits(2.0, bits) / Big::pi(bits).sqrt() * (-(square / with_bits(2.0, bits))).exp() * sum;
    let tail = (with_bits(1.0, bits) - erf) / with_bits(2.0, bits);
    (if x > 0.0 { with_bits(1.0, bits) - tail } else { tail }).with_precision(BITS).value()
}
