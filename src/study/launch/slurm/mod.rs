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
mod submission;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::event::Outcome;
use super::super::task::RunTask;
use super::Observer;
use crate::error::{IoContext, Result};

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
