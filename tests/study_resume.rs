//! Runs that are killed, interrupted or damaged end with the files of an undisturbed run.
#![cfg(unix)]

mod study_support;
mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use study_support::{Bench, finish, signal, state, text, wait_for};

const KFAC: &str = "train --problem small.toml --curv kfac --lr 0.05 --damping 0.5 --epochs 40";
const ADAM: &str = "train --problem normed.toml --optimizer adam --lr 0.01 --epochs 40";

/// Waits until the run of `runs` has left a checkpoint.
fn wait_for_checkpoint(bench: &Bench, runs: &str) {
    wait_for("a checkpoint", || {
        bench.run_folders(runs).iter().any(|folder| folder.join("checkpoint.safetensors").exists())
    });
}

#[test]
fn a_run_killed_at_any_moment_ends_as_if_it_had_not_been() {
    let bench = Bench::new();
    for (name, train) in [("kfac", KFAC), ("adam", ADAM)] {
        bench.succeed(name, train);
        let killed = format!("killed-{name}");
        let often = format!("{train} --checkpoint-seconds 0.02");
        let mut halfway = 0;
        for delay in [0, 40, 90, 10, 130, 60, 180, 25, 220, 70, 270, 110] {
            let child = bench.start(&killed, &often);
            wait_for("the run to be taken up", || {
                bench.run_folders(&killed).iter().any(|run| is_held_by(run, child.id()) || state(run) == "done")
            });
            std::thread::sleep(Duration::from_millis(delay));
            signal(&child, libc::SIGKILL);
            finish(child);
            let folder = bench.only_run(&killed);
            let left = folder.join("checkpoint.safetensors").exists() && state(&folder) == "running";
            halfway += usize::from(left);
        }
        bench.succeed(&killed, &often);
        assert!(halfway >= 3, "{name}: only {halfway} kills came between a checkpoint and the end");
        assert!(bench.results(name) == bench.results(&killed), "{name}: a killed run differs");
    }
}

