//! What starts runs: this process, worker processes, or a cluster.

use super::super::event::{Outcome, RunEvent};
use super::super::run::{self, BUSY_WAIT, DataCache};
use super::super::settings::RunTask;
use super::{Local, Observer, memory, pool, slurm};
use crate::error::Result;
use crate::signals::Stop;
use crate::{backpack, runtime};

/// What starts runs.
#[derive(Clone, Debug, Default)]
pub enum Launcher {
    /// Nothing: this process carries them out, one after the other.
    #[default]
    Here,
    /// Worker processes on this machine; this process, where there is one run alone.
    Local(Local),
    /// A job array of a SLURM cluster.
    Slurm(slurm::Cluster),
}

impl Launcher {
    /// Carries out all tasks; the outcomes are in their order. Where it was asked to stop, what did not end is
    /// [`Outcome::Interrupted`].
    ///
    /// # Errors
    /// Where no worker can be started; as [`slurm::carry_out`].
    pub fn carry_out(&self, tasks: &[RunTask], stop: &Stop, observer: &mut dyn Observer) -> Result<Vec<Outcome>> {
        let local = match self {
            Launcher::Slurm(cluster) => return slurm::carry_out(tasks, cluster, stop, observer),
            Launcher::Here => None,
            Launcher::Local(local) => {
                backpack::keep_memory();
                Some(local).filter(|_| tasks.len() > 1)
            }
        };
        let estimates = memory::estimates(tasks);
        let mut outcomes = memory::refuse(&estimates, observer);
        match local {
            Some(local) => pool::carry_out(tasks, &estimates, local, stop, observer, &mut outcomes)?,
            None => here(tasks, stop, observer, &mut outcomes),
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Interrupted)).collect())
    }
}

/// Carries out, one after the other in this process, the tasks without an outcome; a run that another process has is waited for.
fn here(tasks: &[RunTask], stop: &Stop, observer: &mut dyn Observer, outcomes: &mut [Option<Outcome>]) {
    if let Some(task) = tasks.first() {
        runtime::set_threads(task.settings.threads);
    }
    let mut cache = DataCache::default();
    let mut one = |(run, task): (usize, &RunTask)| {
        let mut told = false;
        loop {
            if stop.is_requested() {
                return Outcome::Interrupted;
            }
            let mut tell = |event: RunEvent| {
                let busy = matches!(event, RunEvent::Ended { outcome: Outcome::Busy { .. } });
                if !(busy && told) {
                    observer.event(run, &event);
                }
                told |= busy;
            };
            match run::carry_out(task, &mut cache, stop, &mut tell) {
                Outcome::Busy { .. } => std::thread::sleep(BUSY_WAIT),
                outcome => return outcome,
            }
        }
    };
    for (place, outcome) in outcomes.iter_mut().enumerate().filter(|(_, outcome)| outcome.is_none()) {
        *outcome = Some(one((place, &tasks[place])));
    }
}
