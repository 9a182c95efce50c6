//! The slope of x times the normal distribution function, through the C++ file beside this one.

use std::ffi::{c_char, c_int};

use tch::Tensor;
use torch_sys::C_tensor;

use super::made;
use crate::error::Result;

unsafe extern "C" {
    fn backpack_run_gelu_slope(
        x: *const C_tensor,
        out: *mut *mut C_tensor,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;
}

/// Phi(x) + x phi(x), of each entry of a tensor of floats or doubles on the CPU.
///
/// # Errors
/// What libtorch says of a tensor of another kind.
pub fn gelu_slope(x: &Tensor) -> Result<Tensor> {
    made(|out, message, capacity| {
        // SAFETY: the tensor outlives the call and the shim never throws.
        unsafe { backpack_run_gelu_slope(x.as_ptr(), out, message, capacity) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Against libtorch's complementary error function and exponential in double precision, far out too, where the
    /// slope is tiny and keeps its digits; rounding x^2 there costs the reference some of its own.
    #[test]
    fn slopes_have_all_their_digits() {
        let x = Tensor::linspace(-12.0, 12.0, 4801, (Kind::Double, Device::Cpu));
        for (kind, near, far) in [(Kind::Double, 4e-15, 2e-14), (Kind::Float, 4e-7, 1e-6)] {
            let x = x.to_kind(kind).to_kind(Kind::Double);
            let density = (x.square() * -0.5).exp() * (0.5 * std::f64::consts::FRAC_2_SQRT_PI / 2f64.sqrt());
            let expected = (&x * -(0.5f64.sqrt())).erfc() * 0.5 + &x * density;
            let ours = gelu_slope(&x.to_kind(kind)).unwrap();
            assert_eq!(ours.kind(), kind);
            let error = (ours.to_kind(Kind::Double) - &expected).abs();
            // The slope is zero at -0.75.
            assert!(f64::try_from(error.max()).unwrap() < near, "{kind:?}: {error:?}");
            let share = (error / expected.abs()).where_self(&x.lt(-1.0), &x.zeros_like());
            assert!(f64::try_from(share.max()).unwrap() < far, "{kind:?}: {share:?}");
        }
    }

    #[test]
    fn what_is_beyond_all_numbers_has_its_limit() {
        let x = Tensor::from_slice(&[f64::NEG_INFINITY, -1e300, -40.0, 0.0, 40.0, f64::INFINITY, f64::NAN]);
        for kind in [Kind::Double, Kind::Float] {
            let slopes = Vec::<f64>::try_from(gelu_slope(&x.to_kind(kind)).unwrap().to_kind(Kind::Double)).unwrap();
            assert_eq!(slopes[..6], [0.0, 0.0, 0.0, 0.5, 1.0, 1.0], "{kind:?}");
            assert!(slopes[6].is_nan());
        }
        assert!(gelu_slope(&x.to_kind(Kind::Int64)).is_err());
    }

    #[test]
    fn a_transposed_tensor_keeps_its_shape() {
        let x = Tensor::linspace(-3.0, 3.0, 35, (Kind::Float, Device::Cpu)).view([5, 7]);
        assert_eq!(gelu_slope(&x.tr()).unwrap(), gelu_slope(&x).unwrap().tr());
    }
}
