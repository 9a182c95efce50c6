//! A study's grid of one optimizer as a table of settings: what its figures and the page's tables are made of.

use super::results::{GridRow, Results};
use super::statistics::mean;
use crate::study::experiment::Metric;
use crate::study::state::RunState;

/// What one setting came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The metric at the last epoch, the mean over the grid's seeds.
    Value(f64),
    /// One seed or more diverged.
    Diverged,
    /// There is no result yet, or the runs failed.
    Missing,
}

/// The grid of one optimizer on one problem. Where options were gridded too, several settings share learning rate and
/// damping: the best of them stands for all.
#[derive(Clone, Debug)]
pub struct GridTable {
    /// Ascending.
    pub learning_rates: Vec<f64>,
    /// Ascending; empty without damping.
    pub dampings: Vec<f64>,
    /// One row a damping (one row without damping), in it one outcome a learning rate.
    pub outcomes: Vec<Vec<Outcome>>,
    /// The chosen setting's row and column.
    pub winner: Option<(usize, usize)>,
    /// How many grid seeds there are, at most.
    pub seeds: usize,
}

impl GridTable {
    /// The grid; none where there are no rows.
    pub fn of(results: &Results, problem: &str, optimizer: &str) -> Option<Self> {
        let metric = results.selection_metric();
        let rows: Vec<&GridRow> =
            results.grid.iter().filter(|row| row.problem == problem && row.optimizer == optimizer).collect();
        let learning_rates = ascending(rows.iter().map(|row| row.learning_rate));
        let dampings = ascending(rows.iter().filter_map(|row| row.damping));
        if learning_rates.is_empty() {
            return None;
        }
        let levels: Vec<Option<f64>> =
            if dampings.is_empty() { vec![None] } else { dampings.iter().copied().map(Some).collect() };
        let own = |damping: Option<f64>, rate: f64| {
            let rows = rows.iter().filter(move |row| row.damping == damping && row.learning_rate == rate);
            rows.copied().collect::<Vec<&GridRow>>()
        };
        let mut table = GridTable { learning_rates, dampings, outcomes: Vec::new(), winner: None, seeds: 0 };
        for (line, &damping) in levels.iter().enumerate() {
            let mut outcomes = Vec::new();
            for (column, &rate) in table.learning_rates.iter().enumerate() {
                let here = own(damping, rate);
                if here.iter().any(|row| row.best) {
                    table.winner = Some((line, column));
                }
                // The seeds of a setting share its rank.
                let mut ranks: Vec<Option<usize>> = here.iter().map(|row| row.rank).collect();
                ranks.sort_unstable();
                ranks.dedup();
                let settings = ranks.iter().map(|rank| here.iter().filter(|row| row.rank == *rank).copied().collect());
                let settings: Vec<Vec<&GridRow>> = settings.collect();
                table.seeds = settings.iter().map(Vec::len).fold(table.seeds, usize::max);
                let all = settings.iter().map(|rows| outcome(rows, metric));
                outcomes.push(all.reduce(|one, other| better(one, other, metric)).unwrap_or(Outcome::Missing));
            }
            table.outcomes.push(outcomes);
        }
        Some(table)
    }

    /// Whether a setting lies on the grid's edge, along an axis that has more than one value.
    pub fn is_edge(&self, line: usize, column: usize) -> bool {
        let on = |place: usize, length: usize| length > 1 && (place == 0 || place + 1 == length);
        on(column, self.learning_rates.len()) || on(line, self.dampings.len())
    }

    /// Whether the settings are drawn from ranges, so that most pairs of a learning rate and a damping were never tried.
    pub fn is_scattered(&self) -> bool {
        let tried = self.outcomes.iter().flatten().filter(|outcome| **outcome != Outcome::Missing).count();
        let (rates, dampings) = (self.learning_rates.len(), self.dampings.len());
        rates > 2 && dampings > 2 && 2 * tried < rates * dampings
    }

    /// The values there are.
    pub fn values(&self) -> Vec<f64> {
        let value = |outcome: &Outcome| match outcome {
            Outcome::Value(value) => Some(*value),
            _ => None,
        };
        self.outcomes.iter().flatten().filter_map(value).collect()
    }
}

fn outcome(rows: &[&GridRow], metric: Metric) -> Outcome {
    if rows.iter().any(|row| row.status == RunState::Diverged) {
        return Outcome::Diverged;
    }
    let values: Vec<f64> = rows.iter().filter_map(|row| row.get(metric)).collect();
    if values.is_empty() { Outcome::Missing } else { Outcome::Value(mean(&values)) }
}

/// The better of two settings; any value is better than none.
fn better(one: Outcome, other: Outcome, metric: Metric) -> Outcome {
    match (one, other) {
        (Outcome::Value(a), Outcome::Value(b)) => {
            Outcome::Value(if metric.larger_is_better() { a.max(b) } else { a.min(b) })
        }
        (value @ Outcome::Value(_), _) | (_, value @ Outcome::Value(_)) => value,
        (Outcome::Diverged, _) | (_, Outcome::Diverged) => Outcome::Diverged,
        _ => Outcome::Missing,
    }
}

fn ascending(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}
