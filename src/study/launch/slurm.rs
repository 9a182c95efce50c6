//! Runs as one job array of a SLURM cluster: a task of the array carries out one run.
//!
//! The tasks and the cluster's output lie in RUNS/.slurm/ARRAY. Whether a run is done is read from its folder; SLURM is
//! asked only whether the array is still known. Shortly before a time limit SLURM sends SIGUSR1: the run leaves a
//! checkpoint and its task goes back to the queue.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::super::event::{Evaluation, Outcome, RunEvent};
use super::super::run::{self, DataCache};
use super::super::signals::Stop;
use super::super::store::atomic::{self, Durability};
use super::super::task::RunTask;
use super::Observer;
use crate::error::{EXIT_FAILED, Error, IoContext, Result};
use crate::runtime;

/// Seconds before a time limit at which the run is told to leave a checkpoint.
const WARNING_SECONDS: u32 = 60;
/// How often run folders and the queue are looked at.
const POLL: Duration = Duration::from_secs(2);
/// How many times in a row the array must be unknown before it counts as gone: a controller may restart.
const MISSES: usize = 5;

/// A SLURM cluster as this machine reaches it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// This program, which the nodes must see under the same path.
    pub program: PathBuf,
    /// Further options of sbatch, without their dashes.
    pub options: Vec<(String, String)>,
    /// The most tasks at the same time, if that was said.
    pub jobs: Option<usize>,
}

/// Submits one array over all tasks and waits until it is done.
///
/// # Errors
/// [`Error::Environment`] with a remedy where there is no sbatch, or it refuses.
pub fn carry_out(
    tasks: &[RunTask],
    cluster: &Cluster,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> Result<Vec<Outcome>> {
    let Some(first) = tasks.first() else { return Ok(Vec::new()) };
    find_sbatch()?;
    let folder = tasks_folder(&first.runs_dir)?;
    let file = folder.join("tasks.jsonl");
    let mut lines = Vec::new();
    for task in tasks {
        serde_json::to_writer(&mut lines, task)
            .map_err(|error| Error::Environment(format!("{}: {error}", file.display())))?;
        lines.push(b'\n');
    }
    atomic::write(&file, &lines, Durability::Machine)?;
    let array = submit(tasks, cluster, &folder, &file)?;
    observer.log(&format!("SLURM job array {array} with {} runs; its output is in {}", tasks.len(), folder.display()));
    let outcomes = wait(tasks, &array, &folder, stop, observer);
    if outcomes.contains(&Outcome::Interrupted) {
        let cancelled = Command::new("scancel").arg(&array).status();
        if !cancelled.is_ok_and(|status| status.success()) {
            observer.log(&format!("scancel {array} failed; the runs of the array go on"));
        }
    }
    Ok(outcomes)
}

/// Checks that there is a cluster to submit to, before anything is written.
fn find_sbatch() -> Result<()> {
    Command::new("sbatch").arg("--version").output().map(drop).map_err(|error| no_sbatch(&error))
}

fn no_sbatch(error: &std::io::Error) -> Error {
    Error::Environment(format!(
        "sbatch cannot be started: {error}. `--launcher slurm` needs SLURM's commands on this machine (Debian: \
         slurm-client, and a cluster's slurm.conf); without a cluster use `--launcher local --jobs N`"
    ))
}

/// A new folder for the array's tasks and output.
fn tasks_folder(runs: &Path) -> Result<PathBuf> {
    let all = runs.join(".slurm");
    fs::create_dir_all(&all).at("creating the folder", &all)?;
    let prefix = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string().replace(':', "-");
    tempfile::Builder::new()
        .prefix(&format!("{prefix}-"))
        .tempdir_in(&all)
        .map(tempfile::TempDir::keep)
        .at("creating a folder in", &all)
}

fn submit(tasks: &[RunTask], cluster: &Cluster, folder: &Path, file: &Path) -> Result<String> {
    let limit = cluster.jobs.map_or_else(String::new, |jobs| format!("%{jobs}"));
    let threads = tasks.iter().map(|task| task.settings.threads).max().unwrap_or(1);
    let script = format!(
        "#!/bin/sh\nexec {} worker --tasks {} --index \"$SLURM_ARRAY_TASK_ID\"\n",
        shell_quoted(&cluster.program),
        shell_quoted(file)
    );
    let path = folder.join("task.sh");
    atomic::write(&path, script.as_bytes(), Durability::Process)?;
    let mut command = Command::new("sbatch");
    command
        .arg("--parsable")
        .arg(format!("--array=0-{}{limit}", tasks.len() - 1))
        .arg(format!("--signal=B:USR1@{WARNING_SECONDS}"))
        .arg("--requeue")
        .arg("--open-mode=append")
        .arg("--job-name=backpack-run")
        .arg(format!("--cpus-per-task={threads}"))
        .arg(format!("--output={}", folder.join("task-%a.log").display()));
    for (key, value) in &cluster.options {
        command.arg(if value.is_empty() { format!("--{key}") } else { format!("--{key}={value}") });
    }
    let output = command.arg(&path).output().map_err(|error| no_sbatch(&error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Environment(format!(
            "sbatch refused ({}): {}. Options are passed on with --slurm key=value,...",
            output.status,
            said.trim()
        )));
    }
    // With --parsable: the number, and the cluster's name after a semicolon where there are several.
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.trim().split(';').next().unwrap_or_default().to_owned())
}

