//! The extended backward pass: everything that a single backward pass can tell beyond the gradient.

mod collector;
pub mod draws;
pub(crate) mod eigen;
pub mod extraction;
pub mod init;
pub mod layers;
pub mod losses;
pub mod match_by_shape;
pub mod memory;
pub(crate) mod native;
pub mod network;
mod network_tensors;
pub mod oracle;
mod pass;
mod pass_builder;
mod position_sums;
pub mod products;
pub mod quantities;
pub mod request;
pub mod results;
pub mod support;
mod sweep;
pub mod tensor_file;
mod values;

pub use native::{KeptMemory, forget_kept_memory, keep_memory};
pub use network::{Network, Part, Value};
pub use pass_builder::Pass;
pub use products::{Linearised, fisher_mc_product, ggn_product, hessian_product};
pub use quantities::BuiltIn;
pub use request::{Labels, Request};
pub use results::{AsParameter, Quantities};
pub use sweep::{Carried, Onward};
