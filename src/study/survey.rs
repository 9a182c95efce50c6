//! Where one run stands, as its folder tells.

use super::event::finite;
use super::run;
use super::store::{Kept, RunFolder, RunState, lock};
use crate::error::Result;

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// running, stopped, done, diverged, damaged, failed, interrupted, waiting or unreadable.
    pub state: &'static str,
    /// Epochs trained so far.
    pub epoch: usize,
    /// Epochs in all; 0 where that is not known.
    pub epochs: usize,
    /// After the last evaluation.
    pub valid_accuracy: Option<f64>,
    /// After the last evaluation.
    pub test_accuracy: Option<f64>,
    /// Who carries it out, why it failed, or from where it goes on.
    pub note: Option<String>,
}

impl Survey {
    /// That of a folder that cannot be read, or was written by a newer version of this program.
    pub fn unreadable(error: &crate::Error) -> Self {
        Survey {
            state: "unreadable",
            epoch: 0,
            epochs: 0,
            valid_accuracy: None,
            test_accuracy: None,
            note: Some(error.to_string()),
        }
    }
}

/// Looks at a run's folder.
///
/// # Errors
/// Where a file of it cannot be read.
pub fn survey(folder: &RunFolder) -> Result<Survey> {
    let (status, rows, damage) = match folder.verify_result()? {
        Kept::Result { status, epochs } => (Some(status), epochs, None),
        Kept::Nothing(status) => (status, folder.read_epochs()?, None),
        Kept::Damaged(damage) => (None, Vec::new(), Some(damage)),
    };
    let holder = lock::holder(&folder.lock())?;
    let checkpoint = run::has_checkpoint(folder).then(|| "continues from a checkpoint".to_owned());
    let (state, note) = match (status.as_ref().map(|status| status.status), holder) {
        (Some(RunState::Done), _) => ("done", None),
        (Some(RunState::Diverged), _) => ("diverged", status.as_ref().and_then(|status| status.reason.clone())),
        (_, Some(holder)) => ("running", Some(format!("process {} on {}", holder.pid, holder.host))),
        (Some(RunState::Failed), None) => ("failed", status.as_ref().and_then(|status| status.reason.clone())),
        (None, None) if damage.is_some() => ("damaged", damage.map(|damage| damage.to_string())),
        (Some(RunState::Interrupted), None) => ("interrupted", checkpoint),
        (Some(RunState::Running), None) => ("stopped", checkpoint),
        (None, None) => ("waiting", checkpoint),
    };
    Ok(Survey {
        state,
        epoch: rows.last().map_or(0, |row| row.epoch),
        epochs: status.map_or(0, |status| status.epochs),
        valid_accuracy: rows.last().and_then(|row| finite(row.valid_accuracy)),
        test_accuracy: rows.last().and_then(|row| finite(row.test_accuracy)),
        note,
    })
}
