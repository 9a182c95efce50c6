//! Studies: which runs there are, how they are carried out and kept, and which setting is the best.

pub mod aggregate;
pub mod axes;
pub mod collect;
pub mod conduct;
pub mod event;
pub mod experiment;
pub mod forecast;
pub mod launch;
pub mod packing;
pub mod prepare;
pub mod results;
pub mod run;
pub mod select;
pub mod settings;
pub mod standing;
pub mod state;
pub mod store;
pub mod times;
