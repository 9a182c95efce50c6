//! Kernels of our own, through the C++ files beside this one.

use std::ffi::{c_char, c_int};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::made;
use crate::error::Result;

// The slope of gelu (`gelu.cpp`).

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

// Sums of squared products with vectors that are mostly zero (`sparse_squares.cpp`).

unsafe extern "C" {
    fn backpack_run_sparse_squares_float(
        x: *const f32,
        v: *const f32,
        signs: *const f32,
        strides: *const i64,
        sizes: *const i64,
        out: *mut f32,
    );

    fn backpack_run_sparse_squares_double(
        x: *const f64,
        v: *const f64,
        signs: *const f64,
        strides: *const i64,
        sizes: *const i64,
        out: *mut f64,
    );
}

/// Above this share of entries that are not zero a dense product is faster.
const SPARSE: f64 = 0.4;

/// Memory that threads read, or write each at places of its own.
#[derive(Clone, Copy)]
struct Address(*mut std::ffi::c_void);

// SAFETY: the tensors behind the addresses outlive the threads, which are joined before the call below returns; inputs
// are only read, and each thread writes rows of the result that no other one touches.
unsafe impl Send for Address {}

/// Whether [`sparse_squares_sum`] pays, and can be had, for these vectors: floats on the CPU of which few are not zero,
/// by the first vector's.
pub fn is_sparse(v: &Tensor) -> bool {
    if v.device() != Device::Cpu || !matches!(v.kind(), Kind::Float | Kind::Double) || v.numel() == 0 {
        return false;
    }
    let first = v.get(0);
    let present = first.count_nonzero(None).int64_value(&[]);
    (present as f64) < SPARSE * first.numel() as f64
}

/// The sum over vectors and samples of the squared entries of `v x^T`, each times its sign: `x` `[N, T, d]`, `v`
/// `[V, N, o, T]`, `signs` `[V, N]` or ones; to `[o, d]`. What is zero in all vectors of a sample is left out.
///
/// # Panics
/// When the shapes do not fit together, or the tensors are not all of one kind, float or double, on the CPU.
pub fn sparse_squares_sum(x: &Tensor, v: &Tensor, signs: Option<&Tensor>) -> Tensor {
    let (samples, positions, features) = x.size3().expect("inputs have three dimensions");
    let (vectors, _, outputs, _) = v.size4().expect("vectors have four dimensions");
    assert_eq!(v.size(), [vectors, samples, outputs, positions]);
    assert!(v.kind() == x.kind() && v.device() == Device::Cpu && x.device() == Device::Cpu);
    let x = x.contiguous();
    let signs = signs.map(|signs| {
        assert_eq!(signs.size(), [vectors, samples]);
        signs.to_kind(x.kind()).contiguous()
    });
    let out = Tensor::zeros([outputs, features], (x.kind(), x.device()));
    let strides: [i64; 4] = v.stride().try_into().expect("four dimensions have four strides");
    let threads = i64::from(tch::get_num_threads()).clamp(1, outputs.max(1));
    let null = std::ptr::null_mut();
    let of = |tensor: &Tensor| Address(tensor.data_ptr());
    let [x_at, v_at, out_at] = [&x, v, &out].map(of);
    let signs_at = signs.as_ref().map_or(Address(null), of);
    let is_double = x.kind() == Kind::Double;
    // Rows of the result are cut among the threads, so that each sum has its order whatever their number.
    let work = |thread: i64| {
        let rows = [thread * outputs / threads, (thread + 1) * outputs / threads];
        let sizes = [vectors, samples, positions, features, rows[0], rows[1]];
        move || {
            let (x, v, signs, out) = { (x_at, v_at, signs_at, out_at) };
            let (strides, sizes) = (strides.as_ptr(), sizes.as_ptr());
            // SAFETY: the addresses are those of tensors of this kind with these sizes and strides.
            unsafe {
                if is_double {
                    let (x, v, signs) = (x.0.cast(), v.0.cast(), signs.0.cast::<f64>());
                    backpack_run_sparse_squares_double(x, v, signs, strides, sizes, out.0.cast());
                } else {
                    let (x, v, signs) = (x.0.cast(), v.0.cast(), signs.0.cast::<f32>());
                    backpack_run_sparse_squares_float(x, v, signs, strides, sizes, out.0.cast());
                }
            }
        }
    };
    if threads == 1 {
        work(0)();
    } else {
        std::thread::scope(|scope| (0..threads).for_each(|thread| drop(scope.spawn(work(thread)))));
    }
    out
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

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

    #[test]
    fn sums_are_those_of_the_dense_products() {
        tch::manual_seed(0);
        for (kind, bound) in [(Kind::Double, 1e-13), (Kind::Float, 1e-5)] {
            for (vectors, samples, outputs, positions, features) in
                [(1, 3, 4, 6, 5), (5, 2, 7, 20, 33), (2, 4, 1, 9, 64)]
            {
                for channels_last in [false, true] {
                    let x = Tensor::randn([samples, positions, features], (kind, Device::Cpu));
                    let shape = [vectors, samples, positions, outputs];
                    let keep = Tensor::rand([1, samples, positions, outputs], (kind, Device::Cpu)).lt(0.2);
                    let v = (Tensor::randn(shape, (kind, Device::Cpu)) * keep).transpose(2, 3);
                    let v = if channels_last { v } else { v.contiguous() };
                    assert!(is_sparse(&v));
                    let signs = Tensor::randn([vectors, samples], (kind, Device::Cpu)).sign();
                    let squares = v.matmul(&x).square();
                    for signs in [None, Some(&signs)] {
                        let signed = match signs {
                            Some(signs) => &squares * signs.view([vectors, samples, 1, 1]),
                            None => squares.shallow_clone(),
                        };
                        let expected = signed.sum_dim_intlist([0i64, 1].as_slice(), false, None::<Kind>);
                        let error = (sparse_squares_sum(&x, &v, signs) - &expected).abs().max() / expected.abs().max();
                        let error = f64::try_from(error).unwrap();
                        assert!(
                            error < bound,
                            "{kind:?} {vectors} {samples} {outputs} {positions} {features}: {error}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn dense_vectors_are_known() {
        assert!(!is_sparse(&Tensor::ones([1, 2, 3, 4], (Kind::Float, Device::Cpu))));
    }
}
