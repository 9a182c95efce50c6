//! Spectra of symmetric matrices that are never formed: eigenvalues at the ends, trace and density, from nothing but
//! products with vectors.
//!
//! * Eigenvalues: the Lanczos process with full reorthogonalisation and thick restarts ([`eigenvalues`]; Lanczos, 1950; Wu and
//!   Simon, 2000).
//! * Trace: Hutch++ with an interval ([`trace`]; Meyer, Musco, Musco and Woodruff, 2021).
//! * Density: stochastic Lanczos quadrature ([`density`]; Ubaru, Chen and Saad, 2017; Ghorbani, Krishnan and Xiao, 2019).
//!
//! [`CurvatureMatrix`] is the generalised Gauss-Newton matrix, the Hessian or the sampled Fisher of a network over any number
//! of samples, whose products can be [kept](Kept) on disk; [`Symmetric`] is what a matrix of your own implements.

mod curvature_matrix;
mod density;
mod eigenvalues;
mod kept;
mod krylov;
mod record;

use rand::Rng;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::random::{Purpose, normal, stream};

pub use curvature_matrix::{CurvatureMatrix, Matrix, Samples};
pub use density::{CONFIDENCE, Density, DensitySettings, Quadrature, Trace, density, trace};
pub use eigenvalues::{Eigenvalue, EigenvalueSettings, Eigenvalues, eigenvalues};
pub use kept::Kept;
pub use record::{About, Record};

/// A symmetric matrix by its products with vectors.
pub trait Symmetric {
    /// The number of rows, P.
    fn dimension(&self) -> i64;

    /// The type and place of its vectors.
    fn options(&self) -> (Kind, Device);

    /// The matrix times each row of `[K, P]`: `[K, P]`.
    ///
    /// # Errors
    /// Where a product cannot be had, or the user has asked to stop.
    fn times(&mut self, vectors: &Tensor) -> Result<Tensor>;
}

/// A random vector of standard normal entries, `[P]`; `number` tells the vectors of one seed apart.
fn normal_vector(matrix: &dyn Symmetric, seed: u64, number: u64) -> Tensor {
    let (kind, device) = matrix.options();
    let draws = normal(&mut stream(seed, Purpose::Spectrum, number), &[matrix.dimension()]);
    draws.to_kind(kind).to_device(device)
}

/// A random vector of entries 1 and -1 with even chances, `[P]`; numbers are apart from those of [`normal_vector`].
fn sign_vector(matrix: &dyn Symmetric, seed: u64, number: u64) -> Tensor {
    let (kind, device) = matrix.options();
    let mut bits = vec![0u8; matrix.dimension() as usize];
    stream(seed, Purpose::Spectrum, number).fill_bytes(&mut bits);
    let signs: Vec<i8> = bits.into_iter().map(|bits| if bits & 1 == 1 { 1 } else { -1 }).collect();
    Tensor::from_slice(&signs).to_kind(kind).to_device(device)
}

/// A vector of doubles on the CPU as a list.
fn doubles(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(tensor.to_kind(Kind::Double).to_device(Device::Cpu).flatten(0, -1).contiguous())?)
}
