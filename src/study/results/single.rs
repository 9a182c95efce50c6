//! The best single setting of each optimizer over all problems of a study, beside the best of each problem.

use super::super::collect::GridResult;
use super::super::settings::RunSettings;
use super::records::{self, SingleRow};
use super::tuning::end;
use super::{PairResult, option_cells};
use crate::error::Result;

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
