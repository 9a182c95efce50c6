//! SLURM's commands: submitting an array, asking where its tasks stand, cancelling and requeueing.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Cluster;
use crate::atomic::{self, Durability};
use crate::error::{Error, Result};
use crate::external::output;
use crate::study::settings::RunTask;
use crate::words::shell_quoted_bytes;

/// Seconds before a time limit at which the run is told to leave a checkpoint.
const WARNING_SECONDS: u32 = 60;
/// The states of tasks that will not run again (squeue's manual page, JOB STATE CODES).
const ENDED: [&str; 10] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
];

/// How long a command may take to answer: a controller that hangs must not keep the study waiting without a word.
const ANSWER: Duration = Duration::from_secs(300);

/// Why sbatch took no array.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It has more tasks than are allowed in one array, or than a limit on the jobs of a user leaves room for.
    TooMany(Error),
    /// It has more tasks than there is room for in the queue of all users.
    Full(Error),
    /// The controller did not answer.
    Silent(Error),
    /// It would be refused again.
    Final(Error),
}

impl Refusal {
    /// By what sbatch said: errors of SLURM's have these texts and no numbers.
    fn of(said: &str, error: Error) -> Self {
        const TOO_MANY: [&str; 2] = ["Invalid job array specification", "job submit limit"];
        const FULL: [&str; 2] = ["Resource temporarily unavailable", "job queue full"];
        const SILENT: [&str; 4] = [
            "Unable to contact slurm controller",
            "Socket timed out",
            "Zero Bytes were transmitted",
            "controller in standby mode",
        ];
        let is_among = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
        match () {
            () if is_among(&TOO_MANY) => Refusal::TooMany(error),
            () if is_among(&FULL) => Refusal::Full(error),
            () if is_among(&SILENT) => Refusal::Silent(error),
            () => Refusal::Final(error),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Final(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooMany(error) | Refusal::Full(error) | Refusal::Silent(error) | Refusal::Final(error) => error,
        }
    }
}

/// Where a task of an array stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    /// It waits for its first start, or for its next.
    Waiting,
    /// It runs, begins to or is about to end.
    Alive,
    /// SLURM could not start it and keeps it back until an administrator lets it go.
    Held,
    /// It was cancelled.
    Cancelled,
    /// It is over, or SLURM knows nothing of it any more.
    Over,
}

impl TaskState {
    /// Whether it will not run again.
    pub fn is_over(self) -> bool {
        matches!(self, TaskState::Held | TaskState::Cancelled | TaskState::Over)
    }
}

/// Checks that there is a cluster to submit to, before anything is written.
pub(super) fn find_sbatch() -> Result<()> {
    output(Command::new("sbatch").arg("--version"), ANSWER).map(drop).map_err(|error| no_sbatch(&error))
}

fn no_sbatch(error: &std::io::Error) -> Error {
    Error::Environment(format!(
        "sbatch cannot be started: {error}. `--launcher slurm` needs SLURM's commands on this machine (Debian: \
         slurm-client, and a cluster's slurm.conf); without a cluster use `--launcher local --jobs N`"
    ))
}

/// An array: what each of its tasks does.
pub(super) struct Job {
    /// The indices of its tasks, as sbatch takes them: "0-3" or "1,5".
    pub indices: String,
    /// Threads that each computes with.
    pub threads: usize,
    /// The program's arguments, as a shell reads them; the task's index is in `SLURM_ARRAY_TASK_ID`.
    pub arguments: Vec<u8>,
}

impl Job {
    /// An array over the tasks in a file, one a line.
    pub fn of_tasks(tasks: &[RunTask], file: &Path) -> Self {
        Job {
            indices: format!("0-{}", tasks.len() - 1),
            threads: tasks.iter().map(|task| task.settings.threads).max().unwrap_or(1),
            arguments: [b"worker --tasks ", quoted_path(file).as_slice(), b" --index \"$SLURM_ARRAY_TASK_ID\""]
                .concat(),
        }
    }
}

