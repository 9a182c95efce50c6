//! What tuning came to and what it cost: each optimizer's budget, its range, the epochs trained, where the best setting
//! lies; and what further tunings would have chosen.

use std::collections::HashSet;
use std::path::PathBuf;

use rand::RngExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::axes;
use super::super::collect::{GridResult, GridRun};
use super::super::select::Candidate;
use super::super::store::{EpochRow, KeepEnd};
use super::super::task::RunTask;
use super::records::{self, TuningRow};
use super::{PairResult, names, option_cells};
use crate::error::Result;
use crate::random::{Purpose, stream};

/// What meta.json says of each pair's tuning.
pub(super) fn description(pairs: &[PairResult]) -> Vec<Value> {
    let of = |pair: &PairResult| {
        let grid = &pair.grid;
        json!({
            "problem": grid.problem,
            "optimizer": grid.grid.title(),
            "baseline": !grid.grid.optimizer.has_damping(),
            "search": grid.grid.search.map_or("grid", |search| search.kind.as_str()),
            "budget": grid.grid.settings.len(),
            "finished": grid.candidates.iter().filter(|candidate| !candidate.results.is_empty()).count(),
            "epochs": grid.epochs_trained(),
            "axes": pair.winner.map_or_else(Vec::new, |place| axes::axes(&grid.grid, place)),
        })
    };
    pairs.iter().map(of).collect()
}

/// tuning.csv: what each of `repeats` further tunings of each finished grid would have chosen. A tuning draws as many
/// settings as the grid has from it, with putting back, and takes the best of them by what they measured with the grid's
/// seed; nothing is trained for it.
pub(super) fn csv_of_repeats(
    pairs: &[PairResult],
    columns: &[&'static str],
    repeats: usize,
    grid_seed: u64,
) -> Result<String> {
    let mut rows = Vec::new();
    for pair in pairs.iter().filter(|pair| pair.grid.is_complete && !pair.is_single()) {
        let [problem, optimizer] = names(pair);
        for (repeat, place) in chosen(pair, repeats, grid_seed).into_iter().enumerate() {
            let candidate = &pair.grid.candidates[place];
            let row = end(candidate);
            let row = TuningRow {
                problem: problem.clone(),
                optimizer: optimizer.clone(),
                repeat: repeat + 1,
                learning_rate: candidate.learning_rate,
                damping: candidate.damping,
                epoch: row.map(|row| row.epoch),
                train_loss: row.map(|row| row.train_loss),
                train_accuracy: row.map(|row| row.train_accuracy),
                valid_loss: row.map(|row| row.valid_loss),
                valid_accuracy: row.map(|row| row.valid_accuracy),
                test_loss: row.map(|row| row.test_loss),
                test_accuracy: row.map(|row| row.test_accuracy),
            };
            rows.push((row, option_cells(columns, &pair.grid.grid.settings[place])));
        }
    }
    records::to_csv_with_options(&rows, columns, 0)
}

/// What a setting's run with the grid's seed ended with; a diverged one counts with its values before training.
pub(super) fn end(candidate: &Candidate) -> Option<&EpochRow> {
    let result = candidate.results.first()?;
    if result.diverged { result.rows.first() } else { result.rows.last() }
}

/// The places in the grid of what each repeat chooses. More repeats add to those of fewer, and no pair's depend on others.
fn chosen(pair: &PairResult, repeats: usize, grid_seed: u64) -> Vec<usize> {
    let settings = pair.grid.candidates.len();
    let mut ranks = vec![usize::MAX; settings];
    pair.grid.ranking.iter().enumerate().for_each(|(rank, &place)| ranks[place] = rank);
    let mut generator = stream(grid_seed, Purpose::Tuning, key(pair));
    let mut one = || (0..settings).map(|_| generator.random_range(0..settings)).min_by_key(|place| ranks[*place]);
    (0..repeats).filter_map(|_| one()).collect()
}

/// A number that tells the pair from others.
fn key(pair: &PairResult) -> u64 {
    let digest = Sha256::digest(names(pair).join("\n"));
    digest.iter().take(8).fold(0, |key, byte| (key << 8) | u64::from(*byte))
}

impl GridResult {
    /// Epochs trained for the grid: of a setting that goes from rung to rung those of its highest one where runs are
    /// continued, else of all of them.
    pub fn epochs_trained(&self) -> usize {
        let of_result =
            |run: &GridRun| run.result.as_ref().and_then(|result| result.rows.last()).map_or(0, |row| row.epoch);
        let highest: usize = self.runs.iter().flatten().map(of_result).sum();
        let counted: HashSet<PathBuf> =
            self.runs.iter().flatten().map(|run| run.task.folder().path().to_owned()).collect();
        // Runs with diagnostics go on from no other's end.
        let is_trained_anew = |task: &&RunTask| {
            !task.settings.can_be_continued() || task.keep_end == KeepEnd::Never || task.diagnostics.is_some()
        };
        let below = self.rungs.iter().rev().skip(1).flatten().filter(is_trained_anew);
        let below = below.filter(|task| !counted.contains(task.folder().path()));
        highest + below.map(|task| task.settings.problem.epochs).sum::<usize>()
    }
}
