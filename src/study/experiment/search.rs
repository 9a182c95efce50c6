//! Settings drawn from the range of a grid instead of the grid's own: random search, and Halton's sequence.

use std::fmt;

use rand::RngExt;
use serde::Deserialize;

use crate::random::{Purpose, stream};

/// How settings are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchKind {
    /// Independent draws from streams keyed by grid_seed and the setting's number.
    Random,
    /// Halton's sequence from its first point on: base 2 for learning rates, base 3 for dampings, then 5, 7, ... for
    /// options.
    Halton,
}

impl SearchKind {
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

/// A setting of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The learning rate.
    pub learning_rate: f64,
    /// The damping; none for the baselines.
    pub damping: Option<f64>,
    /// Of each option of the grid, which of its values.
    pub options: Vec<usize>,
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
    /// An option takes each of its values equally often; `options` has their numbers. Where every axis has one value the
    /// settings are all the same one, given once. A larger budget adds to a smaller one's.
    pub fn points(self, grid_seed: u64, learning_rates: &[f64], dampings: &[f64], options: &[usize]) -> Vec<Point> {
        let several: Vec<usize> = options.iter().copied().filter(|values| *values > 1).collect();
        let mut points = Vec::with_capacity(self.budget);
        for number in 0..self.budget as u64 {
            let shares: Vec<f64> = match self.kind {
                SearchKind::Random => {
                    let mut generator = stream(grid_seed, Purpose::Search, number);
                    (0..2 + several.len()).map(|_| generator.random()).collect()
                }
                SearchKind::Halton => {
                    primes().take(2 + several.len()).map(|base| radical_inverse(number + 1, base)).collect()
                }
            };
            let learning_rate = between(learning_rates, shares[0]);
            let damping = (!dampings.is_empty()).then(|| between(dampings, shares[1]));
            let mut rest = shares[2..].iter();
            let mut place = |values: usize| {
                let share = if values > 1 { rest.next().copied().unwrap_or(0.0) } else { 0.0 };
                ((share * values as f64) as usize).min(values.saturating_sub(1))
            };
            let options = options.iter().map(|values| place(*values)).collect();
            let point = Point { learning_rate, damping, options };
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

/// 2, 3, 5 and so on.
fn primes() -> impl Iterator<Item = u64> {
    (2..).filter(|number| (2..*number).all(|divisor| number % divisor != 0))
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
        let points = search.points(0, &[1e-4, 1.0, 0.1], &[1e-3, 1.0], &[]);
        // Thirds of three decades: 1e-2, 1e-1, and a ninth of them, 10^(-3 + 1/3).
        assert_eq!(pairs(&points), [(1e-2, Some(1e-2)), (1e-3, Some(0.1)), (0.1, Some(2.15443e-3))]);
    }

    fn pairs(points: &[Point]) -> Vec<(f64, Option<f64>)> {
        points.iter().map(|point| (point.learning_rate, point.damping)).collect()
    }

    #[test]
    fn options_take_their_values_equally_often_and_change_no_learning_rate() {
        assert_eq!(primes().take(5).collect::<Vec<_>>(), [2, 3, 5, 7, 11]);
        for kind in [SearchKind::Random, SearchKind::Halton] {
            let search = Search { kind, budget: 600 };
            let points = search.points(42, &[1e-4, 1.0], &[1e-3, 1.0], &[1, 2, 3]);
            assert_eq!(pairs(&points), pairs(&search.points(42, &[1e-4, 1.0], &[1e-3, 1.0], &[])));
            assert!(points.iter().all(|point| point.options[0] == 0));
            for (place, values) in [(1, 2), (2, 3)] {
                for value in 0..values {
                    let count = points.iter().filter(|point| point.options[place] == value).count();
                    let expected = 600 / values;
                    assert!(count.abs_diff(expected) < expected / 5, "{kind}: {count} of {expected}");
                }
            }
        }
    }

    #[test]
    fn random_draws_fill_the_range_evenly_on_a_logarithmic_axis() {
        let search = Search { kind: SearchKind::Random, budget: 2000 };
        let all = search.points(42, &[1e-4, 1.0], &[1e-3, 10.0], &[]);
        let points = pairs(&all);
        assert_eq!(points.len(), 2000);
        assert!(
            points.iter().all(|(lr, damping)| (1e-4..=1.0).contains(lr) && (1e-3..=10.0).contains(&damping.unwrap()))
        );
        let below = points.iter().filter(|(lr, _)| *lr < 1e-2).count();
        assert!((900..1100).contains(&below), "{below} of 2000 in the lower half of the decades");
        let both = points.iter().filter(|(lr, damping)| *lr < 1e-2 && damping.unwrap() < 0.1).count();
        assert!((420..580).contains(&both), "{both}: the axes are not independent");
        assert_ne!(all[0], search.points(43, &[1e-4, 1.0], &[1e-3, 10.0], &[])[0]);
    }

    #[test]
    fn a_larger_budget_keeps_the_settings_of_a_smaller_one() {
        for kind in [SearchKind::Random, SearchKind::Halton] {
            let small = Search { kind, budget: 5 }.points(42, &[1e-4, 1.0], &[], &[2]);
            let large = Search { kind, budget: 9 }.points(42, &[1e-4, 1.0], &[], &[2]);
            assert_eq!(small, large[..5]);
            let one = Search { kind, budget: 5 }.points(42, &[0.1], &[0.5], &[1]);
            assert_eq!(one, [Point { learning_rate: 0.1, damping: Some(0.5), options: vec![0] }]);
        }
    }
}
