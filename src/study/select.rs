//! Which setting of a grid is the best.
//!
//! The ranking is DeepOBS's: by the mean over seeds, ties by the lexicographic order of its folder names. A run that
//! diverged ranks after every run that did not.

use std::cmp::Ordering;

use super::experiment::{Metric, Select, SelectMode};
use super::store::EpochRow;

/// A setting that was run, with what its seeds measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The step size.
    pub learning_rate: f64,
    /// The damping, where the optimizer has one.
    pub damping: Option<f64>,
    /// One a seed that was finished.
    pub results: Vec<SeedResult>,
}

/// What one run measured.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedResult {
    /// Its evaluations, in order; fewer than the others' where it diverged.
    pub rows: Vec<EpochRow>,
    /// Whether it diverged.
    pub diverged: bool,
}

/// The metric's value in a row.
pub fn value(row: &EpochRow, metric: Metric) -> f64 {
    match metric {
        Metric::TrainLosses => row.train_loss,
        Metric::TrainAccuracies => row.train_accuracy,
        Metric::ValidLosses => row.valid_loss,
        Metric::ValidAccuracies => row.valid_accuracy,
        Metric::TestLosses => row.test_loss,
        Metric::TestAccuracies => row.test_accuracy,
    }
}

impl Candidate {
    /// The mean over seeds for each epoch. What a diverged run did not measure is its value before training, as
    /// DeepOBS has it; what one of fewer epochs within the same seconds did not, its last value.
    pub fn mean_curve(&self, metric: Metric) -> Vec<f64> {
        let epochs = self.results.iter().map(|result| result.rows.len()).max().unwrap_or(0);
        let at = |result: &SeedResult, epoch: usize| {
            let instead = if result.diverged { result.rows.first() } else { result.rows.last() };
            result.rows.get(epoch).or(instead).map_or(f64::NAN, |row| value(row, metric))
        };
        let count = self.results.len() as f64;
        (0..epochs).map(|epoch| self.results.iter().map(|result| at(result, epoch)).sum::<f64>() / count).collect()
    }

    /// What the setting is ranked by: NaN where nothing was measured.
    pub fn score(&self, select: Select) -> f64 {
        let curve = self.mean_curve(select.metric);
        match select.mode {
            SelectMode::Final | SelectMode::Most => curve.last().copied().unwrap_or(f64::NAN),
            SelectMode::Best => {
                let better = if select.metric.larger_is_better() { f64::max } else { f64::min };
                curve.into_iter().reduce(better).unwrap_or(f64::NAN)
            }
        }
    }

    /// How many of its runs diverged.
    pub fn diverged(&self) -> usize {
        self.results.iter().filter(|result| result.diverged).count()
    }

    /// The part of DeepOBS's folder name that tells this setting from others, by whose order ties are decided.
    pub fn deepobs_name(&self) -> String {
        match self.damping {
            Some(damping) => format!("damping__{}__lr__{}", deepobs_float(damping), deepobs_float(self.learning_rate)),
            None => format!("lr__{}", deepobs_float(self.learning_rate)),
        }
    }

    fn diverged_share(&self) -> f64 {
        self.diverged() as f64 / self.results.len().max(1) as f64
    }
}

/// The places of the candidates that have results, best first.
pub fn rank(candidates: &[Candidate], select: Select) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).filter(|&i| !candidates[i].results.is_empty()).collect();
    let seeds = |i: usize| candidates[i].results.len();
    let most = select.mode == SelectMode::Most && order.iter().any(|&i| seeds(i) != seeds(order[0]));
    let scores: Vec<f64> = candidates.iter().map(|candidate| candidate.score(select)).collect();
    let names: Vec<String> = candidates.iter().map(Candidate::deepobs_name).collect();
    order.sort_by(|&a, &b| {
        let by_value = if most {
            seeds(b).cmp(&seeds(a))
        } else {
            by_score(scores[a], scores[b], select.metric.larger_is_better())
        };
        candidates[a]
            .diverged_share()
            .total_cmp(&candidates[b].diverged_share())
            .then(by_value)
            .then_with(|| names[a].cmp(&names[b]))
    });
    order
}

/// Better values first, those that are not numbers last.
fn by_score(a: f64, b: f64, larger_is_better: bool) -> Ordering {
    let ascending = a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
    match larger_is_better && !a.is_nan() && !b.is_nan() {
        true => ascending.reverse(),
        false => ascending,
    }
}

