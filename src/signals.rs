//! SIGINT and SIGTERM: once, finish the step and leave a checkpoint; twice, at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{EXIT_INTERRUPTED, Error, Result};

/// Whether to stop; clones share one answer.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    requested: Arc<AtomicBool>,
    /// Another reason to stop.
    other: Option<Arc<AtomicBool>>,
}

impl Stop {
    /// Nothing but [`Stop::request`] stops.
    pub fn never() -> Self {
        Stop::default()
    }

    /// SIGINT or SIGTERM stops; the second of them ends the process at once.
    ///
    /// # Errors
    /// [`Error::Environment`] where the system does not let signals be handled.
    pub fn on_signals() -> Result<Self> {
        let stop = Stop::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            stop.also_on(signal)?;
        }
        Ok(stop)
    }

    /// This signal stops too; sent when already stopping, it ends the process at once.
    pub fn also_on(&self, signal: i32) -> Result<()> {
        // The order counts: the first signal finds the flag unset, so that only it is set; the second finds it set.
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED.into(), Arc::clone(&self.requested))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&self.requested)))
            .map(drop)
            .map_err(|error| Error::Environment(format!("signal {signal} cannot be handled: {error}")))
    }

    /// Asks to stop.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
    }

    /// Whether to stop.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed) || self.other.as_ref().is_some_and(|other| other.load(Ordering::Relaxed))
    }

    /// Stops where either of two does.
    pub fn or(&self, other: &Stop) -> Self {
        Stop { requested: Arc::clone(&self.requested), other: Some(Arc::clone(&other.requested)) }
    }
}
