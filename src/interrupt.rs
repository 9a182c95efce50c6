//! Whether a computation is to be broken off: asked at every node of a pass, of whoever runs the library inside a program of
//! its own. The Python module asks the interpreter for Ctrl-C.

use std::sync::OnceLock;

use crate::error::{Error, Result};

static ASKED: OnceLock<fn() -> bool> = OnceLock::new();

/// Says who is asked; the first one stands. The function is called often, and should mostly answer at once.
pub fn ask(whether: fn() -> bool) {
    let _ = ASKED.set(whether);
}

/// Goes on, or not.
///
/// # Errors
/// [`Error::Interrupted`] where the computation is to be broken off.
pub(crate) fn check() -> Result<()> {
    match ASKED.get() {
        Some(whether) if whether() => Err(Error::Interrupted),
        _ => Ok(()),
    }
}
