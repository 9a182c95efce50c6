//! File systems at their worst. What a study must not wait for: paths that are no text, named pipes in place of files,
//! links that go in circles. A full disk and a read-only folder, provoked on a small file system in memory.
#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::study_support::{Bench, state, text};

const GRID: &str = "grid --problem small.toml --optimizer momentum --lr 0.001,0.1 --epochs 1 --jobs 2";
/// What a command that waits for nothing never needs.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command to its end, which must come.
fn ends(mut command: Command) -> Output {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("it does not end: {}", text(&child.wait_with_output().unwrap().stderr));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn paths_need_not_be_text() {
    let bench = Bench::new();
    let odd = bench.path().join(OsStr::from_bytes(b"runs-\xff\xfe"));
    let grid = |runs: &OsStr| {
        let mut command = Command::new(crate::support::program_path());
        command.current_dir(bench.path()).args(GRID.split_whitespace()).arg("--data-dir").arg(&odd);
        command.arg("--runs-dir").arg(runs);
        ends(command)
    };
    let output = grid(odd.as_os_str());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let plain = grid(OsStr::new("plain"));
    assert_eq!(text(&plain.stdout), text(&output.stdout));
    fs::rename(&odd, bench.runs("odd")).unwrap();
    assert!(bench.results("odd") == bench.results("plain"));
    fs::rename(bench.runs("odd"), &odd).unwrap();
    for arguments in ["--format json", "--format json --dry-run", "--dry-run=full"] {
        let mut train = Command::new(crate::support::program_path());
        train
            .current_dir(bench.path())
            .arg("--quiet")
            .args("train --problem small.toml --optimizer momentum".split(' '));
        train.args("--lr 0.1 --epochs 1".split(' ')).args(arguments.split(' ')).arg("--runs-dir").arg(&odd);
        let output = ends(train);
        assert!(output.status.success() && text(&output.stdout).contains("seed-42"), "{}", text(&output.stderr));
    }
}

/// A user's own data file in a folder whose name is no text goes to the workers too, and into what is written of the
/// experiment, which reads back as the same.
#[test]
fn data_files_need_not_have_text_for_a_name() {
    let bench = Bench::new();
    let folder = bench.path().join(OsStr::from_bytes(b"own-\xff"));
    fs::create_dir(&folder).unwrap();
    let images = tch::Tensor::rand([500, 1, 8, 8], (tch::Kind::Float, tch::Device::Cpu));
    let labels = tch::Tensor::arange(500, (tch::Kind::Int64, tch::Device::Cpu)).remainder(4);
    let file = bench.path().join("own.safetensors");
    tch::Tensor::write_safetensors(&[("x", images), ("y", labels)], &file).unwrap();
    fs::rename(&file, folder.join("own.safetensors")).unwrap();
    let problem = fs::read_to_string(bench.path().join("small.toml")).unwrap();
    let line = problem.lines().find(|line| line.starts_with("dataset")).unwrap();
    let own =
        problem.replace(line, "dataset = { safetensors = \"own.safetensors\" }").replace("valid_size = 200\n", "");
    fs::write(folder.join("own.toml"), own).unwrap();
    fs::write(folder.join("experiment.toml"), "name = \"odd\"\nproblem = \"own.toml\"\n").unwrap();
    let mut command = bench.command("runs", &GRID.replace("--problem small.toml ", ""));
    command.arg(folder.join("experiment.toml"));
    let output = ends(command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let done = bench.run_folders("runs");
    assert!(done.len() == 2 && done.iter().all(|folder| state(folder) == "done"));

    let experiment = |command: &str, file: &Path| {
        let arguments = GRID.replace("--problem small.toml ", "").replacen("grid", command, 1);
        let mut command = bench.command("runs", &format!("{arguments} --seeds 42,43 --results-dir results"));
        command.arg(file);
        command
    };
    for name in ["seeds", "study"] {
        let output = ends(experiment(name, &folder.join("experiment.toml")));
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
    }
    // Both seeds of the best setting, and the other setting with the grid's.
    assert_eq!(bench.run_folders("runs").len(), 3);
    let dry = |file: &Path| {
        let mut command = experiment("study", file);
        command.args(["--dry-run", "--format", "json"]);
        let output = ends(command);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let told = dry(&folder.join("experiment.toml"));
    let resolved = bench.path().join("resolved.toml");
    fs::write(&resolved, told["experiment"].as_str().unwrap()).unwrap();
    let again = dry(&resolved);
    assert_eq!((&again["experiment"], &again["runs"]), (&told["experiment"], &told["runs"]));
    assert!(told["runs"].as_array().unwrap().iter().all(|run| run["state"] == "done"), "{told}");
}

#[test]
fn a_named_pipe_is_not_waited_for() {
    let bench = Bench::new();
    let table = bench.succeed("runs", GRID);
    let files = ["epochs.csv", "status.json", "config.json", "steps.csv", "weights.safetensors", "lock.json"];
    for name in files.into_iter().chain([".lock.guard", "checkpoint.safetensors"]) {
        let path = bench.run_folders("runs").remove(0).join(name);
        let before = fs::read(&path).ok();
        if before.is_some() {
            fs::remove_file(&path).unwrap();
        }
        pipe(&path);
        for command in ["status", GRID] {
            let output = ends(bench.command("runs", command));
            let said = text(&output.stderr) + &text(&output.stdout);
            if command == GRID {
                assert!(output.status.success() == text(&output.stdout).contains(table.trim()), "{name}: {said}");
            }
        }
        if path.exists() && !path.is_file() {
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(bench.succeed("runs", GRID), table, "{name}");
    }
}

/// As on a disk that does not answer: git describes nothing, and the runs go on without a revision.
#[test]
fn git_is_not_waited_for() {
    let bench = Bench::new();
    let folder = bench.path().join("bin");
    fs::create_dir(&folder).unwrap();
    let git = folder.join("git");
    fs::write(&git, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = bench.command("runs", &GRID.replace("--jobs 2", "--jobs 1"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).unwrap());
    let began = Instant::now();
    let output = ends(command);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("git describe: no answer within 5s"), "{said}");
    // Once for both runs.
    assert_eq!(said.matches("git describe").count(), 1, "{said}");
    assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
    for run in bench.run_folders("runs") {
        let provenance = fs::read_to_string(run.join("provenance.json")).unwrap();
        assert!(provenance.contains("\"git_revision\": null"), "{provenance}");
    }
}

#[test]
fn inputs_that_are_named_pipes_are_refused() {
    let bench = Bench::new();
    for name in ["pipe.toml", "pipe.safetensors"] {
        pipe(&bench.path().join(name));
    }
    let problem = fs::read_to_string(bench.path().join("small.toml")).unwrap();
    let line = problem.lines().find(|line| line.starts_with("dataset")).unwrap();
    let own = problem.replace(line, "dataset = { safetensors = \"pipe.safetensors\" }");
    fs::write(bench.path().join("own.toml"), own).unwrap();
    let data = bench.path().join("data/mnist");
    fs::create_dir_all(&data).unwrap();
    for name in
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    {
        pipe(&data.join(name));
    }
    let sgd = "--optimizer sgd --lr 0.1 --epochs 1";
    for (arguments, file) in [
        (format!("train --problem pipe.toml {sgd}"), "pipe.toml"),
        (format!("train --problem own.toml {sgd}"), "pipe.safetensors"),
        (format!("train --problem mnist_logreg {sgd} --data-dir data"), "mnist"),
        ("study pipe.toml".to_owned(), "pipe.toml"),
    ] {
        let output = ends(bench.command("runs", &arguments));
        let said = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(2 | 3)) && said.contains(file), "{arguments}: {said}");
    }
}

#[test]
fn links_that_go_in_circles_are_followed_once() {
    let bench = Bench::new();
    let results = bench.path().join("results");
    let study = format!("{} --results-dir results --seeds 42,43", GRID.replacen("grid", "seeds", 1));
    bench.succeed("runs", GRID);
    bench.succeed("runs", &study);
    let folder = fs::read_dir(&results).unwrap().next().unwrap().unwrap().path();
    let report = |extra: &[&str]| {
        let mut command = Command::new(crate::support::program_path());
        command.current_dir(bench.path()).arg("report").arg(&folder).args(extra);
        ends(command)
    };
    assert!(report(&["--export", "deepobs"]).status.success());
    let deepobs = folder.join("deepobs");
    let plain = report(&["--deepobs", deepobs.to_str().unwrap()]);
    assert!(plain.status.success(), "{}", text(&plain.stderr));
    // Two links are enough for 2^40 ways down.
    let below = fs::read_dir(&deepobs).unwrap().next().unwrap().unwrap().path();
    for name in ["round", "and-round"] {
        std::os::unix::fs::symlink(&deepobs, below.join(name)).unwrap();
    }
    let circled = report(&["--deepobs", deepobs.to_str().unwrap()]);
    assert!(circled.status.success(), "{}", text(&circled.stderr));
    assert_eq!(text(&circled.stdout), text(&plain.stdout));
}

/// One run after the other.
const SERIAL_GRID: &str = "grid --problem small.toml --optimizer momentum --lr 0.001,0.1 --epochs 1";

/// A file system of its own, unmounted when the value goes away.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of this many KiB; nothing where this user may not.
    fn mount(at: &Path, kib: usize) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={kib}k");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        output.is_ok_and(|output| output.status.success()).then(|| Tmpfs(at.to_owned()))
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }

    fn free_bytes(&self) -> u64 {
        fs4::available_space(&self.0).unwrap()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // What cannot be unmounted goes with the machine.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_fails_the_run_and_loses_nothing() {
    let bench = Bench::new();
    let Some(disk) = Tmpfs::mount(&bench.runs("runs"), 1024) else {
        crate::support::skip!("a_full_disk_fails_the_run_and_loses_nothing", "a tmpfs cannot be mounted here");
    };
    bench.succeed("runs", &SERIAL_GRID.replace("0.001,0.1", "0.001"));
    let before = bench.results("runs");
    // Room for a few small files, not for the run's.
    let filler = bench.runs("runs").join("filler");
    fs::write(&filler, vec![0u8; (disk.free_bytes() - 12 * 1024) as usize]).unwrap();
    let output = bench.output("runs", SERIAL_GRID);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(text(&output.stdout).contains("best: lr 0.001"), "{}", text(&output.stdout));
    let after = bench.results("runs");
    assert!(before.iter().all(|(path, content)| after.get(path) == Some(content)), "a result was lost");

    fs::remove_file(&filler).unwrap();
    bench.succeed("runs", SERIAL_GRID);
    bench.succeed("whole", SERIAL_GRID);
    assert!(bench.results("whole") == bench.results("runs"));
}

#[test]
fn a_read_only_folder_is_told_and_its_results_stay() {
    let bench = Bench::new();
    let Some(disk) = Tmpfs::mount(&bench.runs("runs"), 4096) else {
        crate::support::skip!("a_read_only_folder_is_told_and_its_results_stay", "a tmpfs cannot be mounted here");
    };
    let table = bench.succeed("runs", SERIAL_GRID);
    disk.remount("ro");
    assert_eq!(bench.succeed("runs", SERIAL_GRID), table, "what is done needs no writing");
    let output = bench.output("runs", &SERIAL_GRID.replace("0.001,0.1", "0.01"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    disk.remount("rw");
    assert!(bench.run_folders("runs").iter().all(|folder| state(folder) == "done"));
}
