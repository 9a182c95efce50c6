//! Eigenvalues at the ends of a spectrum: the Lanczos process with thick restarts (Wu and Simon, 2000, "Thick-restart
//! Lanczos method for large symmetric eigenvalue problems").
//!
//! One start finds one of several equal eigenvalues. Those that are found are therefore locked, and the process begins
//! anew in their complement, until that holds no further one that would be among the wanted.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Symmetric;
use super::krylov::{Krylov, Ritz, epsilon};
use crate::error::Result;

/// Steps after which a complement is known well enough to be told empty.
const LEAST_STEPS: usize = 8;

/// Which eigenvalues are wanted, and how exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EigenvalueSettings {
    /// So many of the largest.
    pub largest: usize,
    /// So many of the smallest, the most negative ones.
    pub smallest: usize,
    /// The residual at which one is taken for found, as a share of the largest in absolute value.
    pub tolerance: f64,
    /// The most products.
    pub products: usize,
    /// The most vectors that are held at a time.
    pub vectors: usize,
    /// The seed of random vectors.
    pub seed: u64,
}

/// An eigenvalue, and the norm of `A u - value u` for its unit vector u: there is an eigenvalue no further away than that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Eigenvalue {
    /// The value.
    pub value: f64,
    /// The norm.
    pub residual: f64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Eigenvalues {
    /// The largest, in descending order.
    pub largest: Vec<Eigenvalue>,
    /// The smallest, in ascending order.
    pub smallest: Vec<Eigenvalue>,
    /// Whether all residuals are within the tolerance and nothing further was found.
    pub converged: bool,
    /// The products that it took.
    pub products: usize,
}

impl EigenvalueSettings {
    /// How many vectors serve well for so many wanted ones of a matrix of `dimension` rows.
    pub fn vectors_for(wanted: usize, dimension: i64) -> usize {
        (3 * wanted + 30).min(dimension.max(1) as usize)
    }
}

/// The eigenvalues at the ends of the matrix's spectrum.
///
/// # Errors
/// As [`Symmetric::times`]; [`crate::Error::Torch`] where products are not finite.
pub fn eigenvalues(matrix: &mut dyn Symmetric, settings: &EigenvalueSettings) -> Result<Eigenvalues> {
    let dimension = matrix.dimension() as usize;
    let largest = settings.largest.min(dimension);
    let wanted = Wanted { largest, smallest: settings.smallest.min(dimension - largest) };
    let mut products = 0;
    if wanted.count() == 0 {
        return Ok(wanted.of(Vec::new(), true, products));
    }
    let most = settings.vectors.max(2 * wanted.count() + LEAST_STEPS);
    let mut krylov = Krylov::new(matrix, most, settings.seed, 0)?;
    // No tolerance below what rounding leaves.
    let tolerance = settings.tolerance.max(8.0 * epsilon(matrix.options().0));
    let mut locked: Vec<Eigenvalue> = Vec::new();
    let mut scale = 0.0f64;
    loop {
        krylov.step(matrix)?;
        products += 1;
        let is_over = products >= settings.products;
        let (is_full, is_closed) = (krylov.is_full(), krylov.is_closed());
        if !(is_over || is_full || is_closed || krylov.size().is_multiple_of(4)) {
            continue;
        }
        let ritz = krylov.ritz()?;
        scale = ritz.values.iter().fold(scale, |largest, value| largest.max(value.abs()));
        let found = match is_closed || locked.is_empty() || krylov.size() >= LEAST_STEPS {
            true => wanted.found(&ritz, &locked, tolerance * scale),
            false => None,
        };
        if let Some(places) = found {
            let (is_last, is_complete) = (places.is_empty(), krylov.is_complete());
            let new = places.iter().map(|&place| ritz.at(place));
            let all: Vec<Eigenvalue> = locked.iter().copied().chain(new).collect();
            let chosen = wanted.chosen(&all);
            if is_last || is_complete || chosen.len() == dimension {
                return Ok(wanted.of(all, true, products));
            }
            let (kept, rest): (Vec<usize>, Vec<usize>) = chosen.into_iter().partition(|&place| place < locked.len());
            let new: Vec<usize> = rest.into_iter().map(|place| places[place - locked.len()]).collect();
            locked = kept.iter().map(|&place| locked[place]).chain(new.iter().map(|&place| ritz.at(place))).collect();
            if is_over {
                return Ok(wanted.of(all, false, products));
            }
            krylov.lock(matrix, &kept, &ritz, &new)?;
        } else if is_over {
            let all = locked.iter().copied().chain((0..ritz.values.len()).map(|place| ritz.at(place)));
            return Ok(wanted.of(all.collect(), false, products));
        } else if is_full {
            let kept: Vec<usize> = wanted.wider(krylov.size() / 2).places(ritz.values.len()).collect();
            krylov.restart(&ritz, &kept)?;
        }
    }
}

