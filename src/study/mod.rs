//! Studies: which runs there are, how they are carried out and kept, and which setting is the best.

pub mod experiment;
pub mod select;
pub mod settings;
pub mod store;
