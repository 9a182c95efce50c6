//! Several problems at once: performance profiles of the way to a target, and ranks.

use super::evidence::last_values;
use super::results::{Results, TargetRow, distinct};
use crate::statistics::median;
use crate::study::experiment::Metric;

/// How many times as long as the fastest a profile goes.
pub const LARGEST_RATIO: f64 = 4.0;

/// What a run took to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Steps.
    Steps,
    /// Seconds of training.
    Seconds,
}

impl Cost {
    fn of(self, row: &TargetRow) -> Option<f64> {
        match self {
            Cost::Steps => row.steps,
            Cost::Seconds => row.seconds,
        }
    }
}

/// One optimizer's ratios, one for each problem that tells runs apart and each seed: what it took over what the fastest optimizer's median was on the
/// problem; infinite where it never got there.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The optimizer.
    pub optimizer: String,
    /// Ascending.
    pub ratios: Vec<f64>,
}

impl Profile {
    /// The share of runs that took at most so many times as long as the fastest (Dolan and Moré, 2002).
    pub fn share(&self, ratio: f64) -> f64 {
        self.ratios.iter().filter(|own| **own <= ratio * (1.0 + 1e-12)).count() as f64 / self.ratios.len() as f64
    }

    /// The geometric mean of the ratios; one that never got there, or took longer, counts as [`LARGEST_RATIO`].
    pub fn geometric_mean(&self) -> f64 {
        let logarithms: f64 = self.ratios.iter().map(|ratio| ratio.min(LARGEST_RATIO).ln()).sum();
        (logarithms / self.ratios.len() as f64).exp()
    }
}

/// What each of an optimizer's seeds took to the target of a problem.
fn costs(results: &Results, cost: Cost, problem: &str, optimizer: &str) -> Vec<f64> {
    let rows = results.targets.iter().filter(|row| row.problem == problem && row.optimizer == optimizer);
    rows.map(|row| cost.of(row).unwrap_or(f64::INFINITY)).collect()
}

/// The problems with a target, each with the median of the fastest optimizer there, and the optimizers that ran on all of them.
fn measured(results: &Results, cost: Cost) -> (Vec<(String, f64)>, Vec<String>) {
    let problems = distinct(results.targets.iter().map(|row| &row.problem));
    let ran = |optimizer: &String| problems.iter().all(|problem| !costs(results, cost, problem, optimizer).is_empty());
    let optimizers: Vec<String> =
        distinct(results.targets.iter().map(|row| &row.optimizer)).into_iter().filter(ran).collect();
    let fastest = |problem: String| {
        let medians = optimizers.iter().map(|optimizer| median(&costs(results, cost, &problem, optimizer)));
        let fastest = medians.fold(f64::INFINITY, f64::min);
        (problem, fastest)
    };
    (problems.into_iter().map(fastest).collect(), optimizers)
}

/// Whether a problem has something to be measured by: not where half of no optimizer's seeds reached the target, and not where the
/// fastest were there before training.
fn tells((_, fastest): &(String, f64)) -> bool {
    fastest.is_finite() && *fastest > 0.0
}

/// The problems with a target that profiles are of, and those that they leave out.
pub fn profiled(results: &Results, cost: Cost) -> [Vec<String>; 2] {
    let (used, left_out): (Vec<_>, Vec<_>) = measured(results, cost).0.into_iter().partition(tells);
    [used, left_out].map(|problems| problems.into_iter().map(|(problem, _)| problem).collect())
}

/// The profiles of all optimizers that ran on every problem with a target; none for fewer than two problems.
pub fn profiles(results: &Results, cost: Cost) -> Vec<Profile> {
    let (problems, optimizers) = measured(results, cost);
    if problems.len() < 2 {
        return Vec::new();
    }
    let profile = |optimizer: String| {
        let of_problem = |(problem, fastest): &(String, f64)| {
            let costs = costs(results, cost, problem, &optimizer);
            costs.into_iter().map(|cost| cost / fastest).collect::<Vec<f64>>()
        };
        let mut ratios: Vec<f64> = problems.iter().filter(|problem| tells(problem)).flat_map(of_problem).collect();
        ratios.sort_by(f64::total_cmp);
        Profile { optimizer, ratios }
    };
    optimizers.into_iter().map(profile).filter(|profile| !profile.ratios.is_empty()).collect()
}

