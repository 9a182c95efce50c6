//! What quantities and optimizer steps cost, in units of libtorch's own gradient: the paper's Figures 3, 6, 8 and 9,
//! and whole steps.
//!
//! A `plan` is made of `figure`s; each of its tasks becomes a `row`. A `run` visits all rows in turn, several times:
//! each visit is a process of its own (`worker`) in which passes and the plain gradient are timed as interleaved pairs
//! (`contest`, `measure`), and the interval of their ratio takes in what differs between visits (`statistics`). What it
//! is compared with, the paper's own timings among it, is in `baseline`.

pub(crate) mod baseline;
#[doc(hidden)]
pub mod contest;
pub(crate) mod figure;
pub(crate) mod measure;
pub(crate) mod parts;
#[doc(hidden)]
pub mod plan;
pub(crate) mod record;
pub(crate) mod row;
pub(crate) mod run;
pub(crate) mod statistics;
#[doc(hidden)]
pub mod task;
pub(crate) mod worker;

pub use row::{Row, read_rows, write_rows};
