//! The statistics of a report: sign-flip permutation tests with the intervals that belong to them, intervals of a median,
//! distances of a median from other quartiles, Holm's correction, and the expected best of a few tries. Plain functions of
//! slices, with hand-computed tests.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

use crate::statistics::{median, quantile, sorted};

/// Up to so many pairs, every assignment of signs is counted (4096); above, as many are drawn as [`SIGN_DRAWS`].
pub const EXACT_PAIRS: usize = 12;
/// Assignments of signs that are drawn where there are too many to count.
pub const SIGN_DRAWS: usize = 100_000;
/// Values that a [`MedianDistance`] draws.
const DRAWN_VALUES: usize = 4_000_000;

/// The mean; NaN without values.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The two-sided sign-flip permutation test of paired differences, for every shift of them at once.
///
/// Under the hypothesis each difference less the shift is as likely as its negative. Flipping the signs of some of them
/// leaves a sum at least as large exactly where the shift lies between the mean of those and the mean of the others, so
/// that each assignment of signs is an interval of shifts that it speaks for.
#[derive(Clone, Debug)]
pub struct SignFlips {
    /// The lower ends, ascending.
    lower: Vec<f64>,
    /// The upper ends, descending.
    upper: Vec<f64>,
    /// Assignments that speak for any shift: none or all of the signs flipped, and what was observed where signs are drawn.
    always: usize,
    /// All that are counted.
    total: usize,
}

impl SignFlips {
    /// Up to [`EXACT_PAIRS`] differences all assignments are counted, so the smallest p of n differences is 2 / 2^n;
    /// above, [`SIGN_DRAWS`] are drawn from `seed`, and the observed one counts as a further one.
    pub fn of(differences: &[f64], seed: u64) -> Self {
        let n = differences.len();
        // Sums of the same terms in another order may differ in their last digits.
        let nothing = 0.5e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
        let mut flips = SignFlips { lower: Vec::new(), upper: Vec::new(), always: 0, total: 0 };
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let exact = n <= EXACT_PAIRS;
        for assignment in 0..if exact { 1 << n } else { SIGN_DRAWS } {
            let (mut sums, mut counts) = ([0.0; 2], [0usize; 2]);
            for (place, difference) in differences.iter().enumerate() {
                let side = if exact { assignment >> place & 1 == 1 } else { generator.random::<bool>() };
                sums[usize::from(side)] += difference;
                counts[usize::from(side)] += 1;
            }
            flips.total += 1;
            if counts.contains(&0) {
                flips.always += 1;
                continue;
            }
            let average =
                |side: usize| if sums[side].abs() <= nothing { 0.0 } else { sums[side] / counts[side] as f64 };
            let ends = [average(0), average(1)];
            flips.lower.push(ends[0].min(ends[1]));
            flips.upper.push(ends[0].max(ends[1]));
        }
        if !exact {
            flips.always += 1;
            flips.total += 1;
        }
        flips.lower.sort_by(f64::total_cmp);
        flips.upper.sort_by(|a, b| b.total_cmp(a));
        flips
    }

    /// The p of the hypothesis that there is no difference; 1 without differences.
    pub fn p(&self) -> f64 {
        // No interval lies on both sides of a shift, so those that hold 0 are all but those above and those below it.
        let above = self.lower.len() - self.lower.partition_point(|end| *end <= 0.0);
        let below = self.upper.len() - self.upper.partition_point(|end| *end >= 0.0);
        (self.always + self.lower.len() - above - below) as f64 / self.total as f64
    }

    /// The shifts that the test does not reject at this level, 0.05 say; none where so few differences cannot reject any.
    ///
    /// It leaves out 0 exactly where `p` is at most the level. (J. A. Hartigan, 1969, "Using subsample values as typical
    /// values".)
    pub fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let rejected = (level * self.total as f64 * (1.0 + 1e-12)).floor() as usize;
        let place = rejected.checked_sub(self.always)?;
        Some((*self.lower.get(place)?, *self.upper.get(place)?))
    }
}

/// The interval of the median between two of the values, that of the sign test: it holds the median in at least `level` of
/// all cases, whatever the distribution. None for fewer values than that takes, six for 0.95.
pub fn median_interval(values: &[f64], level: f64) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    let n = sorted.len();
    let halves = Binomial::new(0.5, n as u64).ok()?;
    // The chance that the median lies below the k-th value from below (from 0).
    let outside = (0..n / 2).take_while(|k| 2.0 * halves.cdf(*k as u64) <= 1.0 - level).count();
    let place = outside.checked_sub(1)?;
    Some((sorted[place], sorted[n - 1 - place]))
}

/// How far the median of some values lies from the median and the quartiles of others, if all are drawn from one normal
/// distribution, whichever. The unit is the distance between those quartiles, so that nothing else needs to be known.
#[derive(Clone, Debug)]
pub struct MedianDistance {
    /// Drawn distances beyond the nearer quartile, ascending; 0 between the quartiles.
    outside: Vec<f64>,
    /// Drawn distances from the other median, ascending.
    apart: Vec<f64>,
}

