//! What a run leaves on disk: its folder, its rows, its state, its checkpoints and the lock that keeps others out.

pub mod archive;
pub mod checkpoint;
pub mod end;
pub mod event_file;
pub mod folder;
pub mod kept;
pub mod lock;
pub mod rows;
pub mod seal;
pub mod status;

pub use end::KeepEnd;
pub use folder::RunFolder;
pub use kept::{DAMAGED, Kept};
pub use rows::{DiagnosticRow, EpochRow, StepRow};
pub use seal::{Damage, Seal};
pub use status::{Cause, RunStatus};

/// The version that every JSON file of a run carries.
pub const SCHEMA_VERSION: u32 = 1;