/// Submits an array of which at most `throttle` tasks run at a time, with an environment without the `hidden` variables; its
/// number.
pub(super) fn submit(
    job: &Job,
    cluster: &Cluster,
    throttle: Option<usize>,
    hidden: &[String],
    folder: &Path,
) -> std::result::Result<String, Refusal> {
    let limit = throttle.map_or_else(String::new, |throttle| format!("%{throttle}"));
    // A warning that comes before the program listens to it must not end the task; at the time limit SLURM speaks again.
    let start = b"#!/bin/sh\ntrap '' USR1\nexec ".as_slice();
    let script = [start, &quoted_path(&cluster.program), b" ", &job.arguments, b"\n"].concat();
    let path = folder.join("task.sh");
    atomic::write(&path, &script, Durability::Process)?;
    let mut command = Command::new("sbatch");
    for name in hidden {
        command.env_remove(name);
    }
    command
        .arg("--parsable")
        .arg(format!("--array={}{limit}", job.indices))
        .arg(format!("--signal=B:USR1@{WARNING_SECONDS}"))
        .arg("--requeue")
        .arg("--open-mode=append")
        .arg("--job-name=backpack-run")
        .arg(format!("--cpus-per-task={}", job.threads))
        .arg(output_option(folder));
    command.args(cluster.options.arguments());
    let output = output(command.arg(&path), ANSWER).map_err(|error| match error.kind() {
        std::io::ErrorKind::TimedOut => Refusal::Silent(Error::Environment(format!("sbatch: {error}"))),
        _ => Refusal::Final(no_sbatch(&error)),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let error = Error::Environment(format!(
            "sbatch refused ({}): {}. Options are passed on with --slurm key=value,...",
            output.status,
            said.trim()
        ));
        return Err(Refusal::of(&said, error));
    }
    // With --parsable: the number, and the cluster's name after a semicolon where there are several.
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.trim().split(';').next().unwrap_or_default().to_owned())
}

/// A path as a shell reads it back, whatever its bytes.
pub(super) fn quoted_path(path: &Path) -> Vec<u8> {
    shell_quoted_bytes(path.as_os_str().as_encoded_bytes())
}

/// Where a task's output goes.
pub(super) fn task_log(folder: &Path, index: &str) -> PathBuf {
    folder.join(format!("task-{index}.log"))
}

/// The option with the same for all tasks: sbatch puts the index for `%a`, and a `%` for `%%`.
fn output_option(folder: &Path) -> OsString {
    let folder: Vec<u8> = folder
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .flat_map(|&byte| std::iter::repeat_n(byte, if byte == b'%' { 2 } else { 1 }))
        .collect();
    // SAFETY: doubling a byte of ASCII keeps the encoding of the others.
    let folder = unsafe { OsString::from_encoded_bytes_unchecked(folder) };
    let mut option = OsString::from("--output=");
    option.push(task_log(Path::new(&folder), "%a"));
    option
}

/// Where the tasks of an array stand, by their indices; those that SLURM has forgotten are missing. Nothing where the
/// controller does not answer.
pub(super) fn states(array: &str) -> Option<HashMap<usize, TaskState>> {
    let arguments = ["--noheader", "--array", "--states=all", "--jobs", array, "--format=%K %T %r"];
    let output = output(Command::new("squeue").args(arguments), ANSWER).ok()?;
    if output.status.success() {
        return Some(String::from_utf8_lossy(&output.stdout).lines().filter_map(task_state).collect());
    }
    // An array that ended a while ago is forgotten.
    String::from_utf8_lossy(&output.stderr).contains("Invalid job id").then(HashMap::new)
}