impl MedianDistance {
    /// For the median of `own` values, 1 or more, beside `theirs`, 2 or more, from draws of both, four million values in all:
    /// always the same ones.
    ///
    /// # Panics
    /// With fewer values, which have no quartiles to measure by.
    pub fn of(own: usize, theirs: usize) -> Self {
        assert!(own >= 1 && theirs >= 2, "{own} beside {theirs}");
        let mut generator = ChaCha8Rng::seed_from_u64(0);
        let mut draw = |n: usize| sorted(&(0..n).map(|_| generator.sample(StandardNormal)).collect::<Vec<f64>>());
        let (mut outside, mut apart) = (Vec::new(), Vec::new());
        for _ in 0..(DRAWN_VALUES / (own + theirs)).max(1000) {
            let (own, theirs) = (median(&draw(own)), draw(theirs));
            let [lower, centre, upper] = [0.25, 0.5, 0.75].map(|share| quantile(&theirs, share));
            outside.push((lower - own).max(own - upper).max(0.0) / (upper - lower));
            apart.push((own - centre).abs() / (upper - lower));
        }
        MedianDistance { outside: sorted(&outside), apart: sorted(&apart) }
    }

    /// The chance that the median lies between the quartiles after each was moved outwards by so many times their distance.
    pub fn share_within(&self, widths: f64) -> f64 {
        self.outside.partition_point(|distance| *distance <= widths) as f64 / self.outside.len() as f64
    }

    /// By how much the medians differ at most in `level` of all cases. Where the populations differ in their medians alone,
    /// so much around the samples' difference is a confidence interval of the populations' difference.
    pub fn bound(&self, level: f64) -> f64 {
        quantile(&self.apart, level)
    }
}

