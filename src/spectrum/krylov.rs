//! The Lanczos process: an orthonormal basis in which a symmetric matrix becomes a small one.
//!
//! Every new vector is made orthogonal to all before it, twice, so that none of them is found again by rounding. The small
//! matrix is kept whole, not as a tridiagonal, so that a basis may begin with vectors that an earlier one has left.

use tch::{Device, Kind, Tensor};

use super::{Symmetric, doubles, normal_vector};
use crate::error::Result;

/// A basis V `[k, P]` with `A V^T = V^T H + beta v e_k^T`, where H is `[k, k]` and v the next vector of the basis; all in the
/// complement of eigenvectors that are locked.
pub(super) struct Krylov {
    /// `[l + m + 1, P]`: the locked vectors, then the basis, then v.
    rows: Tensor,
    /// l.
    locked: usize,
    /// H, row by row, `[m, m]`.
    small: Vec<f64>,
    most: usize,
    /// k.
    size: usize,
    beta: f64,
    seed: u64,
    /// The number of the next random vector.
    next: u64,
}

/// Eigenvalues of the small matrix in ascending order, with what belongs to them.
pub(super) struct Ritz {
    /// `[k]`.
    pub values: Vec<f64>,
    /// The norm of `A u - value u` for each, `[k]`.
    pub residuals: Vec<f64>,
    /// The squared first entry of each eigenvector of the small matrix, `[k]`.
    pub first_squared: Vec<f64>,
    /// Eigenvectors of the small matrix in columns, `[k, k]`.
    vectors: Tensor,
}

