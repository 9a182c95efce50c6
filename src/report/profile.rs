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

/// One optimizer's ratios, one for each problem and seed: what it took over what the fastest optimizer's median was on the
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

/// The profiles of all optimizers that ran on every problem with a target; none for fewer than two problems.
pub fn profiles(results: &Results, cost: Cost) -> Vec<Profile> {
    let problems = distinct(results.targets.iter().map(|row| &row.problem));
    if problems.len() < 2 {
        return Vec::new();
    }
    let cost_of = |row: &TargetRow| cost.of(row).unwrap_or(f64::INFINITY);
    let own = |problem: &str, optimizer: &str| -> Vec<f64> {
        let rows = results.targets.iter().filter(|row| row.problem == problem && row.optimizer == optimizer);
        rows.map(cost_of).collect()
    };
    let optimizers = distinct(results.targets.iter().map(|row| &row.optimizer));
    let everywhere = |optimizer: &&String| problems.iter().all(|problem| !own(problem, optimizer).is_empty());
    let optimizers: Vec<&String> = optimizers.iter().filter(everywhere).collect();
    let fastest: Vec<f64> = problems
        .iter()
        .map(|problem| {
            optimizers.iter().map(|optimizer| median(&own(problem, optimizer))).fold(f64::INFINITY, f64::min)
        })
        .collect();
    let profile = |optimizer: &&String| {
        let mut ratios: Vec<f64> = problems
            .iter()
            .zip(&fastest)
            // A problem whose target half of no optimizer's seeds reached tells nothing of them.
            .filter(|(_, fastest)| fastest.is_finite() && **fastest > 0.0)
            .flat_map(|(problem, fastest)| own(problem, optimizer).into_iter().map(move |cost| cost / fastest))
            .collect();
        ratios.sort_by(f64::total_cmp);
        Profile { optimizer: (*optimizer).clone(), ratios }
    };
    optimizers.iter().map(profile).filter(|profile| !profile.ratios.is_empty()).collect()
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
