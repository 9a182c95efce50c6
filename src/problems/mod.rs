//! What is trained: data sets, networks, and the files that describe them.

pub mod builder;
pub mod data;
pub mod definition;
mod layer_table;
pub mod random_nets;

pub use layer_table::{LayerRow, ParameterRow, layer_table, table_of};
