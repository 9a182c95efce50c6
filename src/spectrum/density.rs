//! Spectral densities by stochastic Lanczos quadrature (Ubaru, Chen and Saad, 2017, "Fast estimation of tr(f(A)) via
//! stochastic Lanczos quadrature"; for networks Ghorbani, Krishnan and Xiao, 2019, "An investigation into neural net
//! optimization via Hessian eigenvalue density").
//!
//! From a random vector the Lanczos process gives a quadrature: nodes, and weights that add up to one. In expectation
//! over vectors it is the share of the eigenvalues at each place, as far as so many steps resolve it. The density is the
//! quadratures' mean, each node spread to a normal distribution.

use serde::Serialize;

use super::krylov::Krylov;
use super::symmetric::Symmetric;
use crate::error::Result;

/// Numbers of random vectors begin here; those of one start lie together.
const FIRST_VECTOR: u64 = 2 << 40;
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
        let number = FIRST_VECTOR + start as u64 * STRIDE;
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
