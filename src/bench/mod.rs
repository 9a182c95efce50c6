//! What quantities and optimizer steps cost, in units of libtorch's own gradient: the paper's Figures 3, 6, 8 and 9,
//! and whole steps.

pub mod row;

pub use row::{Row, read_rows, write_rows};
