//! What the tests of studies share: a small problem that trains in seconds, and comparing what runs left.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use backpack_run::cli::flags::StudyFlags;
use backpack_run::study::packing;
use backpack_run::study::prepare::{self, Folders};
use backpack_run::study::settings::RunTask;
use clap::Parser;
use tempfile::TempDir;

use crate::support;

/// A folder with problem files and a place for runs.
pub struct Bench {
    folder: TempDir,
    pub program: PathBuf,
}

/// A convolution with dropout: its runs depend on every kind of random stream, the curvature's included.
const SMALL: &str = r#"
name = "small"
dataset = { synthetic = { shape = [1, 8, 8], classes = 4, train = 1200, test = 300, seed = 1 } }
loss = "cross_entropy"
batch_size = 50
drop_last = true
epochs = 6
l2 = 0.001
valid_size = 200
[[layers]]
type = "conv2d"
out_channels = 6
kernel_size = 3
padding = "same"
[[layers]]
type = "relu"
[[layers]]
type = "max_pool2d"
kernel_size = 2
stride = 2
[[layers]]
type = "flatten"
[[layers]]
type = "dropout"
p = 0.3
[[layers]]
type = "linear"
out_features = 4
"#;

/// With running statistics, which are state beside the parameters.
const NORMED: &str = r#"
name = "normed"
dataset = { synthetic = { shape = [1, 8, 8], classes = 4, train = 1200, test = 300, seed = 1 } }
loss = "cross_entropy"
batch_size = 50
drop_last = true
epochs = 6
valid_size = 200
[[layers]]
type = "conv2d"
out_channels = 6
kernel_size = 3
[[layers]]
type = "batch_norm2d"
[[layers]]
type = "relu"
[[layers]]
type = "flatten"
[[layers]]
type = "linear"
out_features = 4
"#;

impl Bench {
    pub fn new() -> Self {
        Bench::of(support::program_path())
    }

    /// With another program.
    pub fn of(program: PathBuf) -> Self {
        let folder = support::temporary_folder();
        std::fs::write(folder.path().join("small.toml"), SMALL).unwrap();
        std::fs::write(folder.path().join("normed.toml"), NORMED).unwrap();
        Bench { folder, program }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn runs(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program in this folder, with these arguments (separated by blanks) and runs in `runs`.
    pub fn command(&self, runs: &str, arguments: &str) -> Command {
        let mut command = self.plain(arguments);
        command.args(["--runs-dir", runs]);
        command
    }

    /// The program in this folder, with these arguments, for a command that knows no runs.
    pub fn plain(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.program);
        for name in ["BACKPACK_RUN_DATA", "BACKPACK_RUN_RUNS", "BACKPACK_RUN_RESULTS", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.env("BACKPACK_RUN_CACHE", support::cache());
        command.current_dir(self.path()).args(arguments.split_whitespace());
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn output(&self, runs: &str, arguments: &str) -> Output {
        self.command(runs, arguments).output().unwrap()
    }

    /// Runs it to its end, which must be a good one, and gives its stdout.
    pub fn succeed(&self, runs: &str, arguments: &str) -> String {
        let output = self.output(runs, arguments);
        assert!(output.status.success(), "{arguments}: {}\n{}", output.status, text(&output.stderr));
        text(&output.stdout)
    }

    /// Starts it.
    pub fn start(&self, runs: &str, arguments: &str) -> Child {
        self.command(runs, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Puts into `runs` what the first versions of the program left of two runs: stored beside the tests in the form that
    /// `results pack` writes.
    pub fn unpack_old_runs(&self, runs: &str) {
        let archive = support::repository("tests/golden/old_runs.tar.zst");
        assert_eq!(packing::unpack(&archive, &self.runs(runs)).unwrap().runs, 2);
    }

    /// The folders of all runs in `runs`.
    pub fn run_folders(&self, runs: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.runs(runs)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() && name.starts_with("seed-") {
                    found.push(path);
                } else if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// The one run's folder.
    pub fn only_run(&self, runs: &str) -> PathBuf {
        let mut folders = self.run_folders(runs);
        assert_eq!(folders.len(), 1, "{folders:?}");
        folders.remove(0)
    }

    /// What all runs left, by path below `runs`; without times, and without the seals, which are over times too.
    pub fn results(&self, runs: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let root = self.runs(runs);
        let mut results = BTreeMap::new();
        for folder in self.run_folders(runs) {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if name == "provenance.json" || name == ".lock.guard" || path.is_dir() {
                    continue;
                }
                let mut bytes = std::fs::read(&path).unwrap();
                if name == "epochs.csv" {
                    bytes = without_times(&String::from_utf8(bytes).unwrap()).into_bytes();
                }
                if name == "status.json" {
                    bytes = without_seal(&bytes);
                }
                results.insert(path.strip_prefix(&root).unwrap().to_owned(), bytes);
            }
        }
        results
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    flags: StudyFlags,
}

/// The first run of these arguments of `grid` with seed 42, and with runs in `runs`.
pub fn task(bench: &Bench, arguments: &str) -> RunTask {
    let flags = Flags::try_parse_from(["grid"].into_iter().chain(arguments.split_whitespace())).unwrap();
    let experiment = flags.flags.resolve().unwrap();
    let folders = Folders { runs: bench.runs("runs"), data: None, pause_file: None };
    let mut prepared = prepare::prepare(&experiment, &experiment.pairs(), &[42], &folders).unwrap();
    prepared.remove(0).tasks.remove(0)
}

/// epochs.csv without its last two columns.
pub fn without_times(table: &str) -> String {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), 9, "{line}");
        fields[..7].join(",") + "\n"
    };
    table.lines().map(line).collect()
}

/// status.json without its seal, as it is where it is no JSON.
pub fn without_seal(status: &[u8]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(status) else { return status.to_vec() };
    value.as_object_mut().unwrap().remove("seal");
    serde_json::to_vec_pretty(&value).unwrap()
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The state in a run's status.json.
pub fn state(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("status.json")).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    value["status"].as_str().unwrap_or("none").to_owned()
}

/// Waits until something holds.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a process that ends by itself or by a signal.
pub fn finish(mut child: Child) -> std::process::ExitStatus {
    child.wait().unwrap()
}

/// Sends a signal to a process.
pub fn signal(child: &Child, signal: i32) {
    // The child has not been waited for, so that its number is still its own.
    assert!(send(child.id() as i32, signal));
}

/// Sends a signal to a process that somebody else waits for, and says whether there was one.
pub fn send(pid: i32, signal: i32) -> bool {
    // SAFETY: sends a signal; where no process has this number it fails, which changes nothing.
    unsafe { libc::kill(pid, signal) == 0 }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether this process has the lock of a run.
pub fn is_held_by(folder: &Path, pid: u32) -> bool {
    let text = std::fs::read_to_string(folder.join("lock.json")).unwrap_or_default();
    serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|lock| lock["pid"] == pid)
}

/// The processes whose parent is this one.
pub fn children(parent: u32) -> Vec<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The letter of a process's state (proc's manual page), of one that has gone `Z` as of one that is only waited for.
pub fn process_state(pid: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('Z')
}

pub fn is_alive(pid: i32) -> bool {
    process_state(pid) != 'Z'
}
