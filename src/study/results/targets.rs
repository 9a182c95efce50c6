//! When the seeds of best settings reached the study's target: steps, epochs and seconds of training.

use serde::Serialize;
use serde_json::{Value, json};

use super::super::aggregate::{self, Diverged};
use super::super::experiment::{Target, TargetValue};
use super::super::select::value;
use super::super::times::{self, Quiet, Timed};
use super::records::{self, TargetRow};
use super::{PairResult, SeedRun, names};
use crate::error::Result;
use crate::statistics::sorted;

/// The target of a study, and how its optimizers fare by it.
#[derive(Clone, Debug)]
pub struct Targets {
    target: Target,
    problems: Vec<Aim>,
    pairs: Vec<PairTargets>,
}

/// What is to be reached on a problem.
#[derive(Clone, Debug)]
struct Aim {
    problem: String,
    /// Nothing before the baselines are finished.
    value: Option<f64>,
    /// Whose end it is.
    baseline: Option<String>,
}

/// One optimizer's seeds on one problem.
#[derive(Clone, Debug)]
struct PairTargets {
    names: [String; 2],
    seeds: Vec<(u64, Option<Reached>)>,
}

/// The first evaluation that was good enough.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reached {
    steps: u64,
    epoch: usize,
    /// Of training, as on a quiet machine.
    seconds: f64,
}

/// The columns of final.csv: medians over seeds, of which one that did not reach the target counts as never. They are
/// empty where fewer than half reached it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TargetColumns {
    /// Steps made.
    pub target_steps: Option<f64>,
    /// Epochs trained.
    pub target_epochs: Option<f64>,
    /// Seconds of training to that epoch's end, as on a quiet machine.
    pub target_seconds: Option<f64>,
    /// How many seeds reached it.
    pub target_reached: usize,
}

impl Targets {
    /// What the finished seeds of all pairs of a study come to.
    pub fn new(target: Target, pairs: &[PairResult], diverged: Diverged) -> Self {
        let mut problems: Vec<Aim> = Vec::new();
        let mut targets = Vec::new();
        for pair in pairs {
            let problem = &pair.grid.problem;
            if problems.iter().any(|aim| aim.problem == *problem) {
                continue;
            }
            let here: Vec<&PairResult> = pairs.iter().filter(|pair| pair.grid.problem == *problem).collect();
            let aim = aim(target, problem, &here, diverged);
            for (pair, times) in here.iter().zip(quiet_seconds(&here)) {
                let counted = |(run, _): &(&SeedRun, Vec<Quiet>)| {
                    run.is_finished() && (diverged == Diverged::Fill || !run.result.diverged)
                };
                let one = |(run, times): (&SeedRun, Vec<Quiet>)| {
                    (run.task.seed, aim.value.and_then(|aim| reached(pair, run, &times, target, aim)))
                };
                let seeds = pair.seeds.iter().zip(times).filter(counted).map(one).collect();
                targets.push(PairTargets { names: names(pair), seeds });
            }
            problems.push(aim);
        }
        Targets { target, problems, pairs: targets }
    }

    fn aim_of(&self, problem: &str) -> Option<f64> {
        self.problems.iter().find(|aim| aim.problem == problem)?.value
    }

    /// The columns of final.csv.
    pub(super) fn columns(&self, pair: &PairResult) -> TargetColumns {
        let names = names(pair);
        let of = self.pairs.iter().find(|targets| targets.names == names);
        let seeds: &[(u64, Option<Reached>)] = of.map_or(&[], |targets| &targets.seeds);
        let half = |part: fn(&Reached) -> f64| {
            half(&seeds.iter().map(|(_, reached)| reached.as_ref().map_or(f64::INFINITY, part)).collect::<Vec<_>>())
        };
        TargetColumns {
            target_steps: half(|reached| reached.steps as f64),
            target_epochs: half(|reached| reached.epoch as f64),
            target_seconds: half(|reached| reached.seconds),
            target_reached: seeds.iter().filter(|(_, reached)| reached.is_some()).count(),
        }
    }

    /// targets.csv: one row a finished seed of these pairs.
    pub(super) fn csv(&self, pairs: &[PairResult]) -> Result<String> {
        let asked: Vec<[String; 2]> = pairs.iter().map(names).collect();
        let mut rows = Vec::new();
        for PairTargets { names, seeds } in self.pairs.iter().filter(|targets| asked.contains(&targets.names)) {
            let Some(value) = self.aim_of(&names[0]) else { continue };
            let [problem, optimizer] = names;
            rows.extend(seeds.iter().map(|(seed, reached)| TargetRow {
                problem: problem.clone(),
                optimizer: optimizer.clone(),
                seed: *seed,
                metric: self.target.metric,
                value,
                reached: reached.is_some(),
                steps: reached.map(|at| at.steps as f64),
                epochs: reached.map(|at| at.epoch as f64),
                seconds: reached.map(|at| at.seconds),
            }));
        }
        records::to_csv(&rows)
    }

