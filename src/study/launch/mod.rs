//! Carrying out many runs: in this process, in worker processes, or as an array of a SLURM cluster.

mod launcher;
pub(super) mod memory;
mod pool;
pub mod slurm;
pub mod worker;

use std::path::PathBuf;

use super::event::{Outcome, RunEvent};
use crate::error::{EXIT_ENVIRONMENT, Error, Result};

pub use launcher::Launcher;

/// Who is told what happens to the runs, by their places in the list of tasks.
pub trait Observer {
    /// Something happened to a run.
    fn event(&mut self, run: usize, event: &RunEvent);

    /// A line that a worker logged.
    fn log(&mut self, line: &str);
}

/// Worker processes on this machine.
#[derive(Clone, Debug)]
pub struct Local {
    /// Runs at the same time.
    pub jobs: usize,
    /// This program, to be started as a worker.
    pub program: PathBuf,
    /// Arguments of a worker's, before those that this module adds.
    pub arguments: Vec<String>,
}

/// What many outcomes come to: nothing where all is done.
///
/// # Errors
/// [`Error::Interrupted`]; [`Error::Environment`] where nothing could start (`done` counts runs that have their result
/// from before); [`Error::Failed`] where some failed.
pub fn conclude(outcomes: &[Outcome], done: usize) -> Result<()> {
    if outcomes.contains(&Outcome::Interrupted) {
        return Err(Error::Interrupted);
    }
    let failures: Vec<(&str, u8)> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Failed { reason, exit_code } => Some((reason.as_str(), *exit_code)),
            _ => None,
        })
        .collect();
    let Some((first, _)) = failures.first() else { return Ok(()) };
    let nothing_went_on = done == 0 && failures.len() == outcomes.len();
    if nothing_went_on && failures.iter().all(|(_, exit_code)| *exit_code == EXIT_ENVIRONMENT) {
        return Err(Error::Environment(format!("no run could be carried out: {first}")));
    }
    Err(Error::Failed(format!(
        "{} of {} runs failed; the first: {first}. The same command tries those again that failed for want of data, disk \
         or memory, `--retry failed` all of them",
        failures.len(),
        outcomes.len() + done
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(exit_code: u8) -> Outcome {
        Outcome::Failed { reason: "disk full".into(), exit_code }
    }

    #[test]
    fn the_exit_code_follows_from_all_outcomes() {
        let code = |outcomes: &[Outcome], done| conclude(outcomes, done).map_or_else(|error| error.exit_code(), |()| 0);
        let diverged = Outcome::Diverged { reason: String::new() };
        assert_eq!(code(&[], 3), 0);
        assert_eq!(code(&[Outcome::Done, diverged], 0), 0);
        assert_eq!(code(&[Outcome::Done, failed(3)], 0), 1);
        assert_eq!(code(&[failed(3), failed(3)], 0), 3);
        assert_eq!(code(&[failed(3), failed(3)], 1), 1);
        assert_eq!(code(&[failed(2)], 0), 1);
        assert_eq!(code(&[failed(3), Outcome::Interrupted], 0), 130);
    }
}
