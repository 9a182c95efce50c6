//! What a symmetric matrix has to offer: products with vectors.

use rand::Rng;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::random::{Purpose, normal, stream};

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
pub(super) fn normal_vector(matrix: &dyn Symmetric, seed: u64, number: u64) -> Tensor {
    let (kind, device) = matrix.options();
    let draws = normal(&mut stream(seed, Purpose::Spectrum, number), &[matrix.dimension()]);
    draws.to_kind(kind).to_device(device)
}

/// A random vector of entries 1 and -1 with even chances, `[P]`; numbers are apart from those of [`normal_vector`].
pub(super) fn sign_vector(matrix: &dyn Symmetric, seed: u64, number: u64) -> Tensor {
    let (kind, device) = matrix.options();
    let mut bits = vec![0u8; matrix.dimension() as usize];
    stream(seed, Purpose::Spectrum, number).fill_bytes(&mut bits);
    let signs: Vec<i8> = bits.into_iter().map(|bits| if bits & 1 == 1 { 1 } else { -1 }).collect();
    Tensor::from_slice(&signs).to_kind(kind).to_device(device)
}

/// A vector of doubles on the CPU as a list.
pub(super) fn doubles(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(tensor.to_kind(Kind::Double).to_device(Device::Cpu).flatten(0, -1).contiguous())?)
}
