//! The rows of diagnostics.csv in a study's results.

use serde::Deserialize;

/// One row of diagnostics.csv: one number about one step of a seed of a winner.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct DiagnosticRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The run's seed.
    pub seed: u64,
    /// Steps before this one.
    pub step: u64,
    /// The epoch in which the step was made, from 1.
    pub epoch: usize,
    /// What was measured; docs/diagnostics.md lists the names.
    pub name: String,
    /// The layer, or `all`.
    pub layer: String,
    /// The number.
    pub value: f64,
}
