//! Runs one after the other in this process.

use super::super::event::{Outcome, RunEvent};
use super::super::run::{self, BUSY_WAIT, DataCache};
use super::super::task::RunTask;
use super::Observer;
use crate::runtime;
use crate::signals::Stop;

/// Carries out the tasks without an outcome; a run that another process has is waited for.
pub(super) fn carry_out(tasks: &[RunTask], stop: &Stop, observer: &mut dyn Observer, outcomes: &mut [Option<Outcome>]) {
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