/// One optimizer's rank on each problem, 1 for the best.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranks {
    /// The optimizer.
    pub optimizer: String,
    /// The problems, in the study's order, with its rank; equal ones share the mean of theirs.
    pub ranks: Vec<(String, f64)>,
}

impl Ranks {
    /// The mean over problems.
    pub fn mean(&self) -> f64 {
        self.ranks.iter().map(|(_, rank)| rank).sum::<f64>() / self.ranks.len() as f64
    }
}

/// The ranks by the median test accuracy at the last epoch, or the test loss where there is no accuracy, of the optimizers
/// that ran on every problem; the best mean first. None for fewer than two problems or two optimizers.
pub fn ranks(results: &Results) -> Vec<Ranks> {
    let problems = distinct(results.seeds.iter().map(|row| &row.problem));
    let at_end = |problem: &str, optimizer: &str| {
        [Metric::TestAccuracies, Metric::TestLosses].into_iter().find_map(|metric| {
            let values: Vec<f64> =
                last_values(results, problem, optimizer, metric).iter().map(|(_, value)| *value).collect();
            // Smaller is better.
            let sign = if metric.larger_is_better() { -1.0 } else { 1.0 };
            (!values.is_empty()).then(|| sign * median(&values))
        })
    };
    let optimizers = distinct(results.seeds.iter().map(|row| &row.optimizer));
    let everywhere = |optimizer: &String| {
        let values: Option<Vec<f64>> = problems.iter().map(|problem| at_end(problem, optimizer)).collect();
        values.map(|values| (optimizer.clone(), values))
    };
    let known: Vec<(String, Vec<f64>)> = optimizers.iter().filter_map(everywhere).collect();
    if problems.len() < 2 || known.len() < 2 {
        return Vec::new();
    }
    let rank = |place: usize, value: f64| {
        let others = known.iter().map(|(_, values)| values[place]);
        let better = others.clone().filter(|other| *other < value).count() as f64;
        let equal = others.filter(|other| *other == value).count() as f64;
        better + (equal + 1.0) / 2.0
    };
    let mut ranks: Vec<Ranks> = known
        .iter()
        .map(|(optimizer, values)| {
            let ranks = problems.iter().zip(values).enumerate();
            let ranks = ranks.map(|(place, (problem, value))| (problem.clone(), rank(place, *value))).collect();
            Ranks { optimizer: optimizer.clone(), ranks }
        })
        .collect();
    ranks.sort_by(|a, b| a.mean().total_cmp(&b.mean()));
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::SeedRow;
    use crate::study::state::RunState;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    /// What each seed of an optimizer took on a problem; a tenth of it in seconds.
    fn targets(rows: &[(&str, &str, &[Option<f64>])]) -> Results {
        let mut targets = Vec::new();
        for (problem, optimizer, steps) in rows {
            targets.extend(steps.iter().enumerate().map(|(seed, steps)| TargetRow {
                problem: (*problem).to_owned(),
                optimizer: (*optimizer).to_owned(),
                seed: seed as u64,
                metric: Metric::TestAccuracies,
                value: 0.9,
                reached: steps.is_some(),
                steps: *steps,
                epochs: None,
                seconds: steps.map(|steps| (steps / 10.0).powi(2)),
            }));
        }
        Results { targets, ..Results::default() }
    }

    #[test]
    fn ratios_are_to_the_median_of_the_fastest_that_ran_everywhere() {
        let results = targets(&[
            ("p", "A", &[Some(300.0), Some(100.0), Some(200.0)]),
            ("p", "B", &[Some(400.0), Some(400.0), None]),
            // It ran here alone, so nobody is measured by it.
            ("p", "C", &[Some(10.0)]),
            ("q", "A", &[Some(50.0)]),
            ("q", "B", &[Some(20.0)]),
            // Nobody got there.
            ("r", "A", &[None]),
            ("r", "B", &[None, None, Some(7.0)]),
            // One was there before training.
            ("s", "A", &[Some(0.0)]),
            ("s", "B", &[Some(5.0)]),
        ]);
        let found = profiles(&results, Cost::Steps);
        let [a, b] = &found[..] else { panic!("{found:?}") };
        assert_eq!((a.optimizer.as_str(), &a.ratios[..]), ("A", &[0.5, 1.0, 1.5, 2.5][..]));
        assert_eq!((b.optimizer.as_str(), &b.ratios[..]), ("B", &[1.0, 2.0, 2.0, f64::INFINITY][..]));
        assert_eq!([0.4, 0.5, 1.4, 1.5, 2.5].map(|ratio| a.share(ratio)), [0.0, 0.25, 0.5, 0.75, 1.0]);
        // A ratio that rounding alone puts above another is equal to it.
        assert_eq!([a.share(1.5 * (1.0 - 1e-13)), a.share(1.5 * (1.0 - 1e-9))], [0.75, 0.5]);
        assert_eq!([1.0, 2.0, 1e9].map(|ratio| b.share(ratio)), [0.25, 0.75, 0.75]);
        near(a.geometric_mean(), (0.5f64 * 1.5 * 2.5).powf(0.25));
        // What never got there counts as four.
        near(b.geometric_mean(), 2.0);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(profiled(&results, Cost::Steps), [names(&["p", "q"]), names(&["r", "s"])]);
        let seconds = profiles(&results, Cost::Seconds);
        assert_eq!(seconds[0].ratios, [0.25, 1.0, 2.25, 6.25]);
    }

    #[test]
    fn one_problem_has_no_profile() {
        let one = targets(&[("p", "A", &[Some(1.0)]), ("p", "B", &[Some(2.0)])]);
        assert!(profiles(&one, Cost::Steps).is_empty());
        let two = targets(&[("p", "A", &[Some(1.0)]), ("q", "A", &[Some(2.0)])]);
        assert_eq!(profiles(&two, Cost::Steps)[0].ratios, [1.0, 1.0]);
    }

    /// The values of an optimizer's seeds on a problem at the last epoch, 2.
    fn seeds(rows: &[(&str, &str, Metric, &[f64])]) -> Results {
        let mut seeds = Vec::new();
        for &(problem, optimizer, metric, values) in rows {
            seeds.extend(values.iter().enumerate().map(|(seed, value)| SeedRow {
                problem: problem.to_owned(),
                optimizer: optimizer.to_owned(),
                seed: seed as u64,
                status: RunState::Done,
                epoch: 2,
                train_loss: None,
                train_accuracy: None,
                valid_loss: None,
                valid_accuracy: None,
                test_loss: (metric == Metric::TestLosses).then_some(*value),
                test_accuracy: (metric == Metric::TestAccuracies).then_some(*value),
                train_seconds: None,
                eval_seconds: None,
            }));
        }
        Results { seeds, ..Results::default() }
    }

    #[test]
    fn equal_medians_share_their_ranks_and_of_losses_the_smaller_is_better() {
        let (accuracy, loss) = (Metric::TestAccuracies, Metric::TestLosses);
        let results = seeds(&[
            ("p", "A", accuracy, &[0.9, 0.1, 0.85]),
            ("p", "B", accuracy, &[0.8, 0.8, 0.99]),
            ("p", "C", accuracy, &[0.8, 0.7, 0.95]),
            // It did not run on the other.
            ("p", "D", accuracy, &[0.97, 0.97]),
            ("q", "A", loss, &[0.5]),
            ("q", "B", loss, &[0.3]),
            ("q", "C", loss, &[0.4]),
        ]);
        let found = ranks(&results);
        let found: Vec<(&str, f64, f64, f64)> = found
            .iter()
            .map(|own| {
                assert_eq!((own.ranks[0].0.as_str(), own.ranks[1].0.as_str()), ("p", "q"));
                (own.optimizer.as_str(), own.ranks[0].1, own.ranks[1].1, own.mean())
            })
            .collect();
        assert_eq!(found, [("B", 2.5, 1.0, 1.75), ("A", 1.0, 3.0, 2.0), ("C", 2.5, 2.0, 2.25)]);
    }

    #[test]
    fn one_problem_or_one_optimizer_has_no_ranks() {
        let metric = Metric::TestAccuracies;
        assert!(ranks(&seeds(&[("p", "A", metric, &[0.9]), ("p", "B", metric, &[0.8])])).is_empty());
        assert!(ranks(&seeds(&[("p", "A", metric, &[0.9]), ("q", "A", metric, &[0.8])])).is_empty());
        let both = [("p", "A"), ("p", "B"), ("q", "A"), ("q", "B")].map(|(p, o)| (p, o, metric, &[0.9][..]));
        assert_eq!(ranks(&seeds(&both)).iter().map(Ranks::mean).collect::<Vec<_>>(), [1.5, 1.5]);
    }
}