impl Ritz {
    fn at(&self, place: usize) -> Eigenvalue {
        Eigenvalue { value: self.values[place], residual: self.residuals[place] }
    }
}

/// How many are wanted at each end.
#[derive(Clone, Copy)]
struct Wanted {
    largest: usize,
    smallest: usize,
}

impl Wanted {
    fn count(self) -> usize {
        self.largest + self.smallest
    }

    /// With more at the same ends, about `most` in all.
    fn wider(self, most: usize) -> Self {
        let factor = (most / self.count()).max(1);
        Wanted { largest: self.largest * factor, smallest: self.smallest * factor }
    }

    /// Their places among so many values in ascending order, none twice.
    fn places(self, count: usize) -> impl Iterator<Item = usize> {
        let smallest = self.smallest.min(count);
        (0..smallest).chain(count.saturating_sub(self.largest).max(smallest)..count)
    }

    /// The places of the wanted ones among these, in any order.
    fn chosen(self, all: &[Eigenvalue]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|&one, &other| all[one].value.total_cmp(&all[other].value));
        self.places(all.len()).map(|place| order[place]).collect()
    }

    /// The Ritz values that are among the wanted beside the locked ones; None where that cannot be told yet.
    fn found(self, ritz: &Ritz, locked: &[Eigenvalue], bound: f64) -> Option<Vec<usize>> {
        let count = ritz.values.len();
        let mut sorted: Vec<f64> = locked.iter().map(|one| one.value).collect();
        sorted.sort_by(f64::total_cmp);
        // An end where enough are locked has use only for what lies beyond the last of them.
        let least = sorted.len().checked_sub(self.largest).and_then(|place| sorted.get(place));
        let most = self.smallest.checked_sub(1).and_then(|place| sorted.get(place));
        let mut found = BTreeSet::new();
        let mut end = |place: usize, beyond: Option<f64>| -> Option<bool> {
            let residual = ritz.residuals[place];
            if beyond.is_some_and(|distance| distance + 3.0 * residual <= bound) {
                return Some(false);
            }
            (residual <= bound).then(|| found.insert(place))?;
            Some(true)
        };
        for place in (0..count).rev().take(self.largest) {
            if !end(place, least.map(|least| ritz.values[place] - least))? {
                break;
            }
        }
        for place in (0..count).take(self.smallest) {
            if !end(place, most.map(|most| most - ritz.values[place]))? {
                break;
            }
        }
        let is_closed = ritz.residuals.iter().all(|residual| *residual == 0.0);
        let has_enough = locked.len() + found.len() >= self.count().min(locked.len() + count);
        (is_closed || has_enough || !locked.is_empty()).then(|| found.into_iter().collect())
    }

    /// The result, from all that is known.
    fn of(self, mut all: Vec<Eigenvalue>, converged: bool, products: usize) -> Eigenvalues {
        all.sort_by(|one, other| one.value.total_cmp(&other.value));
        let largest = all.iter().rev().take(self.largest).copied().collect();
        let smallest = all.iter().take(self.smallest).copied().collect();
        Eigenvalues { largest, smallest, converged, products }
    }
}