#[test]
fn an_interrupted_run_leaves_a_checkpoint_and_goes_on() {
    let bench = Bench::new();
    bench.succeed("whole", ADAM);
    for (signal_number, name) in [(libc::SIGINT, "int"), (libc::SIGTERM, "term")] {
        let long = ADAM.to_owned() + " --checkpoint-seconds 1000";
        let child = bench.start(name, &long);
        wait_for("the first steps", || {
            bench.run_folders(name).iter().any(|folder| {
                fs::read_to_string(folder.join("epochs.csv")).is_ok_and(|table| table.lines().count() >= 4)
            })
        });
        signal(&child, signal_number);
        assert_eq!(finish(child).code(), Some(130));
        let folder = bench.only_run(name);
        assert_eq!(state(&folder), "interrupted");
        assert!(folder.join("checkpoint.safetensors").exists());
        let survey = bench.succeed(name, "status");
        assert!(survey.contains("interrupted"), "{survey}");
        let output = bench.output(name, &long);
        assert!(text(&output.stderr).contains("continues in epoch"), "{}", text(&output.stderr));
        assert!(bench.results("whole") == bench.results(name));
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let bench = Bench::new();
    let child = bench.start("runs", &KFAC.replace("--epochs 40", "--epochs 100000"));
    wait_for("the first steps", || bench.run_folders("runs").iter().any(|run| run.join("epochs.csv").exists()));
    // Both signals wait for a process that is stopped, so that no step ends between them.
    for number in [libc::SIGSTOP, libc::SIGINT, libc::SIGTERM, libc::SIGCONT] {
        signal(&child, number);
    }
    assert_eq!(finish(child).code(), Some(130));
    let folder = bench.only_run("runs");
    assert_eq!(state(&folder), "running", "it took the time for a checkpoint");
    assert!(!folder.join("checkpoint.safetensors").exists());
}

#[test]
fn a_damaged_checkpoint_falls_back_to_its_predecessor() {
    let bench = Bench::new();
    bench.succeed("whole", KFAC);
    let often = format!("{KFAC} --checkpoint-seconds 0.02");
    let child = bench.start("runs", &often);
    wait_for("two checkpoints", || {
        bench.run_folders("runs").iter().any(|folder| folder.join("checkpoint.previous.safetensors").exists())
    });
    signal(&child, libc::SIGKILL);
    finish(child);
    let folder = bench.only_run("runs");
    let path = folder.join("checkpoint.safetensors");
    // Killed between the two renames, the newest is missing; then its predecessor is what it was.
    let mut bytes = fs::read(&path).or_else(|_| fs::read(folder.join("checkpoint.previous.safetensors"))).unwrap();
    let place = bytes.len() - 100;
    bytes[place] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    let output = bench.output("runs", &often);
    let said = text(&output.stderr);
    assert!(said.contains("damaged checkpoint") && said.contains("SHA-256"), "{said}");
    assert!(said.contains("continues in epoch"), "{said}");
    assert!(bench.results("whole") == bench.results("runs"));
}

#[test]
fn without_any_whole_checkpoint_the_run_starts_anew() {
    let bench = Bench::new();
    bench.succeed("whole", KFAC);
    let child = bench.start("runs", &format!("{KFAC} --checkpoint-seconds 0.02"));
    wait_for_checkpoint(&bench, "runs");
    signal(&child, libc::SIGKILL);
    finish(child);
    let folder = bench.only_run("runs");
    for name in ["checkpoint.safetensors", "checkpoint.previous.safetensors"] {
        fs::write(folder.join(name), b"nothing").unwrap();
    }
    bench.succeed("runs", KFAC);
    assert!(bench.results("whole") == bench.results("runs"));
}

#[test]
fn two_processes_with_the_same_run_do_not_disturb_each_other() {
    let bench = Bench::new();
    bench.succeed("whole", KFAC);
    let first = bench.start("runs", KFAC);
    let second = bench.start("runs", KFAC);
    assert!(finish(first).success() && finish(second).success());
    assert!(bench.results("whole") == bench.results("runs"));
}

#[test]
fn a_grid_survives_the_loss_of_workers_and_of_its_own_process() {
    let bench = Bench::new();
    let grid = "grid --problem small.toml --curv diag_ggn_mc --lr 0.01,0.05 --damping 0.5,1 --epochs 20 --jobs 2 --checkpoint-seconds 0.05";
    let table = bench.succeed("whole", grid);
    for delay in [200, 450, 700] {
        let parent = bench.start("runs", grid);
        std::thread::sleep(Duration::from_millis(delay));
        let workers = children(parent.id());
        signal(&parent, libc::SIGKILL);
        finish(parent);
        // A worker dies with its parent.
        wait_for("the workers' end", || workers.iter().all(|worker| !is_alive(*worker)));
    }
    let mut parent = bench.start("runs", grid);
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(250));
        if let Some(worker) = children(parent.id()).first() {
            // SAFETY: sends a signal; a worker that has just ended makes it fail, which changes nothing.
            unsafe { libc::kill(*worker, libc::SIGKILL) };
        }
    }
    assert!(parent.wait().unwrap().success());
    assert_eq!(bench.succeed("runs", grid), table);
    assert!(bench.results("whole") == bench.results("runs"));
}

#[test]
fn an_interrupted_grid_stops_its_workers_and_goes_on_later() {
    let bench = Bench::new();
    let grid = "grid --problem small.toml --optimizer momentum --lr 0.01,0.02,0.05 --epochs 200 --jobs 2";
    let parent = bench.start("runs", grid);
    wait_for("two runs", || bench.run_folders("runs").iter().filter(|f| f.join("epochs.csv").exists()).count() == 2);
    let workers = children(parent.id());
    assert_eq!(workers.len(), 2);
    signal(&parent, libc::SIGTERM);
    assert_eq!(finish(parent).code(), Some(130));
    assert!(workers.iter().all(|worker| !is_alive(*worker)));
    for folder in bench.run_folders("runs") {
        assert_eq!(state(&folder), "interrupted", "{folder:?}");
        assert!(!folder.join("lock.json").exists());
    }
}

/// Whether this process has the lock of a run.
fn is_held_by(folder: &Path, pid: u32) -> bool {
    let text = fs::read_to_string(folder.join("lock.json")).unwrap_or_default();
    serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|lock| lock["pid"] == pid)
}

/// The processes whose parent is this one.
fn children(parent: u32) -> Vec<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
