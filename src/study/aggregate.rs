//! What several seeds come to: median, quartiles, mean and standard deviation of a metric for each epoch; and how many
//! seeds it takes for a difference to be told.

use serde::{Deserialize, Serialize};

use super::experiment::{Experiment, Metric};
use super::select::{SeedResult, value};
use crate::statistics::{quantile, sorted};
use crate::words::count;

/// What the runs that diverged count for in curves over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Diverged {
    /// The epochs that they did not measure have their values before training, as in DeepOBS.
    #[default]
    Fill,
    /// They are left out.
    Drop,
}

/// What several values come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// The median.
    pub median: f64,
    /// The quantile at a quarter, linear between neighbours.
    pub lower_quartile: f64,
    /// The quantile at three quarters, linear between neighbours.
    pub upper_quartile: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation of the population: the sum of squares is divided by `n`.
    pub std: f64,
    /// How many values.
    pub n: usize,
}

impl Statistics {
    /// Those of these values; nothing where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let sorted = sorted(values);
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n as f64;
        Some(Statistics {
            median: quantile(&sorted, 0.5),
            lower_quartile: quantile(&sorted, 0.25),
            upper_quartile: quantile(&sorted, 0.75),
            mean,
            std: variance.sqrt(),
            n,
        })
    }
}

/// The statistics of a metric over seeds for each of the epochs 0 to `epochs`; nothing where no run has a value.
pub fn curve(results: &[SeedResult], metric: Metric, epochs: usize, diverged: Diverged) -> Vec<Option<Statistics>> {
    let counted = || results.iter().filter(|result| diverged == Diverged::Fill || !result.diverged);
    let at = |result: &SeedResult, epoch: usize| {
        // A run's rows are in order and without gaps; others have to be searched.
        let in_place = result.rows.get(epoch).filter(|row| row.epoch == epoch);
        let row = in_place.or_else(|| result.rows.iter().find(|row| row.epoch == epoch));
        row.or(result.rows.first().filter(|_| result.diverged)).map(|row| value(row, metric))
    };
    (0..=epochs)
        .map(|epoch| Statistics::of(&counted().filter_map(|result| at(result, epoch)).collect::<Vec<_>>()))
        .collect()
}

/// The statistics of a metric over seeds after their last evaluations; nothing where no run has a value.
pub fn end(results: &[SeedResult], metric: Metric, diverged: Diverged) -> Option<Statistics> {
    let counted = results.iter().filter(|result| diverged == Diverged::Fill || !result.diverged);
    let last = |result: &SeedResult| {
        let row = if result.diverged { result.rows.first() } else { result.rows.last() };
        row.map(|row| value(row, metric))
    };
    Statistics::of(&counted.filter_map(last).collect::<Vec<_>>())
}

// How many seeds it takes for a difference between optimizers to be told: of n pairs the sign-flip test's least p is
// 2 / 2^n, and Holm's correction multiplies the least of m by m.

/// Differences of which chance explains at most this share are told.
const SIGNIFICANT: f64 = 0.05;

/// The least p that so many seeds can give, corrected for so many pairs of optimizers.
fn least_p(seeds: usize, pairs: usize) -> f64 {
    2f64.powi(1 - seeds.min(1000) as i32) * pairs as f64
}

/// How many seeds can give a p below [`SIGNIFICANT`], corrected for so many pairs.
fn seeds_needed(pairs: usize) -> usize {
    (1..).find(|seeds| least_p(*seeds, pairs) < SIGNIFICANT).unwrap_or(usize::MAX)
}

