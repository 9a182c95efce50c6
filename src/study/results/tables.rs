//! The tables of a study as CSV: curves, seeds, grid and final values. Numbers are in the shortest form that reads back
//! equal.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::super::aggregate::{self, Diverged, Statistics};
use super::super::experiment::Metric;
use super::super::select::Candidate;
use super::super::settings::{Grid, RunSettings};
use super::super::store::DiagnosticRow;
use super::records::{self, CurveRow, GridRow, Record, SeedRow, to_csv};
use super::{PairResult, TargetColumns, Targets, names, state};
use crate::error::Result;
use crate::optimizers::{OptimizerName, OptionValue};

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
    let columns: Vec<&str> =
        rows.first().map_or_else(Vec::new, |row| row.options.iter().map(|(key, _)| *key).collect());
    let cell = |(_, value): &(&str, Option<OptionValue>)| value.as_ref().map(ToString::to_string).unwrap_or_default();
    let record = |row: &FinalRow| (records::FinalRow::from(row), row.options.iter().map(cell).collect());
    let has_target = rows.iter().any(|row| row.target.is_some());
    let left_out = if has_target { 0 } else { records::FinalRow::TARGET_COLUMNS };
    records::to_csv_with_options(&rows.iter().map(record).collect::<Vec<_>>(), &columns, left_out)
}

impl From<&FinalRow> for records::FinalRow {
    fn from(row: &FinalRow) -> Self {
        let Statistics { median, lower_quartile, upper_quartile, mean, std, n } = row.statistics;
        records::FinalRow {
            problem: row.problem.clone(),
            optimizer: row.optimizer.clone(),
            learning_rate: row.learning_rate,
            damping: row.damping,
            edge: row.edge.clone(),
            metric: row.metric,
            median,
            lower_quartile,
            upper_quartile,
            mean,
            std,
            n,
            diverged: row.diverged,
            target_steps: row.target.and_then(|target| target.target_steps),
            target_epochs: row.target.and_then(|target| target.target_epochs),
            target_seconds: row.target.and_then(|target| target.target_seconds),
            target_reached: row.target.map(|target| target.target_reached),
        }
    }
}

/// curves.csv.
pub(super) fn curves(pairs: &[PairResult], diverged: Diverged) -> Result<String> {
    let mut rows = Vec::new();
    for pair in pairs {
        let results = pair.finished();
        let [problem, optimizer] = names(pair);
        for metric in metrics() {
            let curve = aggregate::curve(&results, metric, pair.epochs(), diverged);
            for (epoch, at) in curve.iter().enumerate().filter_map(|(epoch, at)| Some((epoch, at.as_ref()?))) {
                rows.push(CurveRow {
                    problem: problem.clone(),
                    optimizer: optimizer.clone(),
                    metric,
                    epoch,
                    median: at.median,
                    lower_quartile: at.lower_quartile,
                    upper_quartile: at.upper_quartile,
                    mean: Some(at.mean),
                    std: Some(at.std),
                    n: Some(at.n),
                });
            }
        }
    }
    records::to_csv(&rows)
}

/// seeds.csv: what was measured, and nothing filled in.
pub(super) fn seeds(pairs: &[PairResult]) -> Result<String> {
    let mut rows = Vec::new();
    for pair in pairs {
        let [problem, optimizer] = names(pair);
        for run in &pair.seeds {
            rows.extend(run.result.rows.iter().map(|row| SeedRow {
                problem: problem.clone(),
                optimizer: optimizer.clone(),
                seed: run.task.seed,
                status: run.state,
                epoch: row.epoch,
                train_loss: Some(row.train_loss),
                train_accuracy: Some(row.train_accuracy),
                valid_loss: Some(row.valid_loss),
                valid_accuracy: Some(row.valid_accuracy),
                test_loss: Some(row.test_loss),
                test_accuracy: Some(row.test_accuracy),
                train_seconds: Some(row.train_seconds),
                eval_seconds: Some(row.eval_seconds),
            }));
        }
    }
    records::to_csv(&rows)
}

