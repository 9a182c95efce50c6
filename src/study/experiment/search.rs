//! Settings drawn from the range of a grid instead of the grid's own: random search, and Halton's sequence.

use std::fmt;

use rand::RngExt;

use crate::random::{Purpose, stream};

/// How settings are drawn.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchKind {
    /// Independent draws from streams keyed by grid_seed and the setting's number
    Random,
    /// Halton's sequence from its first point on: base 2 for learning rates, base 3 for dampings
    Halton,
}

impl SearchKind {
    /// All of them by name.
    pub const NAMES: [(&'static str, SearchKind); 2] = [("random", SearchKind::Random), ("halton", SearchKind::Halton)];

    /// The name in files and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            SearchKind::Random => "random",
            SearchKind::Halton => "halton",
        }
    }
}

impl fmt::Display for SearchKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A search over the range that a grid's values span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// How settings are drawn.
    pub kind: SearchKind,
    /// How many.
    pub budget: usize,
}

impl Search {
    /// The settings: log-uniform between the least and the largest of the given values, with six significant digits.
    /// Where every axis has one value they are all the same one, given once. A larger budget adds to a smaller one's.
    pub fn points(self, grid_seed: u64, learning_rates: &[f64], dampings: &[f64]) -> Vec<(f64, Option<f64>)> {
        let mut points = Vec::with_capacity(self.budget);
        for number in 0..self.budget as u64 {
            let [first, second] = match self.kind {
                SearchKind::Random => {
                    let mut generator = stream(grid_seed, Purpose::Search, number);
                    [generator.random(), generator.random()]
                }
                SearchKind::Halton => [radical_inverse(number + 1, 2), radical_inverse(number + 1, 3)],
            };
            let damping = (!dampings.is_empty()).then(|| between(dampings, second));
            let point = (between(learning_rates, first), damping);
            if !points.contains(&point) {
                points.push(point);
            }
        }
        points
    }
}

/// The value at `share` of the way from the least to the largest, on a logarithmic axis.
fn between(values: &[f64], share: f64) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if least == largest {
        return least;
    }
    let value = (least.ln() + share * (largest.ln() - least.ln())).exp();
    // Logarithms may differ in their last digits from machine to machine; what is trained and its folder must not.
    format!("{value:.5e}").parse().unwrap_or(value).clamp(least, largest)
}

/// The digits of a number in this base, mirrored at the point: an element of van der Corput's sequence.
fn radical_inverse(mut number: u64, base: u64) -> f64 {
    let (mut inverse, mut unit) = (0.0, 1.0 / base as f64);
    while number > 0 {
        inverse += (number % base) as f64 * unit;
        number /= base;
        unit /= base as f64;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halton_is_the_known_sequence() {
        let base_2: Vec<f64> = (1..=5).map(|number| radical_inverse(number, 2)).collect();
        assert_eq!(base_2, [0.5, 0.25, 0.75, 0.125, 0.625]);
        let base_3: Vec<f64> = (1..=4).map(|number| radical_inverse(number, 3)).collect();
        for (found, expected) in base_3.iter().zip([1.0 / 3.0, 2.0 / 3.0, 1.0 / 9.0, 4.0 / 9.0]) {
            assert!((found - expected).abs() < 1e-15);
        }
        let search = Search { kind: SearchKind::Halton, budget: 3 };
        let points = search.points(0, &[1e-4, 1.0, 0.1], &[1e-3, 1.0]);
        // Thirds of three decades: 1e-2, 1e-1, and a ninth of them, 10^(-3 + 1/3).
        assert_eq!(points, [(1e-2, Some(1e-2)), (1e-3, Some(0.1)), (0.1, Some(2.15443e-3))]);
    }

    #[test]
    fn random_draws_fill_the_range_evenly_on_a_logarithmic_axis() {
        let search = Search { kind: SearchKind::Random, budget: 2000 };
        let points = search.points(42, &[1e-4, 1.0], &[1e-3, 10.0]);
        assert_eq!(points.len(), 2000);
        assert!(
            points.iter().all(|(lr, damping)| (1e-4..=1.0).contains(lr) && (1e-3..=10.0).contains(&damping.unwrap()))
        );
        let below = points.iter().filter(|(lr, _)| *lr < 1e-2).count();
        assert!((900..1100).contains(&below), "{below} of 2000 in the lower half of the decades");
        let both = points.iter().filter(|(lr, damping)| *lr < 1e-2 && damping.unwrap() < 0.1).count();
        assert!((420..580).contains(&both), "{both}: the axes are not independent");
        assert_ne!(points[0], search.points(43, &[1e-4, 1.0], &[1e-3, 10.0])[0]);
    }

    #[test]
    fn a_larger_budget_keeps_the_settings_of_a_smaller_one() {
        for kind in [SearchKind::Random, SearchKind::Halton] {
            let small = Search { kind, budget: 5 }.points(42, &[1e-4, 1.0], &[]);
            let large = Search { kind, budget: 9 }.points(42, &[1e-4, 1.0], &[]);
            assert_eq!(small, large[..5]);
            assert_eq!(Search { kind, budget: 5 }.points(42, &[0.1], &[0.5]), [(0.1, Some(0.5))]);
        }
    }
}
