//! Where one run stands, as its folder tells.

use super::event::finite;
use super::state::RunState;
use super::store::{DAMAGED, Kept, RunFolder, checkpoint, lock};
use crate::error::Result;

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// Where it stands.
    pub state: RunState,
    /// The word for tables: the state's own, or what is the matter with the run.
    pub word: &'static str,
    /// Epochs trained so far.
    pub epoch: usize,
    /// Epochs in all, where they are known.
    pub epochs: Option<usize>,
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
            state: RunState::Pending,
            word: "unreadable",
            epoch: 0,
            epochs: None,
            valid_accuracy: None,
            test_accuracy: None,
            note: Some(error.to_string()),
        }
    }

    /// Whether it is being carried out, or somebody has to look at it or start it again.
    pub fn is_open(&self) -> bool {
        !self.state.is_final() && self.word != RunState::Pending.as_str()
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
    let checkpoint = checkpoint::exists(folder).then(|| "continues from a checkpoint".to_owned());
    let state = status.as_ref().map_or(RunState::Pending, |status| status.status);
    let reason = || status.as_ref().and_then(|status| status.reason.clone());
    let (state, word, note) = match (state, holder, damage) {
        (RunState::Done, ..) => (state, state.as_str(), None),
        (RunState::Diverged, ..) => (state, state.as_str(), reason()),
        (_, Some(holder), _) => {
            let note = format!("process {} on {}", holder.pid, holder.host);
            (RunState::Running, RunState::Running.as_str(), Some(note))
        }
        (_, None, Some(damage)) => (state, DAMAGED, Some(damage.to_string())),
        (RunState::Failed, None, None) => (state, state.as_str(), reason()),
        (RunState::Running, None, None) => (state, "stopped", checkpoint),
        (RunState::Interrupted | RunState::Pending, None, None) => (state, state.as_str(), checkpoint),
    };
    Ok(Survey {
        state,
        word,
        epoch: rows.last().map_or(0, |row| row.epoch),
        // None is a length like others, but also what a run says that ends after seconds, until it is done.
        epochs: status
            .filter(|status| status.epochs > 0 || status.status == RunState::Done)
            .map(|status| status.epochs),
        valid_accuracy: rows.last().and_then(|row| finite(row.valid_accuracy)),
        test_accuracy: rows.last().and_then(|row| finite(row.test_accuracy)),
        note,
    })
}
