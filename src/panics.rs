//! Memory that libtorch does not get, as an error.
//!
//! Most operations of tch panic where libtorch raises an exception. Shapes and types are checked before, so that such a
//! panic is a defect, but memory can be lacking at any time.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::error::{Error, Result, lacks_memory};

/// What a panic says; empty where it is no text.
pub fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default()
}

thread_local! {
    /// Whether this thread does work whose lack of memory becomes an error.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Does work in which a lack of memory is an error; any other panic goes on.
///
/// # Errors
/// Those of the work, and [`Error::Memory`].
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static QUIET: Once = Once::new();
    // The error says it; a panic's message and stack would only hide it.
    QUIET.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !(CAUGHT.get() && lacks_memory(said(info.payload()))) {
                usual(info);
            }
        }));
    });
    let before = CAUGHT.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(before);
    match outcome {
        Ok(result) => result,
        Err(panic) if lacks_memory(said(panic.as_ref())) => Err(Error::of_libtorch(said(panic.as_ref()))),
        Err(panic) => resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn memory_that_is_not_there_is_an_error_wherever_it_lacks() {
        let sizes = [1i64 << 50];
        let panicked = caught(|| Ok(Tensor::zeros(sizes, (Kind::Double, Device::Cpu)))).unwrap_err();
        let failed = caught(|| Ok(Tensor::f_zeros(sizes, (Kind::Double, Device::Cpu))?)).unwrap_err();
        for error in [panicked, failed] {
            let text = error.to_string();
            assert!(matches!(error, Error::Memory(_)) && error.exit_code() == 3, "{error:?}");
            assert!(text.contains("9007199254740992 bytes") && text.contains("fewer samples"), "{text}");
            assert!(!text.contains("frame #") && !text.contains("unwrap") && text.len() < 400, "{text}");
        }
    }

    #[test]
    #[should_panic(expected = "another one")]
    fn other_panics_go_on() {
        let _ = caught::<()>(|| panic!("another one"));
    }
}
