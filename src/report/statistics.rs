//! The statistics of a report: bootstrap intervals, sign-flip permutation tests, Holm's correction, and the
//! expected best of a few tries. Plain functions of slices, with hand-computed tests.

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal};

use crate::statistics::{quantile, sorted};

/// Resamples of a bootstrap interval.
pub const BOOTSTRAP_RESAMPLES: usize = 10_000;
/// Up to so many pairs, every assignment of signs is counted (4096); above, as many are drawn as [`SIGN_DRAWS`].
pub const EXACT_PAIRS: usize = 12;
/// Assignments of signs that are drawn where there are too many to count.
pub const SIGN_DRAWS: usize = 100_000;

/// The mean; NaN without values.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A bootstrap interval (bias-corrected and accelerated, Efron 1987) of the mean that covers `level`, say 0.95.
///
/// The resamples are drawn from `seed` alone, so the interval is the same on every call. Where all values are equal it
/// is that value twice.
pub fn bootstrap_interval(values: &[f64], level: f64, seed: u64) -> (f64, f64) {
    let (n, observed) = (values.len(), mean(values));
    if n < 2 || values.iter().all(|&value| value == values[0]) {
        return (observed, observed);
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..BOOTSTRAP_RESAMPLES)
        .map(|_| (0..n).map(|_| values[generator.random_range(0..n)]).sum::<f64>() / n as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    // Resamples that hit the observed mean count half, else few distinct values would pass for a bias.
    let tolerance = 1e-12 * values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let below = means.iter().filter(|&&value| value < observed - tolerance).count() as f64;
    let equal = means.iter().filter(|&&value| (value - observed).abs() <= tolerance).count() as f64;
    let share = (below + equal / 2.0) / means.len() as f64;
    let bias = normal_quantile(share.clamp(0.5 / means.len() as f64, 1.0 - 0.5 / means.len() as f64));
    // The acceleration from the jackknife; leaving value i out moves the mean by (mean - value_i) / (n - 1).
    let deviations: Vec<f64> = values.iter().map(|value| value - observed).collect();
    let squares: f64 = deviations.iter().map(|d| d * d).sum();
    let cubes: f64 = deviations.iter().map(|d| d * d * d).sum();
    let acceleration = cubes / (6.0 * squares.powf(1.5));
    let end = |probability: f64| {
        let z = bias + normal_quantile(probability);
        quantile(&means, normal_cdf(bias + z / (1.0 - acceleration * z)))
    };
    (end((1.0 - level) / 2.0), end((1.0 + level) / 2.0))
}

/// The two-sided p of the sign-flip permutation test that the differences' mean is zero.
///
/// Under the hypothesis each difference is as likely as its negative. Up to [`EXACT_PAIRS`] differences all assignments
/// of signs are counted, so the smallest p of n differences is 2 / 2^n; above, draws from `seed`, and p is (1 + those
/// at least as large) / (1 + draws). Without differences p is 1.
pub fn sign_flip_test(differences: &[f64], seed: u64) -> f64 {
    let n = differences.len();
    let observed = differences.iter().sum::<f64>().abs();
    // Sums of the same terms in another order may differ in their last digits.
    let bound = observed - 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let sum = |bits: u128| -> f64 {
        differences.iter().enumerate().map(|(i, d)| if bits >> (i % 128) & 1 == 1 { -d } else { *d }).sum()
    };
    if n <= EXACT_PAIRS {
        let all = 1u128 << n;
        return (0..all).filter(|&bits| sum(bits).abs() >= bound).count() as f64 / all as f64;
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut flipped = || -> f64 { differences.iter().map(|d| if generator.random::<bool>() { -d } else { *d }).sum() };
    let extreme = (0..SIGN_DRAWS).filter(|_| flipped().abs() >= bound).count();
    (1 + extreme) as f64 / (1 + SIGN_DRAWS) as f64
}

/// Holm's step-down correction: the p that bounds the chance of one or more false finding among all of them.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![0.0; p.len()];
    let mut largest = 0.0f64;
    for (place, &i) in order.iter().enumerate() {
        largest = largest.max(p[i] * (p.len() - place) as f64).min(1.0);
        corrected[i] = largest;
    }
    corrected
}

/// The expected best (largest, or smallest) of k of the values, drawn without putting back, for k = 1 to their number.
pub fn expected_best(values: &[f64], larger_is_better: bool) -> Vec<f64> {
    let mut sorted = sorted(values);
    if !larger_is_better {
        sorted.reverse();
    }
    let n = sorted.len();
    // The chance that the i-th from below (from 0) is the best of k is C(i, k-1) / C(n, k).
    let mut chances: Vec<f64> = vec![1.0 / n as f64; n];
    (1..=n)
        .map(|k| {
            let expected = sorted.iter().zip(&chances).filter(|(_, c)| **c > 0.0).map(|(v, c)| v * c).sum();
            // C(i, k) / C(n, k+1) from C(i, k-1) / C(n, k).
            for (i, chance) in chances.iter_mut().enumerate() {
                let left = (i + 1).saturating_sub(k) as f64;
                *chance *= left / k as f64 * (k + 1) as f64 / (n - k).max(1) as f64;
            }
            expected
        })
        .collect()
}

fn normal_cdf(x: f64) -> f64 {
    Normal::standard().cdf(x)
}

fn normal_quantile(probability: f64) -> f64 {
    Normal::standard().inverse_cdf(probability)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn sign_flips_are_counted() {
        // Of the eight sums of +-1 +-2 +-3, the two of size six are as large as the observed one.
        assert_eq!(sign_flip_test(&[1.0, 2.0, 3.0], 0), 0.25);
        // 1 + 2 - 3 = 0: every assignment is at least as large.
        assert_eq!(sign_flip_test(&[1.0, 2.0, -3.0], 0), 1.0);
        // |-1 + 2 + 3| = 4: +-6 and +-4 are at least as large.
        assert_eq!(sign_flip_test(&[-1.0, 2.0, 3.0], 0), 0.5);
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(sign_flip_test(&ten, 0), 2.0 / 1024.0);
        assert_eq!(sign_flip_test(&[], 0), 1.0);
        // The most that are counted, and sums that differ from the observed one by rounding alone.
        let twelve: Vec<f64> = (1..=12).map(f64::from).collect();
        assert_eq!(sign_flip_test(&twelve, 0), 2.0 / 4096.0);
        assert_eq!(sign_flip_test(&[0.1, 0.2, 0.3, -0.6], 0), 1.0);
        assert_eq!(sign_flip_test(&[0.1, 0.2, 0.4, 0.3], 0), 2.0 / 16.0);
        // |3 - 1 + 2| = 4, as above in another order.
        assert_eq!(sign_flip_test(&[3.0, -1.0, 2.0], 0), 0.5);
    }

    #[test]
    fn many_pairs_are_drawn() {
        // Half of the assignments of fourteen equal terms that balance less: P(|sum| >= 2) = 1 - C(14,7)/2^14.
        let differences: Vec<f64> = (0..14).map(|i| if i < 8 { 1.0 } else { -1.0 }).collect();
        let p = sign_flip_test(&differences, 3);
        near(p, 1.0 - 3432.0 / 16384.0, 0.005);
        assert_eq!(p, sign_flip_test(&differences, 3));
        // None of the draws is as large as what was observed, which counts as one of them.
        let forty: Vec<f64> = (1..=40).map(f64::from).collect();
        assert_eq!(sign_flip_test(&forty, 3), 1.0 / 100_001.0);
    }

    #[test]
    fn holm_steps_down() {
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            near(*found, expected, 1e-12);
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }

    #[test]
    fn the_expected_best_of_all_is_the_best() {
        // Of {1, 2, 4}: one draw 7/3; two draws: pairs' maxima 2, 4, 4; three: 4.
        for (found, expected) in expected_best(&[4.0, 1.0, 2.0], true).iter().zip([7.0 / 3.0, 10.0 / 3.0, 4.0]) {
            near(*found, expected, 1e-12);
        }
        for (found, expected) in expected_best(&[4.0, 1.0, 2.0], false).iter().zip([7.0 / 3.0, 4.0 / 3.0, 1.0]) {
            near(*found, expected, 1e-12);
        }
        assert!(expected_best(&[], true).is_empty());
        // A value that is not finite counts only where it can be the best.
        assert_eq!(expected_best(&[1.0, f64::INFINITY], false), [f64::INFINITY, 1.0]);
    }

    #[test]
    fn the_normal_distribution_is_known() {
        near(normal_cdf(1.959963985), 0.975, 1e-6);
        near(normal_quantile(0.025), -1.959963985, 1e-5);
        near(normal_cdf(0.0), 0.5, 1e-7);
    }

    #[test]
    fn the_bootstrap_interval_is_that_of_the_normal_theory_where_it_holds() {
        // Symmetric values: no bias, no acceleration, so the mean +- 1.96 standard errors (population) nearly.
        let values: Vec<f64> = (0..41).map(|i| f64::from(i) - 20.0).collect();
        let error = (values.iter().map(|v| v * v).sum::<f64>() / 41.0 / 41.0).sqrt();
        let (lower, upper) = bootstrap_interval(&values, 0.95, 1);
        near(lower, -1.96 * error, 0.1 * error);
        near(upper, 1.96 * error, 0.1 * error);
        assert_eq!((lower, upper), bootstrap_interval(&values, 0.95, 1));
        assert_eq!(bootstrap_interval(&[2.0, 2.0], 0.95, 1), (2.0, 2.0));
    }

    /// Against the interval of all n^n resamples with the jackknife's acceleration (Efron and Tibshirani 1993, 14.9 to
    /// 14.15), worked out in Python.
    #[test]
    fn the_bootstrap_interval_is_that_of_all_resamples() {
        let right = [0.0, 0.2, 0.5, 1.1, 2.4, 5.8];
        let left = [-3.1, -0.2, 0.1, 0.4, 0.5, 0.9];
        for (values, level, ends) in [
            (right, 0.95, (0.55, 4.1333)),
            (right, 0.8, (0.8333, 3.2)),
            (left, 0.95, (-1.9833, 0.4667)),
            (left, 0.8, (-1.3167, 0.35)),
        ] {
            let (lower, upper) = bootstrap_interval(&values, level, 1);
            // 10,000 resamples instead of all 46,656; without the bias or the acceleration the upper end of the first
            // lies 0.3 off.
            near(lower, ends.0, 0.05);
            near(upper, ends.1, 0.1);
        }
        // Where means repeat, half of those that are the observed one count.
        let (lower, upper) = bootstrap_interval(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 0.95, 1);
        near(lower, 1.0 / 6.0, 1e-12);
        near(upper, 5.0 / 6.0, 1e-12);
        let (lower, upper) = bootstrap_interval(&[0.0, 0.0, 0.0, 1.0, 1.0, 4.0], 0.95, 1);
        near(lower, 1.0 / 6.0, 1e-12);
        near(upper, 17.0 / 6.0, 1e-12);
        assert_eq!(bootstrap_interval(&[0.0, 1.0], 0.95, 1), (0.0, 1.0));
        // What counts as the same does so at any size.
        let scaled = |factor: f64| bootstrap_interval(&[0.1, 0.2, 0.3, 0.6, 0.7].map(|value| factor * value), 0.9, 1);
        let (plain, large) = (scaled(1.0), scaled(1e8));
        near(large.0 / 1e8, plain.0, 1e-12);
        near(large.1 / 1e8, plain.1, 1e-12);
    }

    #[test]
    fn skewed_values_move_the_interval_towards_their_tail() {
        let values = [0.0, 0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.5, 3.0];
        let (lower, upper) = bootstrap_interval(&values, 0.95, 1);
        let mean = mean(&values);
        assert!(upper - mean > 1.5 * (mean - lower), "{lower} {mean} {upper}");
    }
}
