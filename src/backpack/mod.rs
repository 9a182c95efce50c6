//! The extended backward pass: everything that a single backward pass can tell beyond the gradient.

pub mod init;
pub mod layers;
pub mod losses;
pub mod native;
