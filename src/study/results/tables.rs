//! The tables of a study as CSV: curves, seeds, grid and final values. Numbers are in the shortest form that reads back
//! equal.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::super::aggregate::{self, Diverged, Statistics};
use super::super::collect::GridRun;
use super::super::experiment::Metric;
use super::super::select::{Candidate, value};
use super::super::store::EpochRow;
use super::{PairResult, TargetColumns, Targets, names, option_cells, option_columns, status};
use crate::error::Result;
use crate::optimizers::OptionValue;
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
    pub optimizer: String,
    /// Of the best setting.
    pub learning_rate: f64,
    /// Of the best setting; nothing for the baselines.
    pub damping: Option<f64>,
    /// Of the best setting, the options that are columns of the study's tables.
    #[serde(flatten, serialize_with = "as_map")]
    pub options: Vec<(&'static str, Option<OptionValue>)>,
    /// Where the best setting lies in its grid; see [`PairResult::edge`].
    pub edge: String,
    /// Which metric.
    pub metric: Metric,
    /// Over the seeds.
    #[serde(flatten)]
    pub statistics: Statistics,
    /// How many of the seeds diverged.
    pub diverged: usize,
    /// When they reached the study's target, where it has one.
    #[serde(flatten)]
    pub target: Option<TargetColumns>,
}

fn as_map<S: Serializer>(
    options: &[(&'static str, Option<OptionValue>)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(options.len()))?;
    options.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
    map.end()
}

/// The rows of final.csv of all pairs of a study.
pub fn final_rows(pairs: &[PairResult], diverged: Diverged, targets: Option<&Targets>) -> Vec<FinalRow> {
    let columns = columns(pairs);
    pairs.iter().flat_map(|pair| pair.final_rows(diverged, &columns, targets)).collect()
}

/// The options that are columns of a study's tables.
pub(super) fn columns(pairs: &[PairResult]) -> Vec<&'static str> {
    option_columns(pairs.iter().map(|pair| &pair.grid.grid))
}

impl PairResult {
    /// The last epoch's statistics of every metric, with these options of the setting; nothing before a seed is finished.
    pub fn final_rows(&self, diverged: Diverged, columns: &[&'static str], targets: Option<&Targets>) -> Vec<FinalRow> {
        let Some(Candidate { learning_rate, damping, .. }) = self.setting() else { return Vec::new() };
        let settings = self.winner.and_then(|place| self.grid.grid.settings.get(place));
        let option = |key: &&'static str| (*key, settings.and_then(|settings| settings.option(key)));
        let results = self.finished();
        let target = targets.map(|targets| targets.columns(self));
        let row = |metric| {
            Some(FinalRow {
                problem: self.grid.problem.clone(),
                optimizer: self.grid.grid.title().to_owned(),
                learning_rate: *learning_rate,
                damping: *damping,
                options: columns.iter().map(option).collect(),
                edge: self.edge(),
                metric,
                statistics: aggregate::end(&results, metric, diverged)?,
                diverged: results.iter().filter(|result| result.diverged).count(),
                target,
            })
        };
        metrics().filter_map(row).collect()
    }
}

/// final.csv.
pub fn final_csv(rows: &[FinalRow]) -> Result<String> {
    let record = |row: &FinalRow| {
        let head = [row.problem.clone(), row.optimizer.clone(), row.learning_rate.to_string(), optional(row.damping)];
        let options = row.options.iter().map(|(_, value)| value.as_ref().map(ToString::to_string).unwrap_or_default());
        let place = [row.edge.clone(), row.metric.to_string()];
        let tail = std::iter::once(row.diverged.to_string()).chain(row.target.iter().flat_map(target_cells));
        head.into_iter().chain(options).chain(place).chain(statistics(&row.statistics)).chain(tail).collect()
    };
    let columns: Vec<&str> =
        rows.first().map_or_else(Vec::new, |row| row.options.iter().map(|(key, _)| *key).collect());
    let mut header = with_options(&FINAL, &columns);
    if rows.iter().any(|row| row.target.is_some()) {
        header.extend(["target_steps", "target_epochs", "target_seconds", "target_reached"]);
    }
    csv(&header, rows.iter().map(record))
}

fn target_cells(target: &TargetColumns) -> [String; 4] {
    let TargetColumns { target_steps, target_epochs, target_seconds, target_reached } = *target;
    let [steps, epochs, seconds] = [target_steps, target_epochs, target_seconds].map(optional);
    [steps, epochs, seconds, target_reached.to_string()]
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
    let columns = columns(pairs);
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
                let options = option_cells(&columns, &grid.grid.settings[place]);
                let head = names(pair).into_iter().chain(setting).chain(options);
                let rank = grid.rank(place).map(|rank| rank.to_string()).unwrap_or_default();
                let record = head.chain([task.seed.to_string(), status.to_owned()]).chain(measured(last));
                records.push(record.chain([rank, best.to_string()]).collect());
            }
        }
    }
    csv(&with_options(&GRID, &columns), records)
}

/// A header with columns for options behind the damping.
pub(super) fn with_options<'a>(header: &[&'a str], columns: &[&'a str]) -> Vec<&'a str> {
    let behind = header.iter().position(|column| *column == "damping").map_or(header.len(), |place| place + 1);
    [&header[..behind], columns, &header[behind..]].concat()
}

/// In the order of the columns.
fn metrics() -> impl Iterator<Item = Metric> {
    Metric::NAMES.into_iter().map(|(_, metric)| metric)
}

pub(super) fn optional(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// The columns epoch to test_accuracy.
pub(super) fn measured(row: Option<&EpochRow>) -> Vec<String> {
    let Some(row) = row else { return vec![String::new(); 7] };
    let values = metrics().map(|metric| value(row, metric).to_string());
    std::iter::once(row.epoch.to_string()).chain(values).collect()
}

/// The columns median to n.
fn statistics(at: &Statistics) -> Vec<String> {
    let values = [at.median, at.lower_quartile, at.upper_quartile, at.mean, at.std].map(|value| value.to_string());
    values.into_iter().chain([at.n.to_string()]).collect()
}
