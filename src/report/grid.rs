//! A study's grid of one optimizer as a table of settings: what its figures and the page's tables are made of.

use super::results::{GridRow, Results};
use super::statistics::mean;
use crate::study::experiment::Metric;

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

/// The grid of one optimizer on one problem.
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
                table.seeds = table.seeds.max(here.len());
                if here.iter().any(|row| row.best) {
                    table.winner = Some((line, column));
                }
                outcomes.push(outcome(&here, metric));
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
    if rows.iter().any(|row| row.status == "diverged") {
        return Outcome::Diverged;
    }
    let values: Vec<f64> = rows.iter().filter_map(|row| row.get(metric)).collect();
    if values.is_empty() { Outcome::Missing } else { Outcome::Value(mean(&values)) }
}

fn ascending(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}
