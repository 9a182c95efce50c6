//! The best single setting of each optimizer over all problems of a study, beside the best of each problem.

use super::super::collect::GridResult;
use super::super::experiment::{Metric, Select};
use super::super::select::value;
use super::super::settings::RunSettings;
use super::tables::{optional, with_options};
use super::{PairResult, option_cells};
use crate::error::Result;
use crate::table::csv;

const SINGLE: [&str; 13] = [
    "optimizer",
    "learning_rate",
    "damping",
    "problem",
    "rank",
    "settings",
    "metric",
    "value",
    "best_value",
    "test_loss",
    "best_test_loss",
    "test_accuracy",
    "best_test_accuracy",
];

/// single.csv: one row an optimizer and problem, of optimizers that have the same settings on several problems. All values
/// are those of the runs with the grid's seed: nothing is trained for it.
///
/// The setting is the one with the least mean rank over the problems; of equal ones that whose worst rank is the least,
/// then the first. One that diverged on a problem comes after those that did not.
pub(super) fn csv_of_single(pairs: &[PairResult], columns: &[&'static str]) -> Result<String> {
    let mut records = Vec::new();
    for own in by_optimizer(pairs) {
        let Some(place) = best(&own) else { continue };
        for pair in own {
            records.extend(record(&pair.grid, place, columns));
        }
    }
    csv(&with_options(&SINGLE, columns), records)
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

fn record(grid: &GridResult, place: usize, columns: &[&'static str]) -> Option<Vec<String>> {
    let (candidate, winner) = (&grid.candidates[place], &grid.candidates[grid.best()?]);
    let Select { metric, .. } = grid.select;
    let setting = [candidate.learning_rate.to_string(), optional(candidate.damping)];
    let head = [grid.grid.title().to_owned()].into_iter().chain(setting);
    let head = head.chain(option_cells(columns, &grid.grid.settings[place]));
    let rank = [grid.problem.clone(), grid.rank(place)?.to_string(), grid.candidates.len().to_string()];
    let scores = [metric.to_string(), candidate.score(grid.select).to_string(), winner.score(grid.select).to_string()];
    let at_end = |metric: Metric| {
        [candidate, winner].map(|candidate| {
            let result = candidate.results.first();
            let row = result.and_then(|result| if result.diverged { result.rows.first() } else { result.rows.last() });
            row.map(|row| value(row, metric).to_string()).unwrap_or_default()
        })
    };
    let ends = at_end(Metric::TestLosses).into_iter().chain(at_end(Metric::TestAccuracies));
    Some(head.chain(rank).chain(scores).chain(ends).collect())
}
