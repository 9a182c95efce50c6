//! Hutch++ (Meyer, Musco, Musco and Woodruff, 2021, "Hutch++: Optimal stochastic trace estimation"): the trace of a
//! symmetric matrix from products.
//!
//! A third of the products finds directions in which the matrix is large, a third gives the trace on them exactly, and a
//! third estimates what is left with random signs. The spread of the last gives the interval.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};
use tch::{Kind, Tensor};

use super::krylov::epsilon;
use super::symmetric::{Symmetric, doubles, sign_vector};
use crate::error::{Error, Result};

/// How likely the interval holds the trace.
pub const CONFIDENCE: f64 = 0.99;

/// Numbers of random vectors begin here.
const FIRST_VECTOR: u64 = 1 << 40;

/// A trace.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// The estimate.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// The half-width of its interval by Student's t at [`CONFIDENCE`], with what rounding may add.
    pub bar: f64,
    /// The products that it took.
    pub products: usize,
}

/// The trace from at most `products` products, six or more.
///
/// # Errors
/// As [`Symmetric::times`]; [`Error::Usage`] for fewer than six products.
pub fn trace(matrix: &mut dyn Symmetric, products: usize, seed: u64) -> Result<Trace> {
    if products < 6 {
        return Err(Error::Usage(format!("a trace takes 6 products or more, not {products}")));
    }
    let count = products / 3;
    let signs = |first: usize, count: usize| {
        let number = |place| FIRST_VECTOR + (first + place) as u64;
        let vectors: Vec<Tensor> = (0..count).map(|place| sign_vector(matrix, seed, number(place))).collect();
        Tensor::stack(&vectors, 0)
    };
    let dimension = signs(0, 1).size()[1] as usize;
    let (sketch, probes) = (signs(0, count.min(dimension)), signs(count, count));
    // Rows that span what the products reach, [k, P].
    let large = Tensor::f_linalg_qr(&matrix.times(&sketch)?.tr(), "reduced")?.0.tr().contiguous();
    drop(sketch);
    let on_large = quadratic_forms(matrix, &large)?;
    let exact: f64 = on_large.iter().sum();
    let mut magnitude: f64 = on_large.iter().map(|value| value.abs()).sum();
    let mut used = 2 * large.size()[0] as usize;
    let mut rest = vec![0.0];
    if (large.size()[0] as usize) < dimension {
        // Twice, so that rounding leaves nothing of the large directions.
        let mut probes = probes;
        for _ in 0..2 {
            probes = &probes - probes.f_mm(&large.tr())?.f_mm(&large)?;
        }
        rest = quadratic_forms(matrix, &probes)?;
        used += rest.len();
    }
    let count = rest.len() as f64;
    let mean = rest.iter().sum::<f64>() / count;
    magnitude += rest.iter().map(|value| value.abs()).sum::<f64>() / count;
    let squares: f64 = rest.iter().map(|value| (value - mean).powi(2)).sum();
    let standard_error = if count > 1.0 { (squares / (count - 1.0) / count).sqrt() } else { 0.0 };
    let rounding = 64.0 * epsilon(matrix.options().0) * magnitude;
    let bar = if count > 1.0 { quantile(count - 1.0)? * standard_error } else { 0.0 } + rounding;
    Ok(Trace { value: exact + mean, standard_error, bar, products: used })
}

/// `u^T A u` for each row u of `[K, P]`.
fn quadratic_forms(matrix: &mut dyn Symmetric, rows: &Tensor) -> Result<Vec<f64>> {
    let products = matrix.times(rows)?;
    doubles(&(products * rows).sum_dim_intlist(1, false, Kind::Double))
}

/// Student's t at the upper end of the interval.
fn quantile(freedom: f64) -> Result<f64> {
    let law = StudentsT::new(0.0, 1.0, freedom).map_err(|error| Error::Environment(format!("Student's t: {error}")))?;
    Ok(law.inverse_cdf((1.0 + CONFIDENCE) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, expected) in [(1.0, 63.657), (9.0, 3.250), (19.0, 2.861)] {
            assert!((quantile(freedom).unwrap() - expected).abs() < 1e-3, "{freedom}");
        }
    }
}
