//! Studies: which runs there are, how they are carried out and kept, and which setting is the best.

pub mod aggregate;
pub mod axes;
pub mod beyond;
pub mod collect;
pub mod conduct;
pub mod estimate;
pub mod event;
pub mod experiment;
pub mod forecast;
pub mod halving;
pub mod launch;
pub mod packing;
pub mod plan;
pub mod power;
pub mod prepare;
pub mod results;
pub mod run;
pub mod select;
pub mod settings;
pub mod stage;
pub mod state;
pub mod store;
pub mod survey;
pub mod task;
pub mod times;
