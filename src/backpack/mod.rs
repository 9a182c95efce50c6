//! The extended backward pass: everything that a single backward pass can tell beyond the gradient.

mod channel_sums;
pub mod draws;
pub mod extraction;
pub mod init;
pub mod layers;
pub mod losses;
pub mod match_by_shape;
pub mod memory;
pub mod native;
pub mod network;
mod network_tensors;
pub mod oracle;
pub mod pass;
mod position_sums;
pub mod products;
pub mod quantities;
pub mod request;
pub mod results;
pub mod support;
mod sweep;
pub mod tensor_file;
mod values;

pub use network::{Network, Part, Value};
pub use pass::{Labels, extended_backward};
pub use products::{Linearised, fisher_mc_product, ggn_product, hessian_product};
pub use request::Request;
pub use results::Quantities;
pub use sweep::{Carried, Onward};
