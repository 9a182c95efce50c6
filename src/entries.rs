//! What a process knows by name, one table a kind: what is built in, until a registry with more takes its place.

use std::sync::{OnceLock, PoisonError, RwLock};

/// The entries of one kind.
pub(crate) struct Entries<T: 'static> {
    built_in: fn() -> Vec<T>,
    present: OnceLock<RwLock<Vec<T>>>,
}

impl<T: Clone> Entries<T> {
    /// Those that are built in.
    pub const fn new(built_in: fn() -> Vec<T>) -> Self {
        Entries { built_in, present: OnceLock::new() }
    }

    fn present(&self) -> &RwLock<Vec<T>> {
        self.present.get_or_init(|| RwLock::new((self.built_in)()))
    }

    /// All of them, in their order.
    pub fn all(&self) -> Vec<T> {
        self.present().read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first that is the one.
    pub fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<T> {
        self.present().read().unwrap_or_else(PoisonError::into_inner).iter().find(|entry| is_it(entry)).cloned()
    }

    /// Has these in place of those that there are.
    pub fn replace(&self, entries: Vec<T>) {
        *self.present().write().unwrap_or_else(PoisonError::into_inner) = entries;
    }
}
