//! Symmetric matrices of which one triangle is worked on, the upper one.

use std::ffi::{c_char, c_int};

use tch::Tensor;
use torch_sys::C_tensor;

use super::{Message, checked};
use crate::error::Result;

unsafe extern "C" {
    fn backpack_run_add_second_moment(
        sum: *mut C_tensor,
        x: *const C_tensor,
        beta: f64,
        alpha: f64,
        bands: i64,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    fn backpack_run_mirror(matrix: *mut C_tensor, message: *mut c_char, capacity: usize) -> c_int;

    fn backpack_run_cholesky(matrix: *mut C_tensor, exists: *mut c_int, message: *mut c_char, capacity: usize)
    -> c_int;
}

/// The upper triangle of `sum`, `[d, d]`, becomes `beta * sum + alpha * x^T x` for the rows `x`, `[M, d]`, by so many
/// products; a `sum` that counts for nothing (`beta` zero) is not read. Parts of the other triangle may change too.
///
/// # Errors
/// What libtorch says when the shapes do not fit.
pub fn add_second_moment(sum: &Tensor, x: &Tensor, beta: f64, alpha: f64, bands: i64) -> Result<()> {
    let mut message: Message = [0; 1024];
    // SAFETY: both tensors outlive the call and the shim never throws.
    let status = unsafe {
        backpack_run_add_second_moment(
            sum.as_ptr().cast_mut(),
            x.as_ptr(),
            beta,
            alpha,
            bands,
            message.as_mut_ptr(),
            message.len(),
        )
    };
    checked(status, &message)
}

/// Copies the upper triangle of `[.., d, d]` onto the lower one, in place.
///
/// # Errors
/// What libtorch says.
pub fn mirror(matrix: &Tensor) -> Result<()> {
    let mut message: Message = [0; 1024];
    // SAFETY: the tensor outlives the call and the shim never throws.
    let status = unsafe { backpack_run_mirror(matrix.as_ptr().cast_mut(), message.as_mut_ptr(), message.len()) };
    checked(status, &message)
}

/// Cholesky's decomposition `R^T R` of `[.., d, d]`, whose upper triangle is read, in place: R takes its place, and what
/// lies below the diagonal is of no use. False where there is none, or none in finite numbers.
///
/// # Errors
/// What libtorch says.
pub fn cholesky(matrix: &Tensor) -> Result<bool> {
    let mut message: Message = [0; 1024];
    let mut exists = 0;
    // SAFETY: the tensor and the number outlive the call and the shim never throws.
    let status =
        unsafe { backpack_run_cholesky(matrix.as_ptr().cast_mut(), &mut exists, message.as_mut_ptr(), message.len()) };
    checked(status, &message)?;
    Ok(exists != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn largest(tensor: &Tensor) -> f64 {
        f64::try_from(tensor.abs().max()).unwrap()
    }

    fn random(shape: &[i64], kind: Kind) -> Tensor {
        tch::manual_seed(0);
        Tensor::randn(shape, (kind, Device::Cpu))
    }

    #[test]
    fn a_second_moment_is_added_in_the_upper_triangle() {
        let (x, before) = (random(&[11, 70], Kind::Double), random(&[70, 70], Kind::Double));
        let expected = &before * 0.75 + x.tr().mm(&x) * 0.5;
        for bands in [1, 2, 3, 8] {
            let sum = before.copy();
            add_second_moment(&sum, &x, 0.75, 0.5, bands).unwrap();
            assert!(largest(&(&sum - &expected).triu(0)) < 1e-12, "{bands} bands");
        }
        let sum = Tensor::full([70, 70], f64::NAN, (Kind::Double, Device::Cpu));
        add_second_moment(&sum, &x, 0.0, 1.0, 4).unwrap();
        assert!(largest(&(sum.triu(0) - x.tr().mm(&x).triu(0))) < 1e-12);
    }

    #[test]
    fn a_mirrored_matrix_is_symmetric() {
        for (shape, kind) in [(vec![1, 1], Kind::Float), (vec![77, 77], Kind::Float), (vec![3, 40, 40], Kind::Double)] {
            let matrix = random(&shape, kind);
            let expected = matrix.triu(0) + matrix.triu(1).transpose(-2, -1);
            mirror(&matrix).unwrap();
            assert_eq!(matrix, expected, "{shape:?}");
        }
        // One that is not contiguous takes the general way.
        let matrix = random(&[9, 9], Kind::Double).tr();
        let expected = matrix.triu(0) + matrix.triu(1).tr();
        mirror(&matrix).unwrap();
        assert_eq!(matrix, expected);
    }

    #[test]
    fn panels_and_lapack_both_decompose() {
        // Widths within a panel, at its end, across several, and beyond what is cut into panels.
        for width in [1, 15, 48, 49, 300, 1200] {
            for (kind, bound) in [(Kind::Float, 2e-5), (Kind::Double, 1e-13)] {
                let x = random(&[width + 5, width], kind);
                let square = x.tr().mm(&x) / width as f64 + Tensor::eye(width, (kind, Device::Cpu));
                let matrix = square.copy();
                assert!(cholesky(&matrix).unwrap(), "{width}");
                let upper = matrix.triu(0);
                let error = largest(&(upper.tr().mm(&upper) - &square)) / largest(&square);
                assert!(error < bound, "{width} {kind:?}: {error}");
            }
        }
    }

    #[test]
    fn the_decomposition_reads_the_upper_triangle_alone() {
        for transposed in [false, true] {
            let x = random(&[2, 30, 20], Kind::Double);
            let square = x.transpose(-2, -1).matmul(&x);
            let matrix = square.triu(0) + random(&[20, 20], Kind::Double).tril(-1);
            let matrix = if transposed { matrix.transpose(-2, -1).contiguous().transpose(-2, -1) } else { matrix };
            assert!(cholesky(&matrix).unwrap());
            let upper = matrix.triu(0);
            let error = largest(&(upper.transpose(-2, -1).matmul(&upper) - square));
            assert!(error < 1e-11, "transposed {transposed}: {error}");
        }
    }

    #[test]
    fn what_is_indefinite_or_no_number_has_no_decomposition() {
        for entry in [-1.0, f64::NAN, f64::INFINITY] {
            for transposed in [false, true] {
                let matrix = Tensor::eye(4, (Kind::Double, Device::Cpu)).unsqueeze(0).repeat([2, 1, 1]);
                let _ = matrix.get(1).get(2).get(2).fill_(entry);
                let matrix = if transposed { matrix.transpose(-2, -1) } else { matrix };
                assert!(!cholesky(&matrix).unwrap(), "{entry} {transposed}");
            }
        }
    }
}
