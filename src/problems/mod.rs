//! What is trained: data sets, networks, and the files that describe them.

pub mod data;
pub mod definition;
