//! Getting published data sets: fetching, verifying, importing, and saying which are there.

#[cfg(feature = "program")]
pub mod download;
#[cfg(feature = "program")]
mod fetch;
mod hash;
mod import;
mod verify;

pub use hash::{Hashes, hash_file};
pub use import::{ImportOptions, import};
pub use verify::{FileReport, FileState, SetReport, SetState, SetStatus, status, verify};

#[cfg(feature = "program")]
pub use fetch::fetch;

/// What a download reports while it is under way.
pub trait Progress {
    /// A file of `size` bytes begins, of which `have` are there already.
    fn start(&mut self, name: &str, size: u64, have: u64);
    /// So many bytes are there now.
    fn reached(&mut self, bytes: u64);
    /// Something worth saying: a retry, another mirror.
    fn note(&mut self, text: &str);
    /// The file is done.
    fn finish(&mut self);
}

/// Reports nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&mut self, _name: &str, _size: u64, _have: u64) {}
    fn reached(&mut self, _bytes: u64) {}
    fn note(&mut self, _text: &str) {}
    fn finish(&mut self) {}
}
