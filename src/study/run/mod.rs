//! Carrying out one run: its folder, its lock, its files, and what becomes of an error.

pub mod continuation;
mod diagnose;
mod judgement;
mod own;
mod pause;
mod session;
mod trainer;

use std::time::Duration;

use super::event::{Outcome, RunEvent};
use super::settings::RunTask;
use super::state::RunState;
use super::store::lock::{Attempt, Lock};
use super::store::{Cause, Kept, RunFolder, RunStatus, checkpoint};
use crate::atomic;
use crate::error::{EXIT_ENVIRONMENT, Error, Result};
use crate::signals::Stop;

pub use super::settings::DataCache;
pub use judgement::Judgement;
pub use own::{Measured, TrainerOptions};
pub use trainer::{Step, Trainer, hyperparameters};

/// How long a run that another process carries out is left alone before it is looked at again.
pub const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Carries a run out, or goes on with it from its checkpoint, and tells what happens. Every error ends in the run's
/// status and in the outcome, so that other runs go on.
pub fn carry_out(task: &RunTask, cache: &mut DataCache, stop: &Stop, tell: &mut dyn FnMut(RunEvent)) -> Outcome {
    let outcome = attempt(task, cache, stop, tell).unwrap_or_else(|error| failed(&error));
    tell(RunEvent::Ended { outcome: outcome.clone() });
    outcome
}

fn attempt(task: &RunTask, cache: &mut DataCache, stop: &Stop, tell: &mut dyn FnMut(RunEvent)) -> Result<Outcome> {
    let folder = task.folder();
    folder.create()?;
    let lock = match Lock::try_acquire(&folder.lock())? {
        Attempt::Locked(lock) => lock,
        Attempt::Held(holder) => {
            return Ok(Outcome::Busy { holder: format!("process {} on {}", holder.pid, holder.host) });
        }
    };
    // Another process may have finished it between the plan and the lock.
    if let Some(outcome) = finished(&folder)? {
        if let Err(error) = clear(&folder) {
            tell(RunEvent::Note { text: error.to_string() });
        }
        return Ok(outcome);
    }
    match session::run(task, &folder, &lock, cache, stop, tell) {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            let outcome = failed(&error);
            if !lock.is_lost()
                && let Err(second) = record_failure(task, &folder, &error.to_string(), cause(&error))
            {
                tell(RunEvent::Note { text: format!("the failure cannot be recorded: {second}") });
            }
            Ok(outcome)
        }
    }
}

/// Removes what a process left that was killed between a run's result and its last acts: checkpoints, half-written
/// files, the lock; and seals an `unsealed` result. What cannot be done hurts nobody.
pub fn tidy(task: &RunTask, unsealed: bool) {
    let folder = task.folder();
    if !unsealed && !checkpoint::exists(&folder) && !folder.lock().exists() && !atomic::has_unfinished(folder.path()) {
        return;
    }
    let tidied = Lock::try_acquire(&folder.lock()).and_then(|attempt| match (attempt, folder.verify_result()?) {
        (Attempt::Locked(_lock), Kept::Result { status, .. }) => {
            if status.seal.is_none() {
                folder.write_status(&status.sealed(&folder)?)?;
            }
            clear(&folder)
        }
        _ => Ok(()),
    });
    if let Err(error) = tidied {
        tracing::debug!("{error}");
    }
}

/// Removes what a run that has its result needs no more; only for who holds its lock.
fn clear(folder: &RunFolder) -> Result<()> {
    checkpoint::remove(folder)?;
    atomic::remove_unfinished(folder.path())
}

/// The outcome of a run that has its result; nothing where a file of it is damaged.
pub fn finished(folder: &RunFolder) -> Result<Option<Outcome>> {
    Ok(match folder.verify_result()? {
        Kept::Result { status, .. } => Outcome::of(&status),
        Kept::Nothing(_) | Kept::Damaged(_) => None,
    })
}

/// Notes in the run's folder that it failed; only for who holds its lock.
fn record_failure(task: &RunTask, folder: &RunFolder, reason: &str, cause: Cause) -> Result<()> {
    let before = folder.read_status()?;
    let epoch = before.as_ref().map_or(0, |status| status.epoch);
    let state = RunStatus::unfinished(before.as_ref()).enter(RunState::Failed);
    let mut status = RunStatus::new(state, epoch, task.settings.problem.epochs, Some(reason.to_owned()));
    status.failed_inverses = before.map_or(0, |status| status.failed_inverses);
    status.cause = Some(cause);
    folder.write_status(&status)
}

/// Notes that the process that carried the run out was lost, unless another has taken it up meanwhile.
pub fn record_loss(task: &RunTask, reason: &str, cause: Cause) -> Result<()> {
    let folder = task.folder();
    folder.create()?;
    match Lock::try_acquire(&folder.lock())? {
        Attempt::Locked(_lock) if finished(&folder)?.is_none() => record_failure(task, &folder, reason, cause),
        _ => Ok(()),
    }
}

/// Where the reason of a run's error lies. What libtorch refuses is the run's own, apart from memory that it does not
/// get and libraries or devices that are gone.
fn cause(error: &Error) -> Cause {
    const SURROUNDINGS: [&str; 5] = ["memory", "bad_alloc", "shared object", "Could not load library", "CUDA"];
    let outside = match error {
        Error::Torch(text) => SURROUNDINGS.iter().any(|word| text.contains(word)),
        error => error.exit_code() == EXIT_ENVIRONMENT,
    };
    if outside { Cause::Environment } else { Cause::Run }
}

fn failed(error: &Error) -> Outcome {
    match error {
        Error::Interrupted => Outcome::Interrupted,
        _ => Outcome::Failed { reason: error.to_string(), exit_code: error.exit_code() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_disk_and_data_lie_outside_of_a_run() {
        let torch = |text: &str| Error::Torch(text.to_owned());
        for (error, expected) in [
            (torch("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"), true),
            (torch("CUDA out of memory. Tried to allocate 2.00 GiB"), true),
            (torch("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"), false),
            (Error::MissingData("mnist is not there".to_owned()), true),
            (Error::io("writing", "epochs.csv", std::io::ErrorKind::StorageFull.into()), true),
            (Error::Unsupported("KFRA and groups".to_owned()), false),
        ] {
            assert_eq!(cause(&error) == Cause::Environment, expected, "{error}");
        }
    }
}
