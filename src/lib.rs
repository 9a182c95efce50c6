//! BackPACK in Rust: individual gradients, variances and curvature from one backward pass.
//!
//! Automatic differentiation computes the gradient of a mini-batch and throws away what it passes on the way. This crate
//! keeps it: the quantities of Dangel, Kunstner and Hennig, "BackPACK: Packing more into backprop" (ICLR 2020), from an
//! extended backward pass of its own, layer by layer, on libtorch. Below is the paper's Figure 1, the gradient and
//! the variance of the individual gradients, of a network with two layers:
//!
//! ```
//! use backpack_run::backpack::layers::{Activation, Linear, LinearOptions, Relu};
//! use backpack_run::backpack::{BuiltIn::{Grad, Variance}, Network, Pass, losses::CrossEntropy};
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> backpack_run::Result<()> {
//! let linear = |inputs: i64, outputs| Linear::new(&[inputs], &LinearOptions { out_features: outputs, bias: true });
//! let (first, second) = (linear(784, 32)?, linear(32, 10)?);
//! let network = Network::sequential(vec![Box::new(first), Box::new(Activation::new(Relu {})), Box::new(second)]);
//! let (x, y) = (Tensor::randn([128, 784], (Kind::Float, Device::Cpu)), Tensor::zeros([128], (Kind::Int64, Device::Cpu)));
//! let result = Pass::new(&network, &CrossEntropy::default()).take([Grad, Variance])?.run(&x, &y)?;
//! for name in result.parameter_names() {
//!     let (gradient, variance) = (result.get(Grad, name)?, result.get(Variance, name)?);
//!     println!("{name}: gradient of {:?}, variance of {:?}", gradient.size(), variance.size());
//! #   assert_eq!(gradient.size(), variance.size());
//! #   assert!(gradient.norm().double_value(&[]) > 1e-4, "{name} has no gradient");
//! #   assert!(variance.max().double_value(&[]) > 1e-12, "{name} has no variance");
//! }
//! # assert_eq!(result.parameter_names().len(), 4);
//! # Ok(())
//! # }
//! ```
//!
//! Where to go from here:
//!
//! * [`backpack`]: networks, [layers](backpack::layers), [losses](backpack::losses), the
//!   [pass](backpack::Pass) and its [quantities](backpack::quantities), and matrix-free
//!   [products](backpack::products) with the GGN, the Hessian and the sampled Fisher. Layers and quantities of your own
//!   are a trait each: see examples/custom_layer.rs and examples/custom_quantity.rs.
//! * [`spectrum`]: eigenvalues, trace and spectral density of these matrices.
//! * [`optimizers`]: the paper's damped curvature rules and others, and SGD, Momentum, Adam, AdamW, Muon, SOAP and Shampoo.
//! * [`problems`]: data sets and problem files.
//! * [`study`]: runs and grids, as on the command line.
//! * [`Registry`]: problems, data sets, layers, quantities and optimizers of your own, for a program of your own; see
//!   docs/rust.md and examples/.
//! * From Python: the package `backpack_run` computes on torch's own tensors (docs/python.md), and `backpack-run extract` takes
//!   a batch and weights from safetensors files and writes the quantities to one (docs/extract.md).

#![cfg_attr(
    not(feature = "program"),
    allow(dead_code, unused_imports, reason = "the program uses what the library alone does not show")
)]

mod atomic;
pub mod backpack;
pub mod bench;
#[cfg(feature = "program")]
#[doc(hidden)]
pub mod cli;
pub mod config;
mod digits;
mod doctor;
mod entries;
pub mod error;
mod external;
mod files;
pub mod import;
pub mod interrupt;
pub mod numbers;
pub mod optimizers;
#[doc(hidden)]
pub mod panics;
pub mod problems;
mod process_memory;
pub mod provenance;
pub mod random;
mod registry;
pub mod report;
pub mod runtime;
pub mod signals;
pub mod spectrum;
mod statistics;
pub mod study;
mod suggest;
mod table;
mod tensor_head;
mod words;

pub use error::{Error, Result};
pub use registry::Registry;

/// The whole command line, with what a registry holds: what `main` of a program of one's own calls.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     backpack_run::program(backpack_run::Registry::new())
/// }
/// ```
#[cfg(feature = "program")]
pub fn program(registry: Registry) -> std::process::ExitCode {
    program_with(registry, std::env::args_os()).into()
}

/// The same with these arguments, of which the first is the program's name; gives the exit code.
#[cfg(feature = "program")]
pub fn program_with(registry: Registry, arguments: impl IntoIterator<Item = std::ffi::OsString>) -> u8 {
    cli::main(registry, arguments)
}
