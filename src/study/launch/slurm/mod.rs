//! Runs as a job array of a SLURM cluster, or as several where one cannot take them all: a task carries out one run.
//!
//! The tasks and the cluster's output lie in RUNS/.slurm/ARRAY. Whether a run is done is read from its folder; SLURM is
//! asked only which tasks are still to come. Shortly before a time limit SLURM sends SIGUSR1: the run leaves a
//! checkpoint and its task goes back to the queue. A run whose task is gone without a word (killed, out of memory) is
//! submitted again in a further array.

mod commands;
mod follow;
mod options;
mod shards;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::event::Outcome;
use super::super::settings::RunTask;
use super::Observer;
use crate::atomic::{self, Durability};
use crate::error::{Error, IoContext, Result};
use crate::words::count;
use commands::Refusal;

pub use follow::{carry_out, carry_out_task};
pub use options::{Cluster, Options, Variables};
pub use shards::{Shards, carry_out_shards};

/// How often run folders and the queue are looked at.
const POLL: Duration = Duration::from_secs(2);
/// How often in a row a task must be over before its run counts as left: its files may come a moment later.
const LOOKS: u32 = 2;
/// How long the controller may leave questions without an answer.
const MAX_SILENCE: Duration = Duration::from_secs(1800);
/// How often a run may lose its task without getting further.
const MAX_LOSSES: u32 = 5;

/// An array that was submitted.
struct Array {
    id: String,
    folder: PathBuf,
    /// The most of its tasks at the same time, if that was said.
    throttle: Option<usize>,
    /// How many of its tasks SLURM had not ended when it was last asked.
    alive: usize,
    /// Since when SLURM has not answered for it.
    silent_since: Option<Instant>,
}

/// A run that is followed.
struct Followed {
    /// Its array and its index there; nothing while it waits to be submitted.
    place: Option<(usize, usize)>,
    /// Whether its task was last seen to wait in the queue, its folder looked at since.
    waits: bool,
    /// Evaluations that were told of.
    told: usize,
    /// How often in a row its task was seen to be over.
    over: u32,
    /// How often its task was lost since it last got further.
    losses: u32,
    outcome: Option<Outcome>,
}

/// A new folder for an array's tasks and output.
fn array_folder(beside: &Path) -> Result<PathBuf> {
    let all = beside.join(".slurm");
    fs::create_dir_all(&all).at("creating the folder", &all)?;
    let prefix = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string().replace(':', "-");
    tempfile::Builder::new()
        .prefix(&format!("{prefix}-"))
        .tempdir_in(&all)
        .map(tempfile::TempDir::keep)
        .at("creating a folder in", &all)
}

/// Runs that are in no array, and how it went with submitting them.
struct Waiting {
    /// The runs, in the order in which they are submitted.
    runs: Vec<usize>,
    /// The most tasks of an array that are tried next.
    most: usize,
    /// Since when the controller has not answered.
    silent_since: Option<Instant>,
    /// Whether it was told that they wait.
    told: bool,
}

impl Waiting {
    /// Runs that nothing is known about yet.
    fn all(runs: usize) -> Self {
        Waiting { runs: (0..runs).collect(), most: runs, silent_since: None, told: false }
    }
}

// What of a study is submitted when: as much as SLURM takes, and over all arrays together as many tasks at a time as were
// allowed.
//
// An array may be refused because it has more tasks than one may have (MaxArraySize), or because the queue or the
// user's part of it is full (MaxJobCount, MaxSubmitJobs). Half of it is tried then, and the rest as room appears.

struct Study<'a> {
    tasks: &'a [RunTask],
    cluster: &'a Cluster,
    /// Variables that sbatch must not see.
    hidden: Vec<String>,
    arrays: Vec<Array>,
    waiting: Waiting,
    runs: Vec<Followed>,
    observer: &'a mut dyn Observer,
}

impl Study<'_> {
    /// Submits what waits, as far as SLURM and the limit leave room.
    ///
    /// # Errors
    /// Where sbatch refuses and would again; [`Error::Environment`] where the controller has not answered for long.
    fn submit_waiting(&mut self) -> Result<()> {
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
