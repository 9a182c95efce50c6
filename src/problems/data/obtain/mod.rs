//! Getting published data sets: fetching, verifying, importing, and saying which are there.

#[cfg(feature = "program")]
pub mod download;
#[cfg(feature = "program")]
mod fetch;
mod hash;
mod import;
mod install;
mod progress;
mod status;
mod verify;

#[cfg(feature = "program")]
pub use fetch::fetch;
pub use hash::{Hashes, hash_file};
pub use import::{ImportOptions, import};
pub use progress::{Progress, Silent};
pub use status::{SetState, SetStatus, status};
pub use verify::{FileReport, FileState, SetReport, verify};
