//! Intervals of median ratios, and outliers.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::statistics::{median, quantile};

/// How likely an interval is to hold the ratio.
const COVERAGE: f64 = 0.95;
/// Of fewer values not even the range holds their median as often as that: 1 - 2^(1 - 5) is 0.94.
const FEW: usize = 6;
/// A modified Z-score above this is an outlier's (Iglewicz and Hoaglin, 1993).
const OUTLIER: f64 = 3.5;

/// An interval with a point estimate inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The estimate from all values.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Half of its width, as a share of the estimate.
    pub fn relative_half_width(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.estimate
    }
}

/// The median of positive values with its 95 % interval: the expanded percentile interval (Hesterberg, 2015, section 5)
/// from `resamples` bootstrap samples drawn from `seed`. Fewer than six values have Student's interval of the mean
/// logarithm instead; a single one has none, and both ends are the value.
pub fn interval_of_median(values: &[f64], resamples: usize, seed: u64) -> Interval {
    let each: Vec<Vec<f64>> = values.iter().map(|value| vec![*value]).collect();
    interval_of_grouped_median(&each, resamples, seed)
}

/// As [`interval_of_median`] of all values of all groups, from bootstrap samples of groups and, of each group drawn, of
/// its values (Davison and Hinkley, 1997, section 3.8): what the values of a group have in common counts as one draw,
/// however many they are. Fewer than six groups have Student's interval of their medians; of a single group it is the
/// interval of its values.
pub fn interval_of_grouped_median(groups: &[Vec<f64>], resamples: usize, seed: u64) -> Interval {
    if let [only] = groups
        && only.len() > 1
    {
        return interval_of_median(only, resamples, seed);
    }
    let estimate = median(&groups.concat());
    if groups.len() < FEW {
        return students_interval(estimate, groups);
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = Vec::new();
    let medians = (0..resamples).map(|_| {
        drawn.clear();
        for _ in groups {
            match groups[generator.random_range(0..groups.len())].as_slice() {
                [only] => drawn.push(*only),
                group => drawn.extend(group.iter().map(|_| group[generator.random_range(0..group.len())])),
            }
        }
        median_in_place(&mut drawn)
    });
    expanded_percentile_interval(estimate, medians.collect(), groups.len())
}

/// The median of values, at least one, that it puts into another order; faster than by sorting them.
fn median_in_place(values: &mut [f64]) -> f64 {
    let count = values.len();
    let (before, middle, _) = values.select_nth_unstable_by(count / 2, f64::total_cmp);
    match count % 2 {
        1 => *middle,
        _ => (before.iter().copied().fold(f64::NEG_INFINITY, f64::max) + *middle) / 2.0,
    }
}

/// The expanded percentile interval around an estimate from medians of bootstrap samples of `count` draws: percentile
/// intervals are too narrow by the square root of (count - 1) / count, and have the normal distribution's tails where
/// Student's are due.
fn expanded_percentile_interval(estimate: f64, mut medians: Vec<f64>, count: usize) -> Interval {
    medians.sort_by(f64::total_cmp);
    let free = (count - 1) as f64;
    let tail = Normal::standard().cdf(-(count as f64 / free).sqrt() * students_quantile(free));
    Interval { estimate, low: quantile(&medians, tail), high: quantile(&medians, 1.0 - tail) }
}

/// Student's interval of the mean logarithm of the groups' medians, as ratios, and what it takes to hold the estimate,
/// which is not that mean.
fn students_interval(estimate: f64, groups: &[Vec<f64>]) -> Interval {
    if groups.len() < 2 {
        return Interval { estimate, low: estimate, high: estimate };
    }
    let logarithms: Vec<f64> = groups.iter().map(|group| median(group).ln()).collect();
    let count = logarithms.len() as f64;
    let mean = logarithms.iter().sum::<f64>() / count;
    let squares: f64 = logarithms.iter().map(|logarithm| (logarithm - mean).powi(2)).sum();
    let half = students_quantile(count - 1.0) * (squares / (count - 1.0) / count).sqrt();
    Interval { estimate, low: estimate.min((mean - half).exp()), high: estimate.max((mean + half).exp()) }
}

/// The quantile of Student's distribution that leaves half of what an interval does not cover above it.
fn students_quantile(degrees_of_freedom: f64) -> f64 {
    let distribution = StudentsT::new(0.0, 1.0, degrees_of_freedom);
    // There is one for every positive number.
    distribution.map_or(f64::INFINITY, |distribution| distribution.inverse_cdf(0.5 + COVERAGE / 2.0))
}

/// How many values lie far from the others, by the modified Z-score 0.6745 |x - median| / MAD.
pub fn outliers(values: &[f64]) -> usize {
    let middle = median(values);
    let deviations: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let deviation = median(&deviations);
    // Where more than half of the values are the same there is no scale to measure the others by.
    if deviation == 0.0 {
        return 0;
    }
    deviations.iter().filter(|far| 0.6745 * **far / deviation > OUTLIER).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, LogNormal};

    #[test]
    fn medians_are_those_by_hand() {
        assert_eq!(median_in_place(&mut [4.0, 1.0, 10.0, 2.0]), 3.0);
        assert_eq!(median_in_place(&mut [3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn one_far_value_is_an_outlier() {
        // By hand: median 10, deviations 1, 0, 1, 0, 2, 90, their median 1, so that 90 scores 60.7 and 2 scores 1.3.
        assert_eq!(outliers(&[9.0, 10.0, 11.0, 10.0, 12.0, 100.0]), 1);
        assert_eq!(outliers(&[9.0, 10.0, 11.0, 10.0, 12.0]), 0);
        assert_eq!(outliers(&[5.0, 5.0, 5.0, 9.0]), 0);
    }

    /// By hand: logarithms 0, ln 2 and 2 ln 2 with mean and deviation ln 2; t = 4.302653 with two degrees of freedom.
    #[test]
    fn few_values_have_students_interval() {
        let interval = interval_of_median(&[1.0, 4.0, 2.0], 1000, 1);
        let half = 4.302653 * 2.0_f64.ln() / 3.0_f64.sqrt();
        assert_eq!(interval.estimate, 2.0);
        assert!((interval.low / (2.0 * (-half).exp()) - 1.0).abs() < 1e-6, "{interval:?}");
        assert!((interval.high / (2.0 * half.exp()) - 1.0).abs() < 1e-6, "{interval:?}");
        assert_eq!(interval_of_median(&[7.0], 1000, 1), Interval { estimate: 7.0, low: 7.0, high: 7.0 });
        // The estimate is the median of all values, the interval that of the groups' medians 1, 4 and 2.
        let groups = [vec![1.0], vec![3.0, 5.0, 4.0], vec![2.0]];
        let grouped = interval_of_grouped_median(&groups, 1000, 1);
        assert_eq!(grouped, Interval { estimate: 3.0, ..interval });
    }

    /// By hand, for four draws: t is 3.182446, which times sqrt(4 / 3) is 3.674772, with 0.000119 of the normal
    /// distribution below it; of 10,001 medians in order, that is 1.19 steps from each end.
    #[test]
    fn percentiles_are_expanded_for_few_draws() {
        let interval = expanded_percentile_interval(5.0, (0..=10_000).map(f64::from).collect(), 4);
        assert!((interval.low - 1.19).abs() < 0.01 && (interval.high - 9998.81).abs() < 0.01, "{interval:?}");
        let interval = expanded_percentile_interval(5.0, (0..=10_000).map(f64::from).collect(), 100_000);
        assert!((interval.low - 250.0).abs() < 0.1, "{interval:?}");
    }

    /// What differs between groups widens the interval, however well each of them knows its own median.
    #[test]
    fn a_group_counts_as_one_draw() {
        let groups = [1.0, 1.02, 1.03, 1.01, 1.04, 1.02, 1.01].map(|value| vec![value; 50]);
        let grouped = interval_of_grouped_median(&groups, 1000, 1);
        assert!(grouped.low <= 1.01 && grouped.high >= 1.03, "{grouped:?}");
        assert!(interval_of_median(&groups.concat(), 1000, 1).relative_half_width() < 0.006);
        let values = vec![1.0, 2.0, 4.0, 3.5, 3.0, 2.5, 1.5];
        assert_eq!(
            interval_of_grouped_median(std::slice::from_ref(&values), 100, 1),
            interval_of_median(&values, 100, 1)
        );
    }

    /// Visits that have drifted by 2 %: about 95 of 100 intervals hold the ratio, however few visits, where intervals of
    /// their pairs alone do not.
    #[test]
    fn intervals_of_drifting_visits_cover_the_ratio() {
        let mut generator = ChaCha8Rng::seed_from_u64(9);
        let (drift, noise) = (LogNormal::new(0.0, 0.02).unwrap(), LogNormal::new(0.0, 0.03).unwrap());
        for count in [2, 4, 8] {
            let mut visits = || -> Vec<Vec<f64>> {
                let visit = |generator: &mut ChaCha8Rng| {
                    let level = 1.7 * drift.sample(generator);
                    (0..20).map(|_| level * noise.sample(generator)).collect()
                };
                (0..count).map(|_| visit(&mut generator)).collect()
            };
            let covers = |interval: Interval| usize::from(interval.low <= 1.7 && 1.7 <= interval.high);
            let (mut grouped, mut pooled) = (0, 0);
            for seed in 0..300 {
                let visits = visits();
                grouped += covers(interval_of_grouped_median(&visits, 300, seed));
                pooled += covers(interval_of_median(&visits.concat(), 300, seed));
            }
            assert!((273..=297).contains(&grouped) && pooled < 240, "{count} visits: {grouped} and {pooled} of 300");
        }
    }

    /// Noisy pairs with a true ratio of 1.7: about 95 of 100 intervals must hold it, and narrow with more pairs.
    #[test]
    fn the_interval_covers_a_known_ratio() {
        let mut generator = ChaCha8Rng::seed_from_u64(3);
        let noise = LogNormal::new(0.0, 0.1).unwrap();
        let mut interval = |pairs: usize, seed| {
            let ratios: Vec<f64> =
                (0..pairs).map(|_| 1.7 * noise.sample(&mut generator) / noise.sample(&mut generator)).collect();
            interval_of_median(&ratios, 400, seed)
        };
        let covered = (0..200).filter(|seed| {
            let interval = interval(25, *seed);
            interval.low <= 1.7 && 1.7 <= interval.high
        });
        let covered = covered.count();
        assert!((184..=198).contains(&covered), "{covered} of 200");
        assert!(interval(400, 0).relative_half_width() < interval(25, 0).relative_half_width());
    }
}