/// A number as DeepOBS writes it in folder names: "%.10e" without the mantissa's trailing zeros, as in `1.e-02`.
pub fn deepobs_float(value: f64) -> String {
    let text = format!("{value:.10e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{}e{sign}{digits:0>2}", mantissa.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: usize, accuracy: f64) -> EpochRow {
        EpochRow {
            epoch,
            train_loss: 1.0,
            train_accuracy: 0.0,
            valid_loss: 1.0 - accuracy,
            valid_accuracy: accuracy,
            test_loss: 1.0,
            test_accuracy: 0.0,
            train_seconds: 0.0,
            eval_seconds: 0.0,
        }
    }

    fn run(accuracies: &[f64], diverged: bool) -> SeedResult {
        let rows = accuracies.iter().enumerate().map(|(epoch, &accuracy)| row(epoch, accuracy)).collect();
        SeedResult { rows, diverged }
    }

    fn candidate(learning_rate: f64, damping: f64, accuracies: &[f64]) -> Candidate {
        Candidate { learning_rate, damping: Some(damping), results: vec![run(accuracies, false)] }
    }

    fn select(metric: Metric, mode: SelectMode) -> Select {
        Select { metric, mode }
    }

    #[test]
    fn numbers_are_written_as_deepobs_does() {
        for (value, text) in [
            (1e-2, "1.e-02"),
            (0.15848931924611134, "1.5848931925e-01"),
            (1.0, "1.e+00"),
            (10.0, "1.e+01"),
            (2.5e-101, "2.5e-101"),
            (100.0, "1.e+02"),
        ] {
            assert_eq!(deepobs_float(value), text);
        }
    }

    #[test]
    fn final_best_and_losses_rank_as_named() {
        let candidates = [candidate(0.1, 1.0, &[0.1, 0.9, 0.6]), candidate(0.2, 1.0, &[0.1, 0.5, 0.7])];
        assert_eq!(rank(&candidates, Select::default()), [1, 0]);
        assert_eq!(rank(&candidates, select(Metric::ValidAccuracies, SelectMode::Best)), [0, 1]);
        assert_eq!(rank(&candidates, select(Metric::ValidLosses, SelectMode::Final)), [1, 0]);
        assert_eq!(rank(&candidates, select(Metric::ValidLosses, SelectMode::Best)), [0, 1]);
    }

    #[test]
    fn ties_go_to_the_lexicographically_first_name_of_deepobs() {
        // "damping__1.e+01.." comes before "damping__1.e-04..", though 10 is the larger number.
        let candidates = [
            candidate(0.1, 1e-4, &[0.5]),
            candidate(1.0, 10.0, &[0.5]),
            candidate(0.1, 10.0, &[0.5]),
            candidate(0.1, 1.0, &[0.5]),
        ];
        assert_eq!(rank(&candidates, Select::default()), [3, 1, 2, 0]);
    }

    #[test]
    fn diverged_runs_come_last_whatever_they_reached() {
        let mut diverged = candidate(0.1, 1.0, &[]);
        diverged.results = vec![run(&[0.3, 0.99], true)];
        let candidates = [diverged, candidate(0.2, 1.0, &[0.1, 0.01]), candidate(0.3, 1.0, &[0.1, f64::NAN])];
        assert_eq!(rank(&candidates, Select::default()), [1, 2, 0]);
        assert_eq!(rank(&candidates, select(Metric::ValidLosses, SelectMode::Final)), [1, 2, 0]);
    }

    /// Of how many, not how often: one of four is less than one of two.
    #[test]
    fn the_share_of_diverged_runs_counts() {
        let candidate = |learning_rate, diverged: &[bool]| Candidate {
            learning_rate,
            damping: None,
            results: diverged.iter().map(|diverged| run(&[0.1, 0.5], *diverged)).collect(),
        };
        let candidates = [candidate(0.1, &[true, false]), candidate(0.2, &[true, false, false, false])];
        assert_eq!(rank(&candidates, Select::default()), [1, 0]);
        let candidates = [candidate(0.1, &[true, true, false]), candidate(0.2, &[true, false])];
        assert_eq!(rank(&candidates, Select::default()), [1, 0]);
    }

    #[test]
    fn what_a_diverged_run_did_not_measure_is_its_value_before_training() {
        let mut candidate = candidate(0.1, 1.0, &[0.1, 0.5, 0.7]);
        candidate.results.push(run(&[0.2, 0.4], true));
        let curve = candidate.mean_curve(Metric::ValidAccuracies);
        assert_eq!(curve, [(0.1 + 0.2) / 2.0, (0.5 + 0.4) / 2.0, (0.7 + 0.2) / 2.0]);
    }

    #[test]
    fn settings_without_results_are_left_out() {
        let mut empty = candidate(0.1, 1.0, &[]);
        empty.results.clear();
        assert_eq!(rank(&[empty.clone(), candidate(0.2, 1.0, &[0.1])], Select::default()), [1]);
        assert!(rank(&[empty], Select::default()).is_empty());
    }

    #[test]
    fn most_counts_seeds_and_falls_back_to_final() {
        let one = candidate(0.1, 1.0, &[0.9]);
        let mut two = candidate(0.2, 1.0, &[0.1]);
        two.results.push(run(&[0.2], false));
        let most = select(Metric::ValidAccuracies, SelectMode::Most);
        assert_eq!(rank(&[one.clone(), two], most), [1, 0]);
        assert_eq!(rank(&[one, candidate(0.2, 1.0, &[0.1])], most), [0, 1]);
    }
}
