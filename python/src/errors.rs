//! Errors of the library as Python's exceptions, and computing without the interpreter's lock.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use backpack_run::Error;
use backpack_run::panics::{caught, said};
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyOSError};
use pyo3::prelude::*;

/// How often the interpreter is asked for signals.
const PATIENCE: Duration = Duration::from_millis(100);

/// An exception of this package, by its name in `backpack_run._errors`.
fn exception(py: Python<'_>, class: &str, text: String) -> PyErr {
    let made = py.import("backpack_run._errors").and_then(|module| module.getattr(class)?.call1((text,)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// The exception for an error.
pub fn to_python(py: Python<'_>, error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Interrupted | Error::Stopped(_) => PyKeyboardInterrupt::new_err(()),
        Error::Memory(_) => PyMemoryError::new_err(text),
        Error::Io { .. } | Error::Data { .. } | Error::MissingData(_) => PyOSError::new_err(text),
        Error::Unsupported(_) | Error::Refused { .. } => exception(py, "UnsupportedError", text),
        Error::Usage(_)
        | Error::Config(_)
        | Error::Shape(_)
        | Error::UnknownQuantity { .. }
        | Error::NotTaken { .. }
        | Error::Weights { .. } => exception(py, "UsageError", text),
        // The environment, libtorch, a run that failed, and what is added later.
        _ => exception(py, "Error", text),
    }
}

/// Computes while other threads run Python. Where a signal's handler raises meanwhile, as Ctrl-C does, the computation is
/// broken off.
///
/// # Errors
/// The exception for an error, or for a panic.
pub fn compute<T: Send>(py: Python<'_>, work: impl FnOnce() -> backpack_run::Result<T> + Send) -> PyResult<T> {
    let outcome = py.detach(move || catch_unwind(AssertUnwindSafe(|| caught(work))));
    // A handler may have raised without the computation noticing.
    if let Some(raised) = RAISED.take() {
        return Err(raised);
    }
    match outcome {
        Ok(result) => result.map_err(|error| to_python(py, error)),
        Err(panic) => {
            let text = format!("a defect of backpack-run, please report it: {}", said(panic.as_ref()));
            Err(exception(py, "Error", text))
        }
    }
}

thread_local! {
    /// When the interpreter was last asked.
    static ASKED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// What a signal's handler has raised.
    static RAISED: Cell<Option<PyErr>> = const { Cell::new(None) };
}

/// Whether a signal's handler raises, asked now and then; for [`backpack_run::interrupt::ask`].
pub fn is_interrupted() -> bool {
    let now = Instant::now();
    match ASKED.get() {
        Some(asked) if now - asked >= PATIENCE => {}
        Some(_) => return false,
        None => {
            ASKED.set(Some(now));
            return false;
        }
    }
    ASKED.set(Some(now));
    Python::attach(|py| match py.check_signals() {
        Ok(()) => false,
        Err(raised) => {
            RAISED.set(Some(raised));
            true
        }
    })
}
