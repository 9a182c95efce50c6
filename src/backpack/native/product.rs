//! Matrix products by whichever of libtorch's two libraries, MKL and oneDNN, is faster on this processor.

use std::ffi::{c_char, c_int};

use tch::Tensor;
use torch_sys::C_tensor;

use super::{Message, checked, made};
use crate::error::Result;

unsafe extern "C" {
    fn backpack_run_matmul(
        a: *const C_tensor,
        b: *const C_tensor,
        alpha: f64,
        out: *mut *mut C_tensor,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    fn backpack_run_matmul_into(
        out: *const C_tensor,
        a: *const C_tensor,
        b: *const C_tensor,
        beta: f64,
        alpha: f64,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    fn backpack_run_linear(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        out: *mut *mut C_tensor,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;
}

/// `a b` with axes in front that broadcast, as `torch.matmul`. Automatic differentiation goes through it.
///
/// # Errors
/// What libtorch says when the shapes do not fit.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    scaled_matmul(a, b, 1.0)
}

/// `alpha a b`, else as [`matmul`].
///
/// # Errors
/// What libtorch says when the shapes do not fit.
pub fn scaled_matmul(a: &Tensor, b: &Tensor, alpha: f64) -> Result<Tensor> {
    made(|out, message, capacity| {
        // SAFETY: both tensors outlive the call and the shim never throws.
        unsafe { backpack_run_matmul(a.as_ptr(), b.as_ptr(), alpha, out, message, capacity) }
    })
}

/// `out` becomes `beta * out + alpha * a b`: matrices `[m, k]`, `[k, n]` and `[m, n]`, or batches of them. A `beta` of
/// zero does not read it. Without automatic differentiation.
///
/// # Errors
/// What libtorch says when the shapes do not fit.
pub fn matmul_into(out: &Tensor, a: &Tensor, b: &Tensor, beta: f64, alpha: f64) -> Result<()> {
    let mut message: Message = [0; 1024];
    // SAFETY: the tensors outlive the call and the shim never throws.
    let status = unsafe {
        backpack_run_matmul_into(out.as_ptr(), a.as_ptr(), b.as_ptr(), beta, alpha, message.as_mut_ptr(), message.len())
    };
    checked(status, &message)
}

/// `x weight^T + bias` on the last axis of `x`, for a weight `[out, in]`, as `torch.nn.functional.linear`. Automatic
/// differentiation goes through it.
///
/// # Errors
/// What libtorch says when the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let bias = bias.map_or(std::ptr::null(), Tensor::as_ptr);
    made(|out, message, capacity| {
        // SAFETY: the tensors outlive the call, a missing bias is null, and the shim never throws.
        unsafe { backpack_run_linear(x.as_ptr(), weight.as_ptr(), bias, out, message, capacity) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn random(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    /// The largest difference from the product in double precision, as a share of the largest entry.
    fn error(product: &Tensor, expected: &Tensor) -> f64 {
        assert_eq!(product.size(), expected.size());
        let largest = |tensor: &Tensor| f64::try_from(tensor.abs().max()).unwrap();
        largest(&(product.to_kind(Kind::Double) - expected)) / largest(expected)
    }

    /// Large enough for either library: matrices, batches, vectors in front of one or the other, what lies transposed, in
    /// parts of a larger tensor, or expanded.
    #[test]
    fn products_are_libtorchs() {
        tch::manual_seed(0);
        let wide = random(&[300, 200]);
        let pairs = [
            (random(&[150, 140]), random(&[140, 130])),
            (random(&[140, 150]).tr(), random(&[130, 140]).tr()),
            (wide.narrow(0, 5, 150).narrow(1, 7, 140), wide.narrow(0, 9, 140).narrow(1, 3, 130)),
            (wide.as_strided([150, 140], [400, 2], 0), random(&[140, 130])),
            (random(&[1, 140]).expand([150, 140], false), random(&[140, 1]).expand([140, 130], false)),
            (random(&[4, 60, 90]), random(&[90, 130])),
            (random(&[4, 90, 60]).transpose(1, 2), random(&[130, 90]).tr()),
            (random(&[4, 5, 60, 70]), random(&[4, 5, 70, 50])),
            (random(&[5, 60, 4, 70]).transpose(1, 2), random(&[5, 4, 50, 70]).transpose(2, 3)),
            (random(&[1, 60, 100]).expand([8, 60, 100], false), random(&[8, 100, 70])),
            (random(&[3, 4, 5, 60, 70]), random(&[4, 5, 70, 50])),
            (random(&[4, 5, 60, 70]), random(&[1, 4, 5, 70, 50])),
            (random(&[4, 1, 60, 70]), random(&[4, 5, 70, 50])),
            (random(&[3000, 900]), random(&[900])),
            (random(&[3, 2]), random(&[2, 4])),
            (random(&[0, 2]), random(&[2, 4])),
        ];
        for (a, b) in pairs {
            let expected = a.to_kind(Kind::Double).matmul(&b.to_kind(Kind::Double));
            if expected.numel() > 0 {
                for alpha in [1.0, -0.375] {
                    let error = error(&scaled_matmul(&a, &b, alpha).unwrap(), &(&expected * alpha));
                    assert!(error < 1e-5, "{:?} {:?}: {error}", a.size(), b.size());
                }
            } else {
                assert_eq!(matmul(&a, &b).unwrap().size(), expected.size());
            }
        }
        assert!(matmul(&random(&[300, 200]), &random(&[300, 200])).is_err());
    }

    #[test]
    fn a_product_goes_into_a_part_of_a_tensor() {
        tch::manual_seed(0);
        for (out, a, b) in [
            (random(&[200, 300]), random(&[150, 140]), random(&[130, 140]).tr()),
            (random(&[4, 200, 300]), random(&[4, 150, 140]), random(&[4, 140, 130])),
            (random(&[20, 30]), random(&[15, 14]), random(&[14, 13])),
        ] {
            let (rows, columns) = (a.size()[a.dim() - 2], b.size()[b.dim() - 1]);
            let part = out.narrow(-2, 3, rows).narrow(-1, 5, columns);
            let before = out.copy();
            let expected =
                part.to_kind(Kind::Double) * 0.25 + a.to_kind(Kind::Double).matmul(&b.to_kind(Kind::Double)) * 0.5;
            matmul_into(&part, &a, &b, 0.25, 0.5).unwrap();
            assert!(error(&part, &expected) < 1e-5);
            part.shallow_clone().copy_(&before.narrow(-2, 3, rows).narrow(-1, 5, columns));
            assert_eq!(out, before, "what lies beside it has changed");
            let _ = part.shallow_clone().fill_(f64::NAN);
            matmul_into(&part, &a, &b, 0.0, 1.0).unwrap();
            assert!(error(&part, &a.to_kind(Kind::Double).matmul(&b.to_kind(Kind::Double))) < 1e-5);
        }
    }

    #[test]
    fn a_linear_map_has_its_bias_and_its_derivative() {
        tch::manual_seed(0);
        let (x, weight, bias) = (random(&[40, 30, 70]), random(&[50, 70]), random(&[50]));
        let expected = x.to_kind(Kind::Double).matmul(&weight.to_kind(Kind::Double).tr());
        assert!(error(&linear(&x, &weight, None).unwrap(), &expected) < 1e-5);
        let expected = expected + bias.to_kind(Kind::Double);
        assert!(error(&linear(&x, &weight, Some(&bias)).unwrap(), &expected) < 1e-5);
        let weight = weight.set_requires_grad(true);
        let output = linear(&x, &weight, None).unwrap() + matmul(&x, &weight.tr()).unwrap();
        output.sum(Kind::Float).backward();
        let gradient = x.to_kind(Kind::Double).sum_dim_intlist([0i64, 1].as_slice(), false, None::<Kind>) * 2.0;
        assert!(error(&weight.grad(), &gradient.expand([50, 70], false)) < 1e-4);
    }
}
