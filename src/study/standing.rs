//! Where runs stand, as their folders tell, and which of them are to be carried out.

use std::collections::HashSet;

use super::event::finite;
use super::run::continuation::{self, Neighbours};
use super::settings::RunTask;
use super::state::RunState;
use super::store::{Cause, DAMAGED, Damage, Kept, RunFolder, checkpoint, lock};
use crate::error::{Error, IoContext, Result};

/// What is to be done about a run before anything is done: what follows from its [`RunState`], its files, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has its result.
    Done,
    /// It has its result: it diverged.
    Diverged(String),
    /// It was never started, or left nothing to go on from.
    ToDo,
    /// It has a checkpoint to go on from.
    Resumes,
    /// It goes on from the end of a run of so many epochs.
    Continues(usize),
    /// A file of it is not what the run wrote: it is carried out again.
    Damaged(Damage),
    /// It failed by itself, and is not tried again unless that is asked for.
    Failed(String),
    /// A process carries it out at this moment.
    Running(String),
}

/// A run and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The run.
    pub task: RunTask,
    /// Where it stands.
    pub standing: Standing,
    /// Whether it has a result without a seal, as the first versions of the program left it.
    pub unsealed: bool,
}

impl Standing {
    /// Whether the run is to be carried out (or waited for).
    pub fn is_to_do(&self) -> bool {
        !matches!(self, Standing::Done | Standing::Diverged(_) | Standing::Failed(_))
    }

    /// A word for tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Standing::Done => RunState::Done.as_str(),
            Standing::Diverged(_) => RunState::Diverged.as_str(),
            Standing::ToDo => "to do",
            Standing::Resumes => "resumes",
            Standing::Continues(_) => "continues",
            Standing::Damaged(_) => DAMAGED,
            Standing::Failed(_) => RunState::Failed.as_str(),
            Standing::Running(_) => RunState::Running.as_str(),
        }
    }
}

/// Looks at the run folder of every task, each folder once, and holds the files of finished runs against their seals. What
/// failed for a reason outside of the run is to do again; with `retry_failed`, so is everything that failed.
///
/// # Errors
/// Where a folder was written by a newer version of this program. A folder that cannot be read counts as to do.
pub fn plan(tasks: Vec<RunTask>, retry_failed: bool) -> Result<Vec<Planned>> {
    let (mut seen, mut neighbours) = (HashSet::new(), Neighbours::default());
    let mut planned = Vec::with_capacity(tasks.len());
    for task in tasks {
        // Workers may have another working folder.
        let task = task.with_absolute_paths().at("finding the working folder", ".")?;
        if seen.insert(task.folder()) {
            let (standing, unsealed) = match standing(&task, retry_failed, &mut neighbours) {
                // The run itself will say what is wrong with its folder, while the others go on.
                Err(Error::Io { .. }) => (Standing::ToDo, false),
                standing => standing?,
            };
            planned.push(Planned { task, standing, unsealed });
        }
    }
    Ok(planned)
}

/// Where the run stands, and whether it has a result without a seal.
fn standing(task: &RunTask, retry_failed: bool, neighbours: &mut Neighbours) -> Result<(Standing, bool)> {
    let folder = task.folder();
    let mut damage = None;
    match folder.verify_result()? {
        Kept::Result { status, .. } => {
            let standing = match status.status {
                RunState::Diverged => Standing::Diverged(status.reason.unwrap_or_default()),
                _ => Standing::Done,
            };
            return Ok((standing, status.seal.is_none()));
        }
        Kept::Damaged(found) => damage = Some(found),
        Kept::Nothing(Some(status)) if status.status == RunState::Failed => {
            if !retry_failed && status.cause != Some(Cause::Environment) {
                return Ok((Standing::Failed(status.reason.unwrap_or_default()), false));
            }
        }
        Kept::Nothing(_) => {}
    }
    let standing = match (lock::holder(&folder.lock())?, damage) {
        (Some(holder), _) => Standing::Running(format!("process {} on {}", holder.pid, holder.host)),
        (None, Some(damage)) => Standing::Damaged(damage),
        (None, None) if checkpoint::exists(&folder) => Standing::Resumes,
        (None, None) => continuation::epochs_behind(task, neighbours).map_or(Standing::ToDo, Standing::Continues),
    };
    Ok((standing, false))
}

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
