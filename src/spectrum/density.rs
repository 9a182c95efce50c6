//! Spectral density and trace from products with random vectors.
//!
//! The density is by stochastic Lanczos quadrature (Ubaru, Chen and Saad, 2017, "Fast estimation of tr(f(A)) via
//! stochastic Lanczos quadrature"; for networks Ghorbani, Krishnan and Xiao, 2019, "An investigation into neural net
//! optimization via Hessian eigenvalue density").
//!
//! From a random vector the Lanczos process gives a quadrature: nodes, and weights that add up to one. In expectation
//! over vectors it is the share of the eigenvalues at each place, as far as so many steps resolve it. The density is the
//! quadratures' mean, each node spread to a normal distribution.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};
use tch::{Kind, Tensor};

use super::krylov::{Krylov, epsilon};
use super::{Symmetric, doubles, sign_vector};
use crate::error::{Error, Result};

/// Numbers of random vectors begin here; those of one start lie together.
const DENSITY_VECTORS: u64 = 2 << 40;
/// Numbers between the starts.
const STRIDE: u64 = 1 << 20;
/// Points of the curve.
const POINTS: usize = 1001;
/// How far the curve goes beyond the outermost nodes, in widths.
const MARGIN: f64 = 5.0;

/// How a density is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DensitySettings {
    /// Random vectors to start from.
    pub vectors: usize,
    /// Steps from each.
    pub steps: usize,
    /// The standard deviation of the distribution that a node becomes; None is a hundredth of the spectrum's extent.
    pub width: Option<f64>,
    /// The seed of random vectors.
    pub seed: u64,
}

/// The quadrature of one start: what share of the eigenvalues lies where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quadrature {
    /// Where, ascending.
    pub nodes: Vec<f64>,
    /// Shares, which add up to one.
    pub weights: Vec<f64>,
}

/// A density: for each of a row of places the share of the eigenvalues by length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Density {
    /// The standard deviation of the distribution that a node has become.
    pub width: f64,
    /// The products that it took.
    pub products: usize,
    /// One a start.
    pub quadratures: Vec<Quadrature>,
    /// Places, ascending.
    pub places: Vec<f64>,
    /// The mean over starts.
    pub density: Vec<f64>,
    /// The least of the starts.
    pub low: Vec<f64>,
    /// The greatest.
    pub high: Vec<f64>,
}

/// The density of the matrix's spectrum.
///
/// # Errors
/// As [`Symmetric::times`]; [`crate::Error::Torch`] where products are not finite.
pub fn density(matrix: &mut dyn Symmetric, settings: &DensitySettings) -> Result<Density> {
    let mut quadratures = Vec::new();
    let mut products = 0;
    for start in 0..settings.vectors.max(1) {
        let number = DENSITY_VECTORS + start as u64 * STRIDE;
        let mut krylov = Krylov::new(matrix, settings.steps, settings.seed, number)?;
        while !(krylov.is_full() || krylov.is_closed()) {
            krylov.step(matrix)?;
            products += 1;
        }
        let ritz = krylov.ritz()?;
        quadratures.push(Quadrature { nodes: ritz.values, weights: ritz.first_squared });
    }
    let nodes = || quadratures.iter().flat_map(|quadrature| quadrature.nodes.iter().copied());
    let (least, greatest) = (nodes().fold(f64::INFINITY, f64::min), nodes().fold(f64::NEG_INFINITY, f64::max));
    let extent = greatest - least;
    let default = if extent > 0.0 { extent / 100.0 } else { greatest.abs().max(1.0) / 100.0 };
    let width = settings.width.unwrap_or(default);
    let (first, last) = (least - MARGIN * width, greatest + MARGIN * width);
    let places: Vec<f64> =
        (0..POINTS).map(|point| first + (last - first) * point as f64 / (POINTS - 1) as f64).collect();
    let mut curve = Density { width, products, places, quadratures, density: Vec::new(), low: vec![], high: vec![] };
    for place in &curve.places {
        let each: Vec<f64> = curve.quadratures.iter().map(|quadrature| quadrature.at(*place, width)).collect();
        curve.density.push(each.iter().sum::<f64>() / each.len() as f64);
        curve.low.push(each.iter().copied().fold(f64::INFINITY, f64::min));
        curve.high.push(each.iter().copied().fold(0.0, f64::max));
    }
    Ok(curve)
}

impl Quadrature {
    /// The density at a place, each node spread to a normal distribution of this standard deviation.
    fn at(&self, place: f64, width: f64) -> f64 {
        let factor = 1.0 / (width * (2.0 * std::f64::consts::PI).sqrt());
        let each = self.nodes.iter().zip(&self.weights);
        each.map(|(node, weight)| weight * factor * (-0.5 * ((place - node) / width).powi(2)).exp()).sum()
    }
}

// Hutch++ (Meyer, Musco, Musco and Woodruff, 2021, "Hutch++: Optimal stochastic trace estimation"): the trace of a
// symmetric matrix from products.
//
// A third of the products finds directions in which the matrix is large, a third gives the trace on them exactly, and a
// third estimates what is left with random signs. The spread of the last gives the interval.

/// How likely the interval holds the trace.
pub const CONFIDENCE: f64 = 0.99;

/// Numbers of random vectors begin here.
const TRACE_VECTORS: u64 = 1 << 40;

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
        let number = |place| TRACE_VECTORS + (first + place) as u64;
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