/// grid.csv: one row a setting and seed of the grid.
pub(super) fn grid(pairs: &[PairResult]) -> Result<String> {
    let columns = columns(pairs);
    let mut rows = Vec::new();
    for pair in pairs {
        let grid = &pair.grid;
        let [problem, optimizer] = names(pair);
        for (place, candidate) in grid.candidates.iter().enumerate() {
            for run in &grid.runs[place] {
                let last = run.result.as_ref().and_then(|result| result.rows.last());
                let row = GridRow {
                    problem: problem.clone(),
                    optimizer: optimizer.clone(),
                    learning_rate: candidate.learning_rate,
                    damping: candidate.damping,
                    seed: Some(run.task.seed),
                    status: state(run)?,
                    epoch: last.map(|row| row.epoch),
                    train_loss: last.map(|row| row.train_loss),
                    train_accuracy: last.map(|row| row.train_accuracy),
                    valid_loss: last.map(|row| row.valid_loss),
                    valid_accuracy: last.map(|row| row.valid_accuracy),
                    test_loss: last.map(|row| row.test_loss),
                    test_accuracy: last.map(|row| row.test_accuracy),
                    rank: grid.rank(place),
                    best: pair.winner == Some(place),
                };
                rows.push((row, option_cells(&columns, &grid.grid.settings[place])));
            }
        }
    }
    records::to_csv_with_options(&rows, &columns, 0)
}

/// In the order of the columns.
fn metrics() -> impl Iterator<Item = Metric> {
    Metric::NAMES.into_iter().map(|(_, metric)| metric)
}

// Which options of optimizers are columns of a study's tables.

/// Options that say which method it is that bears an optimizer's name: a column wherever one is not at its default.
const TELLING: [&str; 2] = ["averaging", "kfac_approx"];

/// The options, in the registry's order, that are columns beside these grids: those of which the settings of an optimizer
/// have several values, in one grid or in several under different labels, and those that say which method bears an optimizer's name, wherever
/// one is not at its default.
pub fn option_columns<'a>(grids: impl IntoIterator<Item = &'a Grid>) -> Vec<&'static str> {
    let settings: Vec<&RunSettings> = grids.into_iter().flat_map(|grid| &grid.settings).collect();
    let is_column = |key: &str| {
        let with_it = || settings.iter().filter_map(|settings| Some((settings.optimizer.name, settings.option(key)?)));
        let mut first: Vec<(OptimizerName, OptionValue)> = Vec::new();
        with_it().any(|(name, value)| {
            let default = name.option(key).map(|info| (info.default)());
            if TELLING.contains(&key) && Some(&value) != default.as_ref() {
                return true;
            }
            match first.iter().find(|(known, _)| *known == name) {
                Some((_, other)) => *other != value,
                None => {
                    first.push((name, value));
                    false
                }
            }
        })
    };
    OptimizerName::all_options().into_iter().map(|info| info.key).filter(|key| is_column(key)).collect()
}

/// The values of these columns for a setting, empty where its optimizer has no such option.
pub fn option_cells(columns: &[&'static str], settings: &RunSettings) -> Vec<String> {
    let cell = |key: &&str| settings.option(key).map(|value| value.to_string()).unwrap_or_default();
    columns.iter().map(cell).collect()
}

// diagnostics.csv of a study: what the seeds of the best settings measured on their way.

/// One row: one number about one step of a seed of a best setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyDiagnosticRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it, or its label.
    pub optimizer: String,
    /// The run's seed.
    pub seed: u64,
    /// Steps made before this one, over all epochs.
    pub step: u64,
    /// The epoch in which the step was made, from 1.
    pub epoch: usize,
    /// What was measured; docs/diagnostics.md lists the names.
    pub name: String,
    /// The layer's path, or `all`.
    pub layer: String,
    /// The number.
    pub value: f64,
}

impl Record for StudyDiagnosticRow {
    const COLUMNS: &'static [&'static str] =
        &["problem", "optimizer", "seed", "step", "epoch", "name", "layer", "value"];
}

/// The table; nothing where no finished run has diagnostics. A run's table that cannot be read is left out, and told.
///
/// # Errors
/// Where the rows cannot be written as CSV.
pub(super) fn csv_of_diagnostics(pairs: &[PairResult]) -> Result<Option<String>> {
    let mut rows: Vec<StudyDiagnosticRow> = Vec::new();
    for pair in pairs {
        let [problem, optimizer] = names(pair);
        for run in pair.seeds.iter().filter(|run| run.is_finished()) {
            let measured = run.task.folder().read_diagnostics().unwrap_or_else(|error| {
                tracing::warn!("{error}; the run's diagnostics are left out of the study's");
                Vec::new()
            });
            rows.extend(measured.into_iter().map(|row: DiagnosticRow| StudyDiagnosticRow {
                problem: problem.clone(),
                optimizer: optimizer.clone(),
                seed: run.task.seed,
                step: row.step,
                epoch: row.epoch,
                name: row.name,
                layer: row.layer,
                value: row.value,
            }));
        }
    }
    if rows.is_empty() { Ok(None) } else { to_csv(&rows).map(Some) }
}