impl Krylov {
    /// A basis of at most `most` vectors that begins with the random vector of this number.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn new(matrix: &dyn Symmetric, most: usize, seed: u64, number: u64) -> Result<Self> {
        let most = most.clamp(1, matrix.dimension() as usize);
        let rows = Tensor::f_zeros([most as i64 + 1, matrix.dimension()], matrix.options())?;
        let small = vec![0.0; most * most];
        let mut krylov = Krylov { rows, locked: 0, small, most, size: 0, beta: 0.0, seed, next: number };
        krylov.begin(matrix)?;
        Ok(krylov)
    }

    /// Vectors in the basis.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether no further vector has room.
    pub fn is_full(&self) -> bool {
        self.locked + self.size == self.most
    }

    /// Whether the basis spans everything that products lead to from where it began.
    pub fn is_closed(&self) -> bool {
        self.size > 0 && self.beta == 0.0
    }

    /// Whether basis and locked vectors span everything.
    pub fn is_complete(&self) -> bool {
        self.locked + self.size == self.rows.size()[1] as usize
    }

    /// Takes the next vector in, at the cost of one product.
    ///
    /// # Errors
    /// As [`Symmetric::times`].
    pub fn step(&mut self, matrix: &mut dyn Symmetric) -> Result<()> {
        let place = self.size;
        let product = matrix.times(&self.rows.narrow(0, (self.locked + place) as i64, 1))?.squeeze_dim(0);
        let before = norm(&product)?;
        let (rest, shares) = self.orthogonal(&product, self.locked + place + 1)?;
        for (row, share) in shares[self.locked..].iter().enumerate() {
            self.small[row * self.most + place] = *share;
            self.small[place * self.most + row] = *share;
        }
        self.size += 1;
        self.beta = norm(&rest)?;
        let scale = self.small.iter().fold(before, |largest, entry| largest.max(entry.abs()));
        if self.beta <= 16.0 * epsilon(matrix.options().0) * scale || self.is_complete() {
            // What is left is rounding.
            self.beta = 0.0;
            return Ok(());
        }
        let mut next = rest / self.beta;
        if self.beta < epsilon(matrix.options().0).sqrt() * scale {
            // Little is left, of which rounding has its part.
            next = self.orthogonal(&next, self.locked + self.size)?.0;
            next = &next / next.norm();
        }
        self.rows.get((self.locked + self.size) as i64).copy_(&next);
        Ok(())
    }

    /// Begins anew with a random vector in the complement of the locked ones.
    fn begin(&mut self, matrix: &dyn Symmetric) -> Result<()> {
        let random = normal_vector(matrix, self.seed, self.next);
        self.next += 1;
        let (rest, _) = self.orthogonal(&(&random / random.norm()), self.locked)?;
        self.rows.get(self.locked as i64).copy_(&(&rest / rest.norm()));
        self.small.fill(0.0);
        (self.size, self.beta) = (0, 0.0);
        Ok(())
    }

    /// Eigenvalues of the small matrix.
    ///
    /// # Errors
    /// What libtorch says when the decomposition does not converge, as with entries that are not finite.
    pub fn ritz(&self) -> Result<Ritz> {
        let size = self.size as i64;
        let all = Tensor::from_slice(&self.small).view([self.most as i64, self.most as i64]);
        let (values, vectors) = all.narrow(0, 0, size).narrow(1, 0, size).contiguous().f_linalg_eigh("L")?;
        let last = doubles(&vectors.get(size - 1))?;
        Ok(Ritz {
            values: doubles(&values)?,
            residuals: last.iter().map(|entry| self.beta * entry.abs()).collect(),
            first_squared: doubles(&vectors.get(0).square())?,
            vectors,
        })
    }

    /// Keeps the Ritz vectors at these places alone, and the vector that would have come next.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn restart(&mut self, ritz: &Ritz, places: &[usize]) -> Result<()> {
        let kept = self.vectors_of(ritz, places)?;
        let next = self.rows.get((self.locked + self.size) as i64).copy();
        let count = places.len();
        self.rows.narrow(0, self.locked as i64, count as i64).copy_(&kept);
        self.rows.get((self.locked + count) as i64).copy_(&next);
        self.small.fill(0.0);
        for (place, &old) in places.iter().enumerate() {
            self.small[place * self.most + place] = ritz.values[old];
        }
        self.size = count;
        Ok(())
    }

    /// Locks the Ritz vectors at these places behind those of the locked ones that are kept, and begins anew.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn lock(&mut self, matrix: &dyn Symmetric, kept: &[usize], ritz: &Ritz, places: &[usize]) -> Result<()> {
        let index: Vec<i64> = kept.iter().map(|&place| place as i64).collect();
        let before = self.rows.index_select(0, &Tensor::from_slice(&index).to_device(self.rows.device()));
        let all = Tensor::f_cat(&[before, self.vectors_of(ritz, places)?], 0)?;
        self.locked = kept.len() + places.len();
        self.rows.narrow(0, 0, self.locked as i64).copy_(&all);
        self.begin(matrix)
    }

    /// The vectors of the whole space that belong to Ritz values, `[places, P]`.
    fn vectors_of(&self, ritz: &Ritz, places: &[usize]) -> Result<Tensor> {
        let index: Vec<i64> = places.iter().map(|&place| place as i64).collect();
        let chosen = ritz.vectors.index_select(1, &Tensor::from_slice(&index)).tr();
        let chosen = chosen.to_kind(self.rows.kind()).to_device(self.rows.device());
        Ok(chosen.f_mm(&self.rows.narrow(0, self.locked as i64, self.size as i64))?)
    }

    /// What a vector has beyond the first `count` rows, and its shares in these.
    fn orthogonal(&self, vector: &Tensor, count: usize) -> Result<(Tensor, Vec<f64>)> {
        let rows = self.rows.narrow(0, 0, count as i64);
        let mut rest = vector.shallow_clone();
        let mut shares = vec![0.0; count];
        for _ in 0..2 {
            let share = rows.f_mv(&rest)?;
            rest = rest.f_sub(&rows.tr().f_mv(&share)?)?;
            shares.iter_mut().zip(doubles(&share)?).for_each(|(sum, share)| *sum += share);
        }
        Ok((rest, shares))
    }
}

fn norm(vector: &Tensor) -> Result<f64> {
    Ok(f64::try_from(vector.norm().to_kind(Kind::Double).to_device(Device::Cpu))?)
}

/// The distance from 1 to the next number.
pub(super) fn epsilon(kind: Kind) -> f64 {
    if kind == Kind::Double { f64::EPSILON } else { f32::EPSILON.into() }
}
