//! Getting published data sets: fetching, verifying, importing, and saying which are there.

pub mod download;
mod fetch;
mod hash;
mod import;
mod install;
mod progress;
mod status;
mod verify;

pub use fetch::fetch;
pub use hash::{Hashes, hash_file};
pub use import::{ImportOptions, import};
pub use progress::{Progress, Silent, progress_to_stderr};
pub use status::{SetState, SetStatus, status};
pub use verify::{FileReport, FileState, SetReport, verify};
