//! What is trained: data sets, networks, and the files that describe them.

pub mod builder;
pub mod data;
pub mod definition;
pub mod random_nets;

pub use builder::{LayerRow, ParameterRow, layer_table, table_of};