/// What to know before a study with too few seeds is run; nothing where they suffice, or there is nothing to compare.
pub fn too_few_seeds(experiment: &Experiment) -> Option<String> {
    let optimizers = |problem: &str| experiment.optimizers.iter().filter(|grid| grid.is_for(problem)).count();
    let most = experiment.problems.iter().map(|problem| optimizers(&problem.name)).max().unwrap_or(0);
    let (seeds, pairs) = (experiment.seeds.len(), most * most.saturating_sub(1) / 2);
    if seeds == 0 || pairs == 0 {
        return None;
    }
    let (alone, corrected) = (seeds_needed(1), seeds_needed(pairs));
    let given = count(seeds, "seed");
    let after = format!("after the correction for {}", count(pairs, "pair"));
    if seeds < alone {
        let more = if corrected > alone { format!(", {corrected} {after}") } else { String::new() };
        return Some(format!("{given} cannot give p < {SIGNIFICANT}; {alone} could{more}"));
    }
    (seeds < corrected).then(|| format!("{given} cannot give p < {SIGNIFICANT} {after}; {corrected} could"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::store::EpochRow;

    fn run(losses: &[f64], diverged: bool) -> SeedResult {
        let row = |(epoch, &test_loss): (usize, &f64)| EpochRow {
            epoch,
            train_loss: 0.0,
            train_accuracy: 0.0,
            valid_loss: 0.0,
            valid_accuracy: 0.0,
            test_loss,
            test_accuracy: 0.0,
            train_seconds: 0.0,
            eval_seconds: 0.0,
        };
        SeedResult { rows: losses.iter().enumerate().map(row).collect(), diverged }
    }

    #[test]
    fn statistics_are_those_computed_by_hand() {
        // Sorted 1, 2, 4, 9: places 0.75, 1.5 and 2.25; mean 4; squares 9 + 4 + 0 + 25 = 38.
        let statistics = Statistics::of(&[4.0, 1.0, 9.0, 2.0]).unwrap();
        let expected = Statistics {
            median: 3.0,
            lower_quartile: 1.75,
            upper_quartile: 5.25,
            mean: 4.0,
            std: (38.0f64 / 4.0).sqrt(),
            n: 4,
        };
        assert_eq!(statistics, expected);
        let one = Statistics::of(&[7.0]).unwrap();
        assert_eq!((one.median, one.lower_quartile, one.upper_quartile, one.mean, one.std), (7.0, 7.0, 7.0, 7.0, 0.0));
        assert_eq!(Statistics::of(&[]), None);
        // Of five values, the quartiles are the second and the fourth.
        let five = Statistics::of(&[5.0, f64::INFINITY, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((five.lower_quartile, five.median, five.upper_quartile), (2.0, 3.0, 5.0));
    }

    #[test]
    fn diverged_runs_are_filled_with_their_first_value_or_dropped() {
        let runs = [run(&[2.0, 1.0, 0.5], false), run(&[4.0, 3.0], true), run(&[2.0, 1.5, 0.7], false)];
        let medians = |diverged| -> Vec<(f64, usize)> {
            let curve = curve(&runs, Metric::TestLosses, 2, diverged);
            curve.into_iter().flatten().map(|at| (at.median, at.n)).collect()
        };
        // Epoch 2 of the diverged run counts as 4, its value before training, not as 3.
        assert_eq!(medians(Diverged::Fill), [(2.0, 3), (1.5, 3), (0.7, 3)]);
        assert_eq!(medians(Diverged::Drop), [(2.0, 2), (1.25, 2), (0.6, 2)]);
        let at_end = |diverged| end(&runs, Metric::TestLosses, diverged).map(|at| (at.mean, at.n));
        assert_eq!(at_end(Diverged::Fill), Some(((0.5 + 4.0 + 0.7) / 3.0, 3)));
        assert_eq!(at_end(Diverged::Drop), Some(((0.5 + 0.7) / 2.0, 2)));
        assert_eq!(end(&runs[1..2], Metric::TestLosses, Diverged::Drop), None);
        let all = [run(&[4.0, 3.0], true)];
        let filled = curve(&all, Metric::TestLosses, 2, Diverged::Fill);
        assert_eq!(filled.iter().flatten().map(|at| at.mean).collect::<Vec<_>>(), [4.0, 3.0, 4.0]);
        assert_eq!(curve(&all, Metric::TestLosses, 2, Diverged::Drop), [None, None, None]);
    }

    #[test]
    fn six_seeds_can_tell_one_pair_and_eight_six() {
        assert_eq!((least_p(3, 1), least_p(10, 1)), (0.25, 2.0 / 1024.0));
        assert_eq!((seeds_needed(1), seeds_needed(6), seeds_needed(45)), (6, 8, 11));
    }
}
