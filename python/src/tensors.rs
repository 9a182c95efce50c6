//! Tensors from Python and to it, by DLPack, the protocol that torch and others share memory by: nothing is copied.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyCapsule;
use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use crate::errors::to_python;

/// What a capsule is called, and what it is called once its tensor is taken.
const NAME: &CStr = c"dltensor";
const USED: &CStr = c"used_dltensor";

unsafe extern "C" {
    fn backpack_run_from_dlpack(managed: *mut c_void, message: *mut c_char, capacity: usize) -> *mut C_tensor;
    fn backpack_run_to_dlpack(tensor: *const C_tensor, message: *mut c_char, capacity: usize) -> *mut c_void;
    fn backpack_run_drop_dlpack(managed: *mut c_void);
}

/// Room for the shim's error message.
type Message = [c_char; 1024];

fn failed(py: Python<'_>, message: &Message) -> PyErr {
    // SAFETY: the shim ends the message with a zero byte, and it begins as zeros.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned();
    to_python(py, TchError::Torch(text).into())
}

/// A function of torch.utils.dlpack.
fn function<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let function = cell.get_or_try_init(py, || py.import("torch.utils.dlpack")?.getattr(name).map(Bound::unbind));
    function.map(|function| function.bind(py))
}

/// A tensor in the memory of a torch.Tensor, without a history.
///
/// # Errors
/// TypeError where it is none, or one that is not laid out by strides.
pub fn take(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    static TO: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let none = |error: PyErr| {
        let kind = object.get_type().name().map_or_else(|_| "an object".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!("expected a dense torch.Tensor, got {kind}: {error}"))
    };
    let detached = object.call_method0("detach").map_err(none)?;
    let capsule = function(py, &TO, "to_dlpack")?.call1((detached,)).map_err(none)?;
    let capsule = capsule.cast_into::<PyCapsule>()?;
    let managed = capsule.pointer_checked(Some(NAME))?;
    let mut message: Message = [0; 1024];
    // SAFETY: a capsule of this name holds a DLPack tensor that nobody has taken; it is ours from here on.
    let tensor = unsafe { backpack_run_from_dlpack(managed.as_ptr(), message.as_mut_ptr(), message.len()) };
    if tensor.is_null() {
        return Err(failed(py, &message));
    }
    // SAFETY: the name is static, and tells the capsule that its tensor is taken.
    unsafe { pyo3::ffi::PyCapsule_SetName(capsule.as_ptr(), USED.as_ptr()) };
    // SAFETY: the shim has made this tensor for us.
    Ok(unsafe { Tensor::from_ptr(tensor) })
}

/// The tensors of a list.
///
/// # Errors
/// As [`take`].
pub fn take_all(objects: &[Bound<'_, PyAny>]) -> PyResult<Vec<Tensor>> {
    objects.iter().map(take).collect()
}

/// A torch.Tensor in the memory of a tensor.
///
/// # Errors
/// What torch says.
pub fn give<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    static FROM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let mut message: Message = [0; 1024];
    // SAFETY: the tensor outlives the call, and the shim never throws.
    let managed = unsafe { backpack_run_to_dlpack(tensor.as_ptr(), message.as_mut_ptr(), message.len()) };
    let managed = NonNull::new(managed).ok_or_else(|| failed(py, &message))?;
    // SAFETY: the pointer is to a DLPack tensor of ours, which `drop_untaken` ends where nobody takes it.
    let capsule = unsafe { PyCapsule::new_with_pointer_and_destructor(py, managed, NAME, Some(drop_untaken)) }?;
    function(py, &FROM, "from_dlpack")?.call1((capsule,))
}

/// The destructor of a capsule.
unsafe extern "C" fn drop_untaken(capsule: *mut pyo3::ffi::PyObject) {
    // SAFETY: Python hands the capsule that it ends; only one of this name holds a tensor still.
    unsafe {
        if pyo3::ffi::PyCapsule_IsValid(capsule, NAME.as_ptr()) != 0 {
            backpack_run_drop_dlpack(pyo3::ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()));
        }
    }
}
