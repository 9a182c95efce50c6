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
mod symmetric;
mod trace;

pub use curvature_matrix::{CurvatureMatrix, Matrix, Samples};
pub use density::{Density, DensitySettings, Quadrature, density};
pub use eigenvalues::{Eigenvalue, EigenvalueSettings, Eigenvalues, eigenvalues};
pub use kept::Kept;
pub use record::{About, Record};
pub use symmetric::Symmetric;
pub use trace::{CONFIDENCE, Trace, trace};
