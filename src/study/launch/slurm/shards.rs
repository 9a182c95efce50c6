//! One piece of work in shards as a SLURM job array: each task writes a file of its own, and goes on from what an earlier one
//! of its shard has kept.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::commands::{self, Job, Refusal};
use super::{Cluster, LOOKS, MAX_LOSSES, MAX_SILENCE, POLL, Variables, array_folder};
use crate::error::{Error, Result};
use crate::signals::Stop;

/// What is done in shards.
#[derive(Clone, Debug)]
pub struct Shards {
    /// The program's arguments but for the shard and its file.
    pub arguments: Vec<OsString>,
    /// The file of each shard; a folder for the tasks' output is made beside the first.
    pub files: Vec<PathBuf>,
    /// Threads that each task computes with.
    pub threads: usize,
}

impl Shards {
    fn job(&self, shards: &[usize]) -> Job {
        let indices: Vec<String> = shards.iter().map(usize::to_string).collect();
        let mut arguments = Vec::new();
        for argument in &self.arguments {
            arguments.extend(commands::quoted_path(Path::new(argument)));
            arguments.push(b' ');
        }
        arguments.extend(format!("--shard \"$SLURM_ARRAY_TASK_ID/{}\" --out ", self.files.len()).into_bytes());
        // The files are named alike but for the number.
        arguments.extend(commands::quoted_path(&self.files[0].with_extension("")));
        arguments.extend(b".\"$SLURM_ARRAY_TASK_ID\"");
        Job { indices: indices.join(","), threads: self.threads, arguments }
    }
}

/// Submits one array over the shards whose files are not there and waits for all files; tasks that are lost are submitted
/// again.
///
/// # Errors
/// [`Error::Environment`] where there is no sbatch, it refuses, or tasks are lost again and again; [`Error::Interrupted`] after a
/// signal, the array cancelled.
pub fn carry_out_shards(shards: &Shards, cluster: &Cluster, stop: &Stop) -> Result<()> {
    let hidden = Variables::here()?;
    commands::find_sbatch()?;
    hidden.told.iter().for_each(|line| tracing::info!("{line}"));
    let missing = || (0..shards.files.len()).filter(|shard| !shards.files[*shard].exists()).collect::<Vec<usize>>();
    for attempt in 0..MAX_LOSSES {
        let left = missing();
        if left.is_empty() {
            return Ok(());
        }
        let beside = shards.files[0].parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = array_folder(beside)?;
        let id = submit(&shards.job(&left), cluster, &hidden.names, &folder, stop)?;
        let again = if attempt > 0 { " again" } else { "" };
        tracing::info!("SLURM job array {id} with {} shards{again}; its output is in {}", left.len(), folder.display());
        follow(&id, &left, &missing, stop)?;
        if attempt + 1 == MAX_LOSSES && !missing().is_empty() {
            let log = commands::task_log(&folder, &missing()[0].to_string());
            return Err(Error::Environment(format!("shards were lost repeatedly; see {}", log.display())));
        }
    }
    Ok(())
}

/// Submits the array, again and again while the controller does not answer.
fn submit(job: &Job, cluster: &Cluster, hidden: &[String], folder: &Path, stop: &Stop) -> Result<String> {
    let mut silent_since = None;
    loop {
        match commands::submit(job, cluster, cluster.limit(), hidden, folder) {
            Err(Refusal::Silent(error)) => {
                if silent_since.is_none() {
                    tracing::warn!("{error}; it is tried again");
                }
                if silence(&mut silent_since) > MAX_SILENCE {
                    return Err(error);
                }
            }
            submitted => return Ok(submitted?),
        }
        std::thread::sleep(POLL);
        if stop.is_requested() {
            return Err(Error::Interrupted);
        }
    }
}

/// Waits until the array is over, or all files are there.
fn follow(id: &str, shards: &[usize], missing: &dyn Fn() -> Vec<usize>, stop: &Stop) -> Result<()> {
    let (mut over, mut silent_since) = (0, None);
    while over < LOOKS && !missing().is_empty() {
        std::thread::sleep(POLL);
        if stop.is_requested() {
            if !commands::cancel(id) {
                tracing::warn!("scancel {id} failed; the array's tasks keep going");
            }
            return Err(Error::Interrupted);
        }
        match commands::states(id) {
            Some(states) => {
                silent_since = None;
                let alive = shards.iter().any(|shard| states.get(shard).is_some_and(|state| !state.is_over()));
                over = if alive { 0 } else { over + 1 };
            }
            None if silence(&mut silent_since) < MAX_SILENCE => {}
            None => {
                return Err(Error::Environment(format!("SLURM's controller has not answered for long (array {id})")));
            }
        }
    }
    Ok(())
}

/// How long the controller has not answered, from the first time on.
fn silence(since: &mut Option<Instant>) -> Duration {
    since.get_or_insert_with(Instant::now).elapsed()
}
