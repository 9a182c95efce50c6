//! The backward pass, its quantities and the update rules against autograd, BackPACK and each other.

mod api;
#[path = "../cases/mod.rs"]
mod cases;
mod conformance;
mod golden_backpack;
mod golden_optimizers;
mod kronecker;
mod layers;
mod optimizers;
mod oracle;
mod products;
mod readings;
#[path = "../reference/mod.rs"]
mod reference;
mod sampling;
mod saturation;
mod spectrum;
#[path = "../support/mod.rs"]
mod support;
mod support_table;
mod tied;
