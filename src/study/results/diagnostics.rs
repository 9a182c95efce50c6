//! diagnostics.csv of a study: what the seeds of the best settings measured on their way.

use serde::{Deserialize, Serialize};

use super::super::store::DiagnosticRow;
use super::records::{Record, to_csv};
use super::{PairResult, names};
use crate::error::Result;

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
