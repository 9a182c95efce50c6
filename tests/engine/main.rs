//! The backward pass, its quantities and the update rules against autograd, BackPACK and each other.

mod api;
#[path = "../cases/mod.rs"]
mod cases;
mod golden;
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
mod tied;