/// A line of squeue's: the task's index, its state and the reason for it.
fn task_state(line: &str) -> Option<(usize, TaskState)> {
    let (index, rest) = line.trim().split_once(' ')?;
    let (state, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let state = match state {
        "PENDING" if reason.contains("launch failed") => TaskState::Held,
        "PENDING" => TaskState::Waiting,
        "CANCELLED" => TaskState::Cancelled,
        state if ENDED.contains(&state) => TaskState::Over,
        _ => TaskState::Alive,
    };
    Some((index.parse().ok()?, state))
}

/// Lets so many tasks of an array run at a time; whether SLURM does so.
pub(super) fn throttle(array: &str, tasks: usize) -> bool {
    let arguments = ["update".to_owned(), format!("JobId={array}"), format!("ArrayTaskThrottle={tasks}")];
    // Of an array with tasks that have ended it is an error, said beside "1_4-9: No error" for those to come.
    let is_done = |output: std::process::Output| {
        let said = [output.stdout, output.stderr].concat();
        output.status.success() || String::from_utf8_lossy(&said).contains("No error")
    };
    output(Command::new("scontrol").args(arguments), ANSWER).is_ok_and(is_done)
}

/// Whether any job of this user is in the queue; so where the controller does not answer.
pub(super) fn has_jobs() -> bool {
    let output = output(Command::new("squeue").args(["--noheader", "--me"]), ANSWER);
    !output.is_ok_and(|output| output.status.success() && output.stdout.is_empty())
}

/// Cancels an array, or a task `ARRAY_INDEX` of one; whether SLURM did so.
pub(super) fn cancel(array: &str) -> bool {
    output(Command::new("scancel").arg(array), ANSWER).is_ok_and(|output| output.status.success())
}

/// Puts this task of an array back into the queue.
pub(super) fn requeue() -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    let task = match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID"), variable("SLURM_JOB_ID")) {
        (Some(array), Some(index), _) => format!("{array}_{index}"),
        (_, _, Some(job)) => job,
        _ => return Ok(()),
    };
    let status = output(Command::new("scontrol").args(["requeue", &task]), ANSWER).map(|output| output.status);
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Environment(format!("scontrol requeue {task} failed: {status}"))),
        Err(error) => Err(Error::Environment(format!("scontrol cannot be started: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_back_a_path_that_is_no_text() {
        use std::os::unix::ffi::OsStringExt;
        let path = PathBuf::from(OsString::from_vec(b"/a\xff b'c".to_vec()));
        let script = [b"printf %s ".as_slice(), &quoted_path(&path)].concat();
        let output = Command::new("sh").arg("-c").arg(OsString::from_vec(script)).output().unwrap();
        assert_eq!(output.stdout, b"/a\xff b'c");
        assert_eq!(quoted_path(Path::new("/a b")), b"'/a b'");
    }

    #[test]
    fn states_are_read_from_the_queue() {
        assert_eq!(task_state("3 RUNNING None"), Some((3, TaskState::Alive)));
        assert_eq!(task_state("0 REQUEUED "), Some((0, TaskState::Alive)));
        assert_eq!(task_state("11 NODE_FAIL None"), Some((11, TaskState::Over)));
        assert_eq!(task_state("11 CANCELLED"), Some((11, TaskState::Cancelled)));
        assert_eq!(task_state("2 PENDING JobArrayTaskLimit"), Some((2, TaskState::Waiting)));
        assert_eq!(task_state("2 PENDING launch failed requeued held"), Some((2, TaskState::Held)));
        assert_eq!(task_state("N/A PENDING"), None);
    }

    #[test]
    fn what_may_be_taken_later_is_told_from_what_never_will() {
        let refusal = |said: &str| match Refusal::of(said, Error::Interrupted) {
            Refusal::TooMany(_) => "too many",
            Refusal::Full(_) => "full",
            Refusal::Silent(_) => "silent",
            Refusal::Final(_) => "final",
        };
        let failed = |why: &str| format!("sbatch: error: Batch job submission failed: {why}\n");
        for (why, expected) in [
            ("Invalid job array specification", "too many"),
            ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", "too many"),
            ("Resource temporarily unavailable", "full"),
            ("Unable to contact slurm controller (connect failure)", "silent"),
            ("Socket timed out on send/recv operation", "silent"),
            ("Invalid partition name specified", "final"),
            ("Requested time limit is invalid (missing or exceeds some limit)", "final"),
        ] {
            assert_eq!(refusal(&failed(why)), expected, "{why}");
        }
    }
}
