//! Following the runs of job arrays through their folders and the queue until each has ended.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::super::event::{Evaluation, Outcome, RunEvent};
use super::super::super::run::{self, BUSY_WAIT, DataCache};
use super::super::super::state::RunState;
use super::super::super::store::{RunStatus, lock};
use super::super::{Observer, conclude};
use super::commands::{self, TaskState};
use super::{Cluster, Followed, LOOKS, MAX_LOSSES, MAX_SILENCE, POLL, Study, Variables, Waiting};
use crate::error::{EXIT_FAILED, Error, IoContext, Result};
use crate::runtime;
use crate::signals::Stop;
use crate::study::settings::RunTask;

/// What each run that is under way adds to that, where they are many: each costs a shared file system several accesses.
const POLL_OF_A_RUN: Duration = Duration::from_millis(30);

/// Submits one array over all tasks, or as many as it takes, and waits until they are done.
///
/// # Errors
/// [`Error::Environment`] with a remedy where there is no sbatch, or it refuses; [`Error::Usage`] for a variable of sbatch
/// that would send the runs elsewhere.
pub fn carry_out(
    tasks: &[RunTask],
    cluster: &Cluster,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> Result<Vec<Outcome>> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let hidden = Variables::here()?;
    commands::find_sbatch()?;
    hidden.told.iter().for_each(|line| observer.log(line));
    let followed = |_| Followed { place: None, waits: false, told: 0, over: 0, losses: 0, outcome: None };
    let runs = (0..tasks.len()).map(followed).collect();
    let waiting = Waiting::all(tasks.len());
    let mut study = Study { tasks, cluster, hidden: hidden.names, arrays: Vec::new(), waiting, runs, observer };
    study.submit_waiting()?;
    study.wait(stop);
    let interrupted = study.runs.iter().any(|run| matches!(run.outcome, None | Some(Outcome::Interrupted)));
    if interrupted {
        for array in &study.arrays {
            if !commands::cancel(&array.id) {
                study.observer.log(&format!("scancel {} failed; the array's runs keep going", array.id));
            }
        }
    }
    Ok(study.runs.into_iter().map(|run| run.outcome.unwrap_or(Outcome::Interrupted)).collect())
}

