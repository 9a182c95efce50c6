//! Which runs are to be carried out and which have their result already.

use std::collections::HashSet;

use super::run::continuation::{self, Neighbours};
use super::state::RunState;
use super::store::{Cause, DAMAGED, Damage, Kept, checkpoint, lock};
use super::task::RunTask;
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
