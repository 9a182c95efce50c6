//! What of a study is submitted when: as much as SLURM takes, and over all arrays together as many tasks at a time as were
//! allowed.
//!
//! An array may be refused because it has more tasks than one may have (MaxArraySize), or because the queue or the
//! user's part of it is full (MaxJobCount, MaxSubmitJobs). Half of it is tried then, and the rest as room appears.

use std::time::Instant;

use super::commands::{self, Refusal};
use super::{Array, MAX_SILENCE, Study, array_folder};
use crate::atomic::{self, Durability};
use crate::error::{Error, Result};
use crate::study::task::RunTask;
use crate::words::count;

impl Study<'_> {
    /// Submits what waits, as far as SLURM and the limit leave room.
    ///
    /// # Errors
    /// Where sbatch refuses and would again; [`Error::Environment`] where the controller has not answered for long.
    pub(super) fn submit_waiting(&mut self) -> Result<()> {
        self.raise_throttles();
        while !self.waiting.runs.is_empty() {
            let throttle = self.room();
            if throttle == Some(0) {
                break;
            }
            let number = self.waiting.runs.len().min(self.waiting.most);
            let runs = self.waiting.runs[..number].to_vec();
            match self.submit(&runs, throttle) {
                Ok(()) => {
                    self.waiting.runs.drain(..number);
                    self.waiting.most = self.waiting.most.saturating_mul(2);
                    (self.waiting.silent_since, self.waiting.told) = (None, false);
                }
                Err(Refusal::TooMany(_) | Refusal::Full(_)) if number > 1 => self.waiting.most = number / 2,
                // Below a limit of the user's own there is room once his jobs end, if there are any.
                Err(Refusal::TooMany(error)) if !commands::has_jobs() => return Err(error),
                Err(Refusal::TooMany(error) | Refusal::Full(error)) => {
                    self.tell_waiting(&error);
                    break;
                }
                Err(Refusal::Silent(error)) => {
                    if self.waiting.silent_since.get_or_insert_with(Instant::now).elapsed() > MAX_SILENCE {
                        return Err(error);
                    }
                    self.tell_waiting(&error);
                    break;
                }
                Err(Refusal::Final(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says once that runs wait to be submitted.
    fn tell_waiting(&mut self, error: &Error) {
        if !self.waiting.told {
            let number = count(self.waiting.runs.len(), "run");
            self.observer.log(&format!("{number} to be submitted when SLURM takes them: {error}"));
        }
        self.waiting.told = true;
    }

    /// Submits one array over these runs, with a folder of its own.
    fn submit(&mut self, runs: &[usize], throttle: Option<usize>) -> Result<(), Refusal> {
        let tasks: Vec<RunTask> = runs.iter().map(|run| self.tasks[*run].clone()).collect();
        let folder = array_folder(&tasks[0].runs_dir)?;
        let file = folder.join("tasks.jsonl");
        let mut lines = Vec::new();
        for task in &tasks {
            serde_json::to_writer(&mut lines, task)
                .map_err(|error| Error::Environment(format!("{}: {error}", file.display())))?;
            lines.push(b'\n');
        }
        atomic::write(&file, &lines, Durability::Machine)?;
        let job = commands::Job::of_tasks(&tasks, &file);
        let id = match commands::submit(&job, self.cluster, throttle, &self.hidden, &folder) {
            Ok(id) => id,
            Err(refusal) => {
                // A controller that did not answer may have taken the array: its tasks would look for their file.
                if !matches!(refusal, Refusal::Silent(_))
                    && let Err(error) = std::fs::remove_dir_all(&folder)
                {
                    tracing::debug!("{}: {error}", folder.display());
                }
                return Err(refusal);
            }
        };
        let number = count(tasks.len(), "run");
        self.observer.log(&format!("SLURM job array {id} with {number}; its output is in {}", folder.display()));
        for (index, run) in runs.iter().enumerate() {
            let followed = &mut self.runs[*run];
            (followed.place, followed.over) = (Some((self.arrays.len(), index)), 0);
        }
        self.arrays.push(Array { id, folder, throttle, alive: runs.len(), silent_since: None });
        Ok(())
    }

    /// How many tasks may run at a time beside those that the arrays may have already; nothing without a limit.
    fn room(&self) -> Option<usize> {
        let limit = self.cluster.limit()?;
        let taken = self.arrays.iter().map(|array| array.alive.min(array.throttle.unwrap_or(limit)));
        Some(limit.saturating_sub(taken.sum()))
    }

    /// Gives arrays what earlier ones no longer need of the limit.
    fn raise_throttles(&mut self) {
        for array in 0..self.arrays.len() {
            let (Some(room), Some(throttle)) = (self.room(), self.arrays[array].throttle) else { return };
            let raised = self.arrays[array].alive.min(throttle + room);
            if raised > throttle && commands::throttle(&self.arrays[array].id, raised) {
                self.arrays[array].throttle = Some(raised);
            }
        }
    }
}