/// Follows the runs through their folders until each has ended or the array is gone.
fn wait(tasks: &[RunTask], array: &str, folder: &Path, stop: &Stop, observer: &mut dyn Observer) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; tasks.len()];
    let mut told: HashMap<usize, usize> = HashMap::new();
    let mut misses = 0;
    while outcomes.contains(&None) && !stop.is_requested() {
        let gone = misses >= MISSES;
        for (run, task) in tasks.iter().enumerate().filter(|(run, _)| outcomes[*run].is_none()).collect::<Vec<_>>() {
            follow(run, task, &mut told, observer);
            let outcome = match look(task, gone) {
                Ok(None) if gone => Some(Outcome::Failed {
                    reason: format!(
                        "SLURM's array {array} is gone and the run is not done; see {}",
                        folder.join(format!("task-{run}.log")).display()
                    ),
                    exit_code: EXIT_FAILED,
                }),
                Ok(outcome) => outcome,
                Err(error) => Some(Outcome::Failed { reason: error.to_string(), exit_code: error.exit_code() }),
            };
            if let Some(outcome) = outcome {
                observer.event(run, &RunEvent::Ended { outcome: outcome.clone() });
                outcomes[run] = Some(outcome);
            }
        }
        misses = if is_queued(array) { 0 } else { misses + 1 };
        std::thread::sleep(POLL);
    }
    outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Interrupted)).collect()
}

/// The outcome of a run as its folder tells; a failure counts once no task can take the run up again.
fn look(task: &RunTask, gone: bool) -> Result<Option<Outcome>> {
    use super::super::store::RunState;
    let folder = task.folder();
    if let Some(outcome) = run::finished(&folder)? {
        return Ok(Some(outcome));
    }
    Ok(folder
        .read_status()?
        .filter(|status| gone && status.status == RunState::Failed)
        .map(|status| Outcome::Failed { reason: status.reason.unwrap_or_default(), exit_code: EXIT_FAILED }))
}

/// Tells of evaluations that have come since.
fn follow(run: usize, task: &RunTask, told: &mut HashMap<usize, usize>, observer: &mut dyn Observer) {
    // A folder that cannot be read at this moment is looked at again.
    let Ok(rows) = task.folder().read_epochs() else { return };
    let seen = told.entry(run).or_insert(0);
    for row in rows.iter().skip(*seen) {
        observer.event(run, &RunEvent::Evaluated(Evaluation::from(row)));
    }
    *seen = (*seen).max(rows.len());
}

/// Whether the array has tasks that run or wait. A queue that cannot be asked counts as a miss.
fn is_queued(array: &str) -> bool {
    let output = Command::new("squeue").args(["--noheader", "--jobs", array, "--format=%i"]).output();
    output.is_ok_and(|output| output.status.success() && !output.stdout.trim_ascii().is_empty())
}

fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// What a task of the array does: carries out the run in this line of the file.
///
/// # Errors
/// What the run came to; [`Error::Interrupted`] after a checkpoint.
pub fn carry_out_task(file: &Path, index: usize, stop: &Stop) -> Result<()> {
    // The warning before a time limit, told apart from a cancellation by its signal.
    let limit = Stop::never();
    #[cfg(unix)]
    limit.also_on(signal_hook::consts::SIGUSR1)?;
    let text = fs::read_to_string(file).at("reading", file)?;
    let line = text
        .lines()
        .nth(index)
        .ok_or_else(|| Error::Usage(format!("{}: there is no line {index}, counted from 0", file.display())))?;
    let task: RunTask = serde_json::from_str(line)
        .map_err(|error| Error::Config(format!("{}: line {index}: {error}", file.display())))?;
    runtime::set_threads(task.settings.threads);
    let outcome = run::carry_out(&task, &mut DataCache::default(), &stop.or(&limit), &mut |event| match event {
        RunEvent::Evaluated(row) => tracing::info!("epoch {}: valid accuracy {:?}", row.epoch, row.valid_accuracy),
        RunEvent::Note { text } => tracing::info!("{text}"),
        _ => {}
    });
    if outcome == Outcome::Interrupted && limit.is_requested() {
        requeue()?;
    }
    super::conclude(&[outcome], 0)
}

/// Puts this task of the array back into the queue.
fn requeue() -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    let task = match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID"), variable("SLURM_JOB_ID")) {
        (Some(array), Some(index), _) => format!("{array}_{index}"),
        (_, _, Some(job)) => job,
        _ => return Ok(()),
    };
    let status = Command::new("scontrol").args(["requeue", &task]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Environment(format!("scontrol requeue {task} failed: {status}"))),
        Err(error) => Err(Error::Environment(format!("scontrol cannot be started: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_safe_in_the_shell() {
        assert_eq!(shell_quoted(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