impl Study<'_> {
    /// Follows the runs through their folders until each has ended.
    fn wait(&mut self, stop: &Stop) {
        while self.runs.iter().any(|run| run.outcome.is_none()) && !stop.is_requested() {
            let mut looked = 0;
            for array in 0..self.arrays.len() {
                looked += self.follow(array);
            }
            if let Err(error) = self.submit_waiting() {
                for run in std::mem::take(&mut self.waiting.runs) {
                    let outcome = Outcome::Failed { reason: error.to_string(), exit_code: error.exit_code() };
                    self.end(run, Some(outcome));
                }
            }
            std::thread::sleep(POLL.max(looked * POLL_OF_A_RUN));
        }
    }

    /// Looks at the runs of an array that have not ended, and gives the number of those whose folders were read.
    fn follow(&mut self, array: usize) -> u32 {
        let is_followed = |run: &Followed| run.outcome.is_none() && run.place.is_some_and(|(own, _)| own == array);
        let runs: Vec<usize> = (0..self.runs.len()).filter(|run| is_followed(&self.runs[*run])).collect();
        if runs.is_empty() && self.arrays[array].alive == 0 {
            return 0;
        }
        let states = commands::states(&self.arrays[array].id);
        if let Some(states) = &states {
            self.arrays[array].alive = states.values().filter(|state| !state.is_over()).count();
        }
        let silent_since = &mut self.arrays[array].silent_since;
        *silent_since = if states.is_some() { None } else { silent_since.or_else(|| Some(Instant::now())) };
        let given_up = silent_since.is_some_and(|since| since.elapsed() > MAX_SILENCE);
        let mut looked = 0;
        for run in runs {
            let index = self.runs[run].place.map_or(0, |(_, index)| index);
            let state = match &states {
                Some(states) => states.get(&index).copied().unwrap_or(TaskState::Over),
                None => TaskState::Alive,
            };
            // What a task has left before it went back to the queue stays as it is until it starts again.
            let waits = state == TaskState::Waiting;
            if std::mem::replace(&mut self.runs[run].waits, waits) && waits {
                continue;
            }
            looked += 1;
            self.tell_progress(run);
            let outcome = match self.look(run, state) {
                Ok(None) if given_up => Some(self.failed(run, "SLURM's controller has not answered for long")),
                Ok(None) if self.runs[run].over >= LOOKS => self.lost(run, state),
                Ok(outcome) => outcome,
                Err(error) => Some(Outcome::Failed { reason: error.to_string(), exit_code: error.exit_code() }),
            };
            self.end(run, outcome);
        }
        looked
    }

    fn end(&mut self, run: usize, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.observer.event(run, &RunEvent::Ended { outcome: outcome.clone() });
            self.runs[run].outcome = Some(outcome);
        }
    }

    /// The outcome of a run as its folder tells. A failure or an interruption counts once the task is over: until then
    /// the task may take the run up again.
    fn look(&mut self, run: usize, state: TaskState) -> Result<Option<Outcome>> {
        let folder = self.tasks[run].folder();
        let followed = &mut self.runs[run];
        let held = lock::holder(&folder.lock())?.is_some();
        let over = state.is_over();
        if let Some(outcome) = run::finished(&folder)? {
            // While it is held, its process still tidies up.
            return Ok((!held || over).then_some(outcome));
        }
        // A process outside of the array may carry it out.
        followed.over = if over && !held { followed.over + 1 } else { 0 };
        if followed.over < LOOKS {
            return Ok(None);
        }
        let status = folder.read_status()?;
        Ok(match RunStatus::unfinished(status.as_ref()) {
            RunState::Failed => status.as_ref().and_then(Outcome::of),
            _ if state == TaskState::Cancelled => Some(Outcome::Interrupted),
            _ => None,
        })
    }

    /// A run whose task is over and that is not: to be submitted again, or given up.
    fn lost(&mut self, run: usize, state: TaskState) -> Option<Outcome> {
        if let (TaskState::Held, Some((array, index))) = (state, self.runs[run].place) {
            // It would stay in the queue for ever; if it is let go after all, it finds the run locked or done.
            let task = format!("{}_{index}", self.arrays[array].id);
            if !commands::cancel(&task) {
                self.observer.log(&format!("scancel {task} failed; SLURM could not start the task and holds it"));
            }
        }
        self.runs[run].losses += 1;
        if self.runs[run].losses >= MAX_LOSSES {
            return Some(self.failed(run, "its task was lost repeatedly"));
        }
        let text = "its task is gone; another continues from the last checkpoint".to_owned();
        self.observer.event(run, &RunEvent::Note { text });
        self.runs[run].place = None;
        self.waiting.runs.push(run);
        None
    }

    fn failed(&self, run: usize, what: &str) -> Outcome {
        let log = self.runs[run].place.map(|(array, index)| {
            let array = &self.arrays[array];
            let log = commands::task_log(&array.folder, &index.to_string());
            format!("; see {} (SLURM's array {})", log.display(), array.id)
        });
        Outcome::Failed { reason: format!("{what}{}", log.unwrap_or_default()), exit_code: EXIT_FAILED }
    }

    /// Tells of evaluations that have come since.
    fn tell_progress(&mut self, run: usize) {
        // A folder that cannot be read at this moment is looked at again.
        let Ok(rows) = self.tasks[run].folder().read_epochs() else { return };
        let followed = &mut self.runs[run];
        for row in rows.iter().skip(followed.told) {
            self.observer.event(run, &RunEvent::Evaluated(Evaluation::from(row)));
        }
        if rows.len() > followed.told {
            followed.told = rows.len();
            followed.losses = 0;
        }
    }
}

/// What a task of the array does: carries out the run in this line of the file. A run that another process has, or had
/// on a node that is gone, is waited for.
///
/// # Errors
/// What the run came to; [`Error::Interrupted`] after a checkpoint.
pub fn carry_out_task(file: &Path, index: usize, stop: &Stop) -> Result<()> {
    // The warning before a time limit, told apart from a cancellation by its signal.
    let limit = Stop::never();
    #[cfg(unix)]
    limit.also_on(signal_hook::consts::SIGUSR1)?;
    let text = crate::files::read_to_string(file).at("reading", file)?;
    let line = text
        .lines()
        .nth(index)
        .ok_or_else(|| Error::Usage(format!("{}: there is no line {index}, counted from 0", file.display())))?;
    let task: RunTask = serde_json::from_str(line)
        .map_err(|error| Error::Config(format!("{}: line {index}: {error}", file.display())))?;
    runtime::set_threads(task.settings.threads);
    let stop = stop.or(&limit);
    let mut cache = DataCache::default();
    let mut tell = |event| match event {
        RunEvent::Evaluated(row) => tracing::info!("epoch {}: valid accuracy {:?}", row.epoch, row.valid_accuracy),
        RunEvent::Note { text } => tracing::info!("{text}"),
        _ => {}
    };
    let outcome = loop {
        match run::carry_out(&task, &mut cache, &stop, &mut tell) {
            Outcome::Busy { .. } if stop.is_requested() => break Outcome::Interrupted,
            Outcome::Busy { .. } => std::thread::sleep(BUSY_WAIT),
            outcome => break outcome,
        }
    };
    if outcome == Outcome::Interrupted && limit.is_requested() {
        commands::requeue()?;
    }
    conclude(&[outcome], 0)
}