    /// What meta.json says of it.
    pub(super) fn description(&self) -> Value {
        let problem = |aim: &Aim| (aim.problem.clone(), json!({ "value": aim.value, "baseline": aim.baseline }));
        json!({
            "metric": self.target.metric,
            "value": self.target.value,
            "problems": self.problems.iter().map(problem).collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// What is to be reached on a problem; the end of the best baseline once all its baselines are finished.
fn aim(target: Target, problem: &str, pairs: &[&PairResult], diverged: Diverged) -> Aim {
    let problem = problem.to_owned();
    if let TargetValue::Number(value) = target.value {
        return Aim { problem, value: Some(value), baseline: None };
    }
    let baselines = || pairs.iter().filter(|pair| !pair.grid.grid.optimizer.has_damping());
    let finished = |pair: &&PairResult| {
        pair.is_decided() && (pair.winner.is_none() || pair.seeds.iter().all(SeedRun::is_finished))
    };
    if !baselines().all(finished) {
        return Aim { problem, value: None, baseline: None };
    }
    let end = |pair: &&&PairResult| {
        let end = aggregate::end(&pair.finished(), target.metric, diverged)?;
        Some((end.median, pair.grid.grid.title().to_owned()))
    };
    let larger = target.metric.larger_is_better();
    // Of equal ones the first stays.
    let best =
        baselines().filter_map(|pair| end(&pair)).filter(|(value, _)| value.is_finite()).reduce(|best, other| {
            let better = if larger { other.0 > best.0 } else { other.0 < best.0 };
            if better { other } else { best }
        });
    let (value, baseline) = best.unzip();
    Aim { problem, value, baseline }
}

/// The seconds of every epoch of each pair's runs; the pairs are those of one problem.
fn quiet_seconds(pairs: &[&PairResult]) -> Vec<Vec<Vec<Quiet>>> {
    let timed = |run: &SeedRun| {
        let rows = run.result.rows.iter();
        rows.map(|row| Timed { training: row.train_seconds, evaluation: row.eval_seconds }).collect()
    };
    times::quiet(&pairs.iter().map(|pair| pair.seeds.iter().map(timed).collect()).collect::<Vec<_>>())
}

fn reached(pair: &PairResult, run: &SeedRun, times: &[Quiet], target: Target, aim: f64) -> Option<Reached> {
    let rows = &run.result.rows;
    let place = rows.iter().position(|row| Target::is_reached(target.metric, value(row, target.metric), aim))?;
    let epoch = rows[place].epoch;
    let seconds = times[..=place].iter().map(|epoch| epoch.seconds).sum();
    Some(Reached { steps: pair.steps_at(run, epoch), epoch, seconds })
}

/// When half of the seeds were there: the median, and of an even number of which exactly half ever got there, when the
/// last of these did.
fn half(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let last = sorted.len().checked_sub(1)?;
    let (lower, upper) = (sorted[last / 2], sorted[sorted.len() / 2]);
    let at = if upper.is_finite() { f64::midpoint(lower, upper) } else { lower };
    at.is_finite().then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::experiment::Metric;

    #[test]
    fn a_seed_that_never_gets_there_counts_as_never() {
        let never = f64::INFINITY;
        assert_eq!(half(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(half(&[3.0, 1.0, 2.0, 8.0]), Some(2.5));
        assert_eq!(half(&[3.0, never, 1.0, never, 2.0]), Some(3.0));
        assert_eq!(half(&[never, 1.0, 2.0, never]), Some(2.0), "half of them reach it");
        assert_eq!(half(&[never, 1.0, 2.0, never, never]), None, "fewer than half reach it");
        assert_eq!(half(&[]), None);
    }

    #[test]
    fn accuracies_are_reached_from_below_and_losses_from_above() {
        assert!(Target::is_reached(Metric::ValidAccuracies, 0.92, 0.92));
        assert!(!Target::is_reached(Metric::ValidAccuracies, 0.91, 0.92));
        assert!(Target::is_reached(Metric::TestLosses, 0.3, 0.3) && !Target::is_reached(Metric::TestLosses, 0.4, 0.3));
        assert!(!Target::is_reached(Metric::ValidAccuracies, f64::NAN, 0.5));
        assert!(!Target::is_reached(Metric::TestLosses, f64::NAN, 0.5));
    }
}
