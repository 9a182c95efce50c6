//! The extension module `backpack_run._native`: the library on Python's own tensors, and the program.
//!
//! What users see is python/backpack_run; it hands this module plain arguments, and tensors as they are.

#![expect(clippy::too_many_arguments, reason = "the Python side hands over all that a call needs in one go")]

mod errors;
mod network;
mod optimizer;
mod tensors;

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;

/// The program: its arguments, the first of which is its name, and the file that starts it again. Gives the exit code.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>, program: PathBuf) -> u8 {
    backpack_run::runtime::set_program(program);
    py.detach(|| backpack_run::program_with(backpack_run::Registry::new(), arguments))
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    backpack_run::interrupt::ask(errors::is_interrupted);
    module.add_function(wrap_pyfunction!(main, module)?)?;
    module.add_class::<network::Network>()?;
    module.add_class::<optimizer::Optimizer>()
}
