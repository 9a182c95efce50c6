//! What tuning came to and what it cost: each optimizer's budget, its range, the epochs trained, where the best setting
//! lies; and what further tunings would have chosen; and the best single setting over several problems.

use std::collections::HashSet;
use std::path::PathBuf;

use rand::RngExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::axes;
use super::super::collect::{GridResult, GridRun};
use super::super::select::Candidate;
use super::super::settings::{RunSettings, RunTask};
use super::super::store::{EpochRow, KeepEnd};
use super::records::{self, SingleRow, TuningRow};
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
fn end(candidate: &Candidate) -> Option<&EpochRow> {
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
        let is_trained_anew = |task: &&RunTask| !task.may_go_on_from_shorter() || task.keep_end == KeepEnd::Never;
        let below = self.rungs.iter().rev().skip(1).flatten().filter(is_trained_anew);
        let below = below.filter(|task| !counted.contains(task.folder().path()));
        highest + below.map(|task| task.settings.problem.epochs).sum::<usize>()
    }
}

// The best single setting of each optimizer over all problems of a study, beside the best of each problem.

/// single.csv: one row an optimizer and problem, of optimizers that have the same settings on several problems. All values
/// are those of the runs with the grid's seed: nothing is trained for it.
///
/// The setting is the one with the least mean rank over the problems; of equal ones that whose worst rank is the least,
/// then the first. One that diverged on a problem comes after those that did not.
pub(super) fn csv_of_single(pairs: &[PairResult], columns: &[&'static str]) -> Result<String> {
    let mut rows = Vec::new();
    for own in by_optimizer(pairs) {
        let Some(place) = best(&own) else { continue };
        for pair in own {
            rows.extend(
                row(&pair.grid, place).map(|row| (row, option_cells(columns, &pair.grid.grid.settings[place]))),
            );
        }
    }
    records::to_csv_with_options(&rows, columns, 0)
}

/// The pairs of each optimizer that is run with the same settings on several problems, all of whose grids are finished.
fn by_optimizer(pairs: &[PairResult]) -> Vec<Vec<&PairResult>> {
    let mut groups: Vec<Vec<&PairResult>> = Vec::new();
    for pair in pairs {
        match groups.iter_mut().find(|own| own[0].grid.grid.title() == pair.grid.grid.title()) {
            Some(own) => own.push(pair),
            None => groups.push(vec![pair]),
        }
    }
    let alike = |a: &RunSettings, b: &RunSettings| a.optimizer == b.optimizer && a.mc_samples == b.mc_samples;
    let same = |a: &PairResult, b: &PairResult| {
        let (a, b) = (&a.grid.grid.settings, &b.grid.grid.settings);
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
    };
    groups.retain(|own| {
        own.len() > 1 && own.iter().all(|pair| pair.grid.is_complete && same(own[0], pair)) && !own[0].is_single()
    });
    groups
}

/// The place of the setting with the best ranks.
fn best(pairs: &[&PairResult]) -> Option<usize> {
    let score = |place: usize| {
        let diverged = pairs.iter().filter(|pair| pair.grid.candidates[place].diverged() > 0).count();
        let ranks: Option<Vec<usize>> = pairs.iter().map(|pair| pair.grid.rank(place)).collect();
        ranks.map(|ranks| (diverged, ranks.iter().sum::<usize>(), ranks.iter().copied().max(), place))
    };
    (0..pairs[0].grid.candidates.len()).filter_map(score).min().map(|(.., place)| place)
}

fn row(grid: &GridResult, place: usize) -> Option<SingleRow> {
    let (candidate, winner) = (&grid.candidates[place], &grid.candidates[grid.best()?]);
    let (own, best) = (end(candidate), end(winner));
    Some(SingleRow {
        optimizer: grid.grid.title().to_owned(),
        learning_rate: candidate.learning_rate,
        damping: candidate.damping,
        problem: grid.problem.clone(),
        rank: Some(grid.rank(place)? as f64),
        settings: Some(grid.candidates.len()),
        metric: grid.select.metric,
        value: candidate.score(grid.select),
        best_value: winner.score(grid.select),
        test_loss: own.map(|row| row.test_loss),
        best_test_loss: best.map(|row| row.test_loss),
        test_accuracy: own.map(|row| row.test_accuracy),
        best_test_accuracy: best.map(|row| row.test_accuracy),
    })
}
