//! The libtorch operations that the tch bindings leave out, through the C++ files beside this one.

mod kept_memory;
mod kernels;
pub mod product;
pub mod symmetric;

use std::ffi::{CStr, c_char, c_int};

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use crate::error::{Error, Result};

pub use kept_memory::{KeptMemory, forget_kept_memory, keep_memory};
pub use kernels::{gelu_slope, is_sparse, sparse_squares_sum};

unsafe extern "C" {
    fn backpack_run_convolution_backward(
        grad_output: *const C_tensor,
        input: *const C_tensor,
        weight: *const C_tensor,
        stride: *const i64,
        padding: *const i64,
        dilation: *const i64,
        output_padding: *const i64,
        dimensions: c_int,
        transposed: c_int,
        groups: i64,
        want_input: c_int,
        want_weight: c_int,
        want_bias: c_int,
        out: *mut *mut C_tensor,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    fn backpack_run_normalised_backward(
        grad: *const C_tensor,
        rows: *const C_tensor,
        groups: i64,
        weight: *const C_tensor,
        want_rows: c_int,
        want_weight: c_int,
        want_shift: c_int,
        out: *mut *mut C_tensor,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    fn backpack_run_add_scaled(
        tensor: *mut C_tensor,
        other: *const C_tensor,
        alpha: f64,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    fn backpack_run_add_product(
        tensor: *mut C_tensor,
        one: *const C_tensor,
        two: *const C_tensor,
        alpha: f64,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    fn backpack_run_add_quotient(
        tensor: *mut C_tensor,
        one: *const C_tensor,
        two: *const C_tensor,
        alpha: f64,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;
}

/// Room for the shim's error message.
type Message = [c_char; 1024];

/// The shim's status as a result.
fn checked(status: c_int, message: &Message) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the shim ends the message with a zero byte.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned();
    Err(TchError::Torch(text).into())
}

/// The tensor that a function of the shim makes.
fn made(call: impl FnOnce(*mut *mut C_tensor, *mut c_char, usize) -> c_int) -> Result<Tensor> {
    let mut message: Message = [0; 1024];
    let mut out = std::ptr::null_mut();
    let status = call(&mut out, message.as_mut_ptr(), message.len());
    checked(status, &message)?;
    // SAFETY: after success the pointer was made by the shim with `new at::Tensor` and is taken over here, once.
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// `tensor += alpha * other`, in place; shapes broadcast to the tensor's.
///
/// # Errors
/// What libtorch says when the shapes do not fit.
pub fn add_scaled(tensor: &Tensor, other: &Tensor, alpha: f64) -> Result<()> {
    let mut message: Message = [0; 1024];
    // SAFETY: both tensors outlive the call and the shim never throws.
    let status = unsafe {
        backpack_run_add_scaled(tensor.as_ptr().cast_mut(), other.as_ptr(), alpha, message.as_mut_ptr(), message.len())
    };
    checked(status, &message)
}

/// `tensor += alpha * one * two`, in place and elementwise.
///
/// # Errors
/// What libtorch says when the shapes do not fit.
pub fn add_product(tensor: &Tensor, one: &Tensor, two: &Tensor, alpha: f64) -> Result<()> {
    let mut message: Message = [0; 1024];
    // SAFETY: the tensors outlive the call and the shim never throws.
    let status = unsafe {
        backpack_run_add_product(
            tensor.as_ptr().cast_mut(),
            one.as_ptr(),
            two.as_ptr(),
            alpha,
            message.as_mut_ptr(),
            message.len(),
        )
    };
    checked(status, &message)
}

/// `tensor += alpha * one / two`, in place and elementwise.
///
/// # Errors
/// What libtorch says when the shapes do not fit.
pub fn add_quotient(tensor: &Tensor, one: &Tensor, two: &Tensor, alpha: f64) -> Result<()> {
    let mut message: Message = [0; 1024];
    // SAFETY: the tensors outlive the call and the shim never throws.
    let status = unsafe {
        backpack_run_add_quotient(
            tensor.as_ptr().cast_mut(),
            one.as_ptr(),
            two.as_ptr(),
            alpha,
            message.as_mut_ptr(),
            message.len(),
        )
    };
    checked(status, &message)
}

/// Which gradients of a normalisation with scale and shift are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedOfNorm {
    /// That of the rows.
    pub rows: bool,
    /// That of the scale, which has to be given.
    pub scale: bool,
    /// That of the shift, together with a scale alone.
    pub shift: bool,
}

/// The transposed Jacobian of what brings rows to mean 0 and variance 1, at `rows` that have them already, times `grad`.
/// Rows are the last axis of `[*, d]`, or that many groups of the channels of `[N, C, *]`; behind them there may be a scale,
/// `[d]` or `[C]`, whose gradient, and that of a shift, are had too.
///
/// # Errors
/// What libtorch says when the shapes do not fit together.
pub fn normalised_backward(
    grad: &Tensor,
    rows: &Tensor,
    groups: Option<i64>,
    scale: Option<&Tensor>,
    wanted: WantedOfNorm,
) -> Result<[Option<Tensor>; 3]> {
    let mut out = [std::ptr::null_mut(); 3];
    let mut message: Message = [0; 1024];
    // SAFETY: the tensors outlive the call, a missing scale is null, `out` has room for three pointers, and the shim never
    // throws; the pointers it gives are owned by nobody else.
    let status = unsafe {
        backpack_run_normalised_backward(
            grad.as_ptr(),
            rows.as_ptr(),
            groups.unwrap_or(0),
            scale.map_or(std::ptr::null(), Tensor::as_ptr),
            wanted.rows.into(),
            wanted.scale.into(),
            wanted.shift.into(),
            out.as_mut_ptr(),
            message.as_mut_ptr(),
            message.len(),
        )
    };
    checked(status, &message)?;
    // SAFETY: each non-null pointer was made by the shim with `new at::Tensor` and is taken over here, once.
    Ok(out.map(|pointer| (!pointer.is_null()).then(|| unsafe { Tensor::from_ptr(pointer) })))
}

/// How a convolution moves over its input; one entry a spatial axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Steps between positions.
    pub stride: Vec<i64>,
    /// Zeros around the input, the same on both sides.
    pub padding: Vec<i64>,
    /// Distance between the kernel's entries.
    pub dilation: Vec<i64>,
    /// Extra output pixels of a transposed convolution; zeros otherwise.
    pub output_padding: Vec<i64>,
    /// Whether this is a transposed convolution.
    pub transposed: bool,
    /// The number of groups of channels.
    pub groups: i64,
}

/// Which gradients of a convolution are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// That of the input.
    pub input: bool,
    /// That of the weight.
    pub weight: bool,
    /// That of the bias.
    pub bias: bool,
}

/// libtorch's `convolution_backward`: the gradients of a convolution with respect to input, weight and bias, those of
/// them that are wanted.
///
/// # Errors
/// What libtorch says when the shapes do not fit together.
pub fn convolution_backward(
    grad_output: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    geometry: &Geometry,
    wanted: Wanted,
) -> Result<[Option<Tensor>; 3]> {
    let mut out = [std::ptr::null_mut(); 3];
    let mut message: Message = [0; 1024];
    // SAFETY: the tensors outlive the call, the lists have `dimensions` entries, `out` has room for three pointers, and
    // the shim never throws; the pointers it gives are owned by nobody else.
    let status = unsafe {
        backpack_run_convolution_backward(
            grad_output.as_ptr(),
            input.as_ptr(),
            weight.as_ptr(),
            geometry.stride.as_ptr(),
            geometry.padding.as_ptr(),
            geometry.dilation.as_ptr(),
            geometry.output_padding.as_ptr(),
            geometry.stride.len() as c_int,
            geometry.transposed.into(),
            geometry.groups,
            wanted.input.into(),
            wanted.weight.into(),
            wanted.bias.into(),
            out.as_mut_ptr(),
            message.as_mut_ptr(),
            message.len(),
        )
    };
    checked(status, &message)?;
    // SAFETY: each non-null pointer was made by the shim with `new at::Tensor` and is taken over here, once.
    Ok(out.map(|pointer| (!pointer.is_null()).then(|| unsafe { Tensor::from_ptr(pointer) })))
}

/// The weight's gradient alone.
///
/// # Errors
/// What libtorch says when the shapes do not fit together.
pub fn convolution_weight_gradient(
    grad_output: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    geometry: &Geometry,
) -> Result<Tensor> {
    let wanted = Wanted { input: false, weight: true, bias: false };
    let [_, gradient, _] = convolution_backward(grad_output, input, weight, geometry, wanted)?;
    gradient.ok_or_else(|| Error::Unsupported("libtorch gave no weight gradient".into()))
}
