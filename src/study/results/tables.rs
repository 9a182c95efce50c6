//! The tables of a study as CSV: curves, seeds, grid and final values. Numbers are in the shortest form that reads back
//! equal.

use serde::Serialize;

use super::super::aggregate::{self, Diverged, Statistics};
use super::super::collect::GridRun;
use super::super::experiment::Metric;
use super::super::select::{Candidate, value};
use super::super::store::EpochRow;
use super::{PairResult, status};
use crate::error::Result;
use crate::table::csv;

const CURVES: [&str; 10] =
    ["problem", "optimizer", "metric", "epoch", "median", "lower_quartile", "upper_quartile", "mean", "std", "n"];
const SEEDS: [&str; 13] = [
    "problem",
    "optimizer",
    "seed",
    "status",
    "epoch",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_accuracy",
    "test_loss",
    "test_accuracy",
    "train_seconds",
    "eval_seconds",
];
const GRID: [&str; 15] = [
    "problem",
    "optimizer",
    "learning_rate",
    "damping",
    "seed",
    "status",
    "epoch",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_accuracy",
    "test_loss",
    "test_accuracy",
    "rank",
    "best",
];
const FINAL: [&str; 13] = [
    "problem",
    "optimizer",
    "learning_rate",
    "damping",
    "edge",
    "metric",
    "median",
    "lower_quartile",
    "upper_quartile",
    "mean",
    "std",
    "n",
    "diverged",
];

/// One metric of one optimizer on one problem after the last epoch.
#[derive(Clone, Debug, Serialize)]
pub struct FinalRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer as figures write it.
    pub optimizer: &'static str,
    /// Of the best setting.
    pub learning_rate: f64,
    /// Of the best setting; nothing for the baselines.
    pub damping: Option<f64>,
    /// Where the best setting lies in its grid; see [`PairResult::edge`].
    pub edge: String,
    /// Which metric.
    pub metric: Metric,
    /// Over the seeds.
    #[serde(flatten)]
    pub statistics: Statistics,
    /// How many of the seeds diverged.
    pub diverged: usize,
}

impl PairResult {
    /// The last epoch's statistics of every metric; nothing before a seed is finished.
    pub fn final_rows(&self, diverged: Diverged) -> Vec<FinalRow> {
        let Some(Candidate { learning_rate, damping, .. }) = self.setting() else { return Vec::new() };
        let results = self.finished();
        let row = |metric| {
            let statistics = *aggregate::curve(&results, metric, self.epochs(), diverged).last()?;
            Some(FinalRow {
                problem: self.grid.problem.clone(),
                optimizer: self.grid.grid.optimizer.title(),
                learning_rate: *learning_rate,
                damping: *damping,
                edge: self.edge(),
                metric,
                statistics: statistics?,
                diverged: results.iter().filter(|result| result.diverged).count(),
            })
        };
        metrics().filter_map(row).collect()
    }
}

/// final.csv.
pub fn final_csv(rows: &[FinalRow]) -> Result<String> {
    let record = |row: &FinalRow| {
        let setting = [row.learning_rate.to_string(), optional(row.damping), row.edge.clone(), row.metric.to_string()];
        let head = [row.problem.clone(), row.optimizer.to_owned()];
        let tail = std::iter::once(row.diverged.to_string());
        head.into_iter().chain(setting).chain(statistics(&row.statistics)).chain(tail).collect()
    };
    csv(&FINAL, rows.iter().map(record))
}

/// curves.csv.
pub(super) fn curves(pairs: &[PairResult], diverged: Diverged) -> Result<String> {
    let mut records = Vec::new();
    for pair in pairs {
        let results = pair.finished();
        for metric in metrics() {
            let curve = aggregate::curve(&results, metric, pair.epochs(), diverged);
            for (epoch, at) in curve.iter().enumerate().filter_map(|(epoch, at)| Some((epoch, at.as_ref()?))) {
                let head = names(pair).into_iter().chain([metric.to_string(), epoch.to_string()]);
                records.push(head.chain(statistics(at)).collect());
            }
        }
    }
    csv(&CURVES, records)
}

/// seeds.csv: what was measured, and nothing filled in.
pub(super) fn seeds(pairs: &[PairResult]) -> Result<String> {
    let mut records = Vec::new();
    for pair in pairs {
        for run in &pair.seeds {
            for row in &run.result.rows {
                let head = names(pair).into_iter().chain([run.task.seed.to_string(), run.status.to_owned()]);
                let times = [row.train_seconds.to_string(), row.eval_seconds.to_string()];
                records.push(head.chain(measured(Some(row))).chain(times).collect());
            }
        }
    }
    csv(&SEEDS, records)
}

/// grid.csv: one row a setting and seed of the grid.
pub(super) fn grid(pairs: &[PairResult]) -> Result<String> {
    let mut records = Vec::new();
    for pair in pairs {
        let grid = &pair.grid;
        for (place, candidate) in grid.candidates.iter().enumerate() {
            let best = pair.winner == Some(place);
            for GridRun { task, result } in &grid.runs[place] {
                let status = match result {
                    Some(result) if result.diverged => "diverged",
                    Some(_) => "done",
                    None => status(task)?,
                };
                let last = result.as_ref().and_then(|result| result.rows.last());
                let setting = [candidate.learning_rate.to_string(), optional(candidate.damping)];
                let head = names(pair).into_iter().chain(setting);
                let rank = grid.rank(place).map(|rank| rank.to_string()).unwrap_or_default();
                let record = head.chain([task.seed.to_string(), status.to_owned()]).chain(measured(last));
                records.push(record.chain([rank, best.to_string()]).collect());
            }
        }
    }
    csv(&GRID, records)
}

fn names(pair: &PairResult) -> [String; 2] {
    [pair.grid.problem.clone(), pair.grid.grid.optimizer.title().to_owned()]
}

/// In the order of the columns.
fn metrics() -> impl Iterator<Item = Metric> {
    Metric::NAMES.into_iter().map(|(_, metric)| metric)
}

fn optional(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// The columns epoch to test_accuracy.
fn measured(row: Option<&EpochRow>) -> Vec<String> {
    let Some(row) = row else { return vec![String::new(); 7] };
    let values = metrics().map(|metric| value(row, metric).to_string());
    std::iter::once(row.epoch.to_string()).chain(values).collect()
}

/// The columns median to n.
fn statistics(at: &Statistics) -> Vec<String> {
    let values = [at.median, at.lower_quartile, at.upper_quartile, at.mean, at.std].map(|value| value.to_string());
    values.into_iter().chain([at.n.to_string()]).collect()
}