/// The smallest difference that a two-sided test of paired differences at this level finds in four of five cases, by their
/// spread and Student's distribution. None for fewer than two.
pub fn detectable_difference(differences: &[f64], level: f64) -> Option<f64> {
    let n = differences.len() as f64;
    let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let centre = mean(differences);
    let spread = (differences.iter().map(|d| (d - centre).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    Some((student.inverse_cdf(1.0 - level / 2.0) + student.inverse_cdf(0.8)) * spread / n.sqrt())
}

/// How many pairs of values a sign-flip test needs to reject at `level` after Holm's correction for so many tests.
pub fn pairs_needed(tests: usize, level: f64) -> usize {
    (1..64).find(|n| 2.0 / 2f64.powi(*n) * tests.max(1) as f64 <= level * (1.0 + 1e-12)).unwrap_or(64) as usize
}

/// Holm's step-down correction: for each p the corrected one, which bounds the chance of one or more false finding among
/// all of them, and the level at which it was itself tested, so that it is at most that exactly where the corrected one
/// is at most `level`.
pub fn holm(p: &[f64], level: f64) -> Vec<(f64, f64)> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![(0.0, level); p.len()];
    let mut largest = 0.0f64;
    for (place, &i) in order.iter().enumerate() {
        largest = largest.max(p[i] * (p.len() - place) as f64);
        corrected[i] = (largest.min(1.0), level * p[i] / largest);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn p(differences: &[f64], seed: u64) -> f64 {
        SignFlips::of(differences, seed).p()
    }

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn sign_flips_are_counted() {
        // Of the eight sums of +-1 +-2 +-3, the two of size six are as large as the observed one.
        assert_eq!(p(&[1.0, 2.0, 3.0], 0), 0.25);
        // 1 + 2 - 3 = 0: every assignment is at least as large.
        assert_eq!(p(&[1.0, 2.0, -3.0], 0), 1.0);
        // |-1 + 2 + 3| = 4: +-6 and +-4 are at least as large.
        assert_eq!(p(&[-1.0, 2.0, 3.0], 0), 0.5);
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(p(&ten, 0), 2.0 / 1024.0);
        assert_eq!(p(&[], 0), 1.0);
        // The most that are counted, and sums that differ from the observed one by rounding alone.
        let twelve: Vec<f64> = (1..=12).map(f64::from).collect();
        assert_eq!(p(&twelve, 0), 2.0 / 4096.0);
        assert_eq!(p(&[0.1, 0.2, 0.3, -0.6], 0), 1.0);
        assert_eq!(p(&[0.1, 0.2, 0.4, 0.3], 0), 2.0 / 16.0);
        // |3 - 1 + 2| = 4, as above in another order.
        assert_eq!(p(&[3.0, -1.0, 2.0], 0), 0.5);
        // Losses of any size are told apart as well.
        for unit in [1e-9, 1e9] {
            assert_eq!(p(&[unit, 2.0 * unit, 3.0 * unit], 0), 0.25);
            assert_eq!(p(&[0.1 * unit, 0.2 * unit, 0.3 * unit, -0.6 * unit], 0), 1.0);
        }
    }

    #[test]
    fn many_pairs_are_drawn() {
        // Half of the assignments of fourteen equal terms that balance less: P(|sum| >= 2) = 1 - C(14,7)/2^14.
        let differences: Vec<f64> = (0..14).map(|i| if i < 8 { 1.0 } else { -1.0 }).collect();
        let drawn = p(&differences, 3);
        near(drawn, 1.0 - 3432.0 / 16384.0, 0.005);
        assert_eq!(drawn, p(&differences, 3));
        // None of the draws is as large as what was observed, which counts as one of them.
        let forty: Vec<f64> = (1..=40).map(f64::from).collect();
        assert_eq!(p(&forty, 3), 1.0 / 100_001.0);
    }

    /// The means of all 31 subsets of five values, by hand at both ends: an interval of 1 - 2 k / 32 goes from the k-th to
    /// the k-th from above.
    #[test]
    fn an_interval_goes_from_subset_mean_to_subset_mean() {
        let flips = SignFlips::of(&[1.0, 2.0, 4.0, 8.0, 16.0], 0);
        assert_eq!(flips.interval(2.0 / 32.0), Some((1.0, 16.0)));
        // 1, 1.5, 2, 7/3 and 16, 12, 10, 28/3.
        assert_eq!(flips.interval(4.0 / 32.0), Some((1.5, 12.0)));
        assert_eq!(flips.interval(6.0 / 32.0), Some((2.0, 10.0)));
        assert_eq!(flips.interval(8.0 / 32.0), Some((7.0 / 3.0, 28.0 / 3.0)));
        assert_eq!(flips.interval(0.05), None);
        assert_eq!(SignFlips::of(&[1.0], 0).interval(0.05), None);
    }

    #[test]
    fn an_interval_leaves_out_0_where_the_test_rejects_it() {
        let mut generator = ChaCha8Rng::seed_from_u64(5);
        let mut rejected = 0;
        for case in 0..300 {
            let n = 2 + case % 11;
            let shift = f64::from(generator.random_range(0..4u8)) / 4.0;
            let values: Vec<f64> = (0..n).map(|_| f64::from(generator.random_range(-4..=4i8)) / 4.0 + shift).collect();
            let flips = SignFlips::of(&values, 0);
            for level in [0.002, 0.05, 0.2] {
                let leaves_out = flips.interval(level).is_some_and(|(low, high)| low > 0.0 || high < 0.0);
                assert_eq!(leaves_out, flips.p() <= level, "{values:?} {level}");
                rejected += usize::from(leaves_out);
            }
        }
        assert!((100..800).contains(&rejected), "{rejected}");
        // The same where signs are drawn.
        for shift in [0.0, 0.4, 0.5, 0.6, 2.0] {
            let values: Vec<f64> = (0..20).map(|i| shift + f64::from(i * 7 % 20) / 10.0 - 0.95).collect();
            let flips = SignFlips::of(&values, 1);
            let (low, high) = flips.interval(0.01).unwrap();
            assert_eq!(low > 0.0 || high < 0.0, flips.p() <= 0.01, "{shift}");
            near((low + high) / 2.0, shift, 0.02);
        }
    }

    #[test]
    fn the_interval_of_a_median_is_that_of_the_sign_test() {
        let ten: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        // 2 P(B <= 1) = 22/1024, 2 P(B <= 2) = 112/1024.
        assert_eq!(median_interval(&ten, 0.95), Some((2.0, 9.0)));
        assert_eq!(median_interval(&ten[4..], 0.95), Some((1.0, 6.0)));
        assert_eq!(median_interval(&ten[5..], 0.95), None);
        assert_eq!(median_interval(&[], 0.95), None);
    }

    /// The values that NumPy's median and quantiles give in four million draws.
    #[test]
    fn distances_of_a_median_are_those_of_normal_samples() {
        for (own, shares, bound) in
            [(1, [0.414, 0.850, 0.960], 2.332), (3, [0.549, 0.935, 0.987], 1.665), (10, [0.718, 0.981, 0.997], 1.129)]
        {
            let distance = MedianDistance::of(own, 10);
            for (widths, share) in shares.into_iter().enumerate() {
                near(distance.share_within(widths as f64), share, 0.003);
            }
            near(distance.bound(0.95), bound, 0.015);
        }
    }

    #[test]
    fn what_could_have_been_found() {
        // Spread 1, n = 4: (3.1824 + 0.9785) / 2 of Student's distribution with three degrees of freedom.
        let values = [-1.0, 0.0, 0.0, 1.0].map(|v: f64| v * 1.5f64.sqrt());
        near(detectable_difference(&values, 0.05).unwrap(), (3.18245 + 0.97847) / 2.0, 1e-3);
        assert_eq!(detectable_difference(&[1.0], 0.05), None);
        assert_eq!([1, 2, 3, 21].map(|tests| pairs_needed(tests, 0.05)), [6, 7, 7, 10]);
    }

    #[test]
    fn holm_steps_down() {
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005], 0.05);
        for ((found, level), expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            near(*found, expected, 1e-12);
            assert!((0.05 / 4.0..=0.05).contains(level));
        }
        for ((corrected, level), p) in corrected.iter().zip([0.01, 0.04, 0.03, 0.005]) {
            assert_eq!(*corrected <= 0.05, p <= *level);
        }
        assert_eq!(holm(&[0.9, 0.8], 0.05).iter().map(|(p, _)| *p).collect::<Vec<_>>(), [1.0, 1.0]);
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
}
