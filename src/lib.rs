//! BackPACK in Rust: individual gradients, variances and curvature from one backward pass.
//!
//! Automatic differentiation computes the gradient of a mini-batch and throws away what it passes on the way. This crate
//! keeps it: the quantities of Dangel, Kunstner and Hennig, "BackPACK: Packing more into backprop" (ICLR 2020), from an
//! extended backward pass of its own, layer by layer, on libtorch. Below is the paper's Figure 1, the gradient and
//! the variance of the individual gradients of a linear model:
//!
//! ```
//! use backpack_run::backpack::layers::{Linear, LinearOptions, Mode};
//! use backpack_run::backpack::{Labels, Network, Request, extended_backward, losses::CrossEntropy};
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> backpack_run::Result<()> {
//! let (x, y) = (Tensor::randn([128, 784], (Kind::Float, Device::Cpu)), Tensor::zeros([128], (Kind::Int64, Device::Cpu)));
//! let model = Network::sequential(vec![Box::new(Linear::new(&[784], &LinearOptions { out_features: 10, bias: true })?)]);
//! let (loss, request) = (CrossEntropy::default(), Request::new(["grad", "variance"])?);
//! let labels = Labels::Drawn { seed: 0, step: 0 }; // for quantities that sample labels; there are none here
//! let result = extended_backward(&model, &loss, &x, &y, Mode::Evaluation, &request, labels)?;
//! for (place, parameter) in model.parameters().iter().enumerate() {
//!     let (gradient, variance) = (result.get("grad", place).unwrap(), result.get("variance", place).unwrap());
//!     println!("{}: gradient {:?}, variance {:?}", parameter.name, gradient.size(), variance.size());
//! #   assert_eq!(gradient.size(), parameter.value.size());
//! #   assert_eq!(variance.size(), parameter.value.size());
//! #   assert!(variance.min().double_value(&[]) > -1e-9 && gradient.abs().max().double_value(&[]) > 0.0);
//! }
//! # assert!(result.loss_value()?.is_finite());
//! # Ok(())
//! # }
//! ```
//!
//! Where to go from here:
//!
//! * [`backpack`]: networks, [layers](backpack::layers), [losses](backpack::losses), the
//!   [pass](backpack::extended_backward) and its [quantities](backpack::quantities), and matrix-free
//!   [products](backpack::products) with the GGN, the Hessian and the sampled Fisher. Layers and quantities of your own
//!   are a trait each: see examples/custom_layer.rs and examples/custom_quantity.rs.
//! * [`optimizers`]: SGD, Momentum, Adam, and the paper's damped curvature rule.
//! * [`problems`]: data sets and problem files.
//! * [`study`]: runs and grids, as on the command line.
//! * From Python: `backpack-run extract` takes a batch and weights from safetensors files and writes the quantities to
//!   one; see docs/extract.md.

pub mod backpack;
pub mod bench;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod error;
mod external;
mod files;
pub mod import;
pub mod optimizers;
pub mod problems;
mod process_memory;
pub mod random;
pub mod report;
pub mod runtime;
mod statistics;
pub mod study;
mod table;
mod tensor_head;
mod words;

pub use error::{Error, Result};
