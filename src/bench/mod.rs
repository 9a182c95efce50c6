//! What quantities and optimizer steps cost, in units of libtorch's own gradient: the paper's Figures 3, 6, 8 and 9,
//! and whole steps.
//!
//! A [`plan`] is made of [`figure`]s; each of its tasks becomes a [`row`]. A [`run`] visits all rows in turn, several times
//! ([`entry`]): each visit is a process of its own ([`worker`]) in which passes and the plain gradient are timed as
//! interleaved pairs ([`contest`], [`measure`]), and the interval of their ratio takes in what differs between visits
//! ([`statistics`]). The paper's own timings are [`published`].

pub mod baseline;
pub mod batches;
pub mod contest;
pub mod entry;
pub mod figure;
pub mod measure;
pub mod parts;
pub mod plan;
pub mod published;
pub mod record;
pub mod row;
pub mod run;
pub mod statistics;
pub mod subject;
pub mod task;
pub mod warning;
pub mod worker;
pub mod yardstick;

pub use row::{Row, read_rows, write_rows};
