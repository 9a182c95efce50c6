//! Which runs are to be carried out and which have their result already.

use std::collections::HashSet;

use super::run;
use super::store::{RunState, lock};
use super::task::RunTask;
use crate::error::{Error, Result};

/// Where a run stands before anything is done.
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
    /// It failed, and is not tried again unless that is asked for.
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
}

impl Standing {
    /// Whether the run is to be carried out (or waited for).
    pub fn is_to_do(&self) -> bool {
        matches!(self, Standing::ToDo | Standing::Resumes | Standing::Running(_))
    }

    /// A word for tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Standing::Done => "done",
            Standing::Diverged(_) => "diverged",
            Standing::ToDo => "to do",
            Standing::Resumes => "resumes",
            Standing::Failed(_) => "failed",
            Standing::Running(_) => "running",
        }
    }
}

/// Looks at the run folder of every task, each folder once. With `retry_failed`, what failed is to do again.
///
/// # Errors
/// Where a folder was written by a newer version of this program. A folder that cannot be read counts as to do.
pub fn plan(tasks: Vec<RunTask>, retry_failed: bool) -> Result<Vec<Planned>> {
    let mut seen = HashSet::new();
    let mut planned = Vec::with_capacity(tasks.len());
    for task in tasks {
        if seen.insert(task.folder()) {
            let standing = match standing(&task, retry_failed) {
                // The run itself will say what is wrong with its folder, while the others go on.
                Err(Error::Io { .. }) => Standing::ToDo,
                standing => standing?,
            };
            planned.push(Planned { task, standing });
        }
    }
    Ok(planned)
}

fn standing(task: &RunTask, retry_failed: bool) -> Result<Standing> {
    let folder = task.folder();
    let status = folder.read_status()?;
    let reason = status.as_ref().and_then(|status| status.reason.clone()).unwrap_or_default();
    match status.map(|status| status.status) {
        Some(RunState::Done) => return Ok(Standing::Done),
        Some(RunState::Diverged) => return Ok(Standing::Diverged(reason)),
        Some(RunState::Failed) if !retry_failed => return Ok(Standing::Failed(reason)),
        _ => {}
    }
    if let Some(holder) = lock::holder(&folder.lock())? {
        return Ok(Standing::Running(format!("process {} on {}", holder.pid, holder.host)));
    }
    Ok(if run::has_checkpoint(&folder) { Standing::Resumes } else { Standing::ToDo })
}
