//! Runs that are killed, interrupted or damaged end with the files of an undisturbed run, also after fifty kills at random
//! moments, of workers and of the program itself.
#![cfg(unix)]

use std::fs;
use std::time::Duration;

use crate::study_support::{Bench, children, finish, is_alive, is_held_by, send, signal, state, text, wait_for};

const KFAC: &str = "train --problem small.toml --curv kfac --lr 0.05 --damping 0.5 --epochs 40";
const ADAM: &str = "train --problem normed.toml --optimizer adam --lr 0.01 --epochs 40";

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
    let flip = |mut bytes: Vec<u8>| {
        let place = bytes.len() - 100;
        bytes[place] ^= 0x40;
        bytes
    };
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Damage, &str); 2] = [("flip", flip, "SHA-256"), ("cut", cut, "")];
    for (name, damage, said) in damages {
        let often = format!("{KFAC} --checkpoint-seconds 0.02");
        let folder = killed_with_two_checkpoints(&bench, name, &often);
        let path = folder.join("checkpoint.safetensors");
        fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
        let output = bench.output(name, &often);
        let log = text(&output.stderr);
        assert!(log.contains("damaged checkpoint") && log.contains(said), "{log}");
        assert!(log.contains("continues in epoch"), "{log}");
        assert!(bench.results("whole") == bench.results(name));
    }
}

#[test]
fn without_any_whole_checkpoint_the_run_starts_anew() {
    let bench = Bench::new();
    bench.succeed("whole", KFAC);
    let folder = killed_with_two_checkpoints(&bench, "runs", &format!("{KFAC} --checkpoint-seconds 0.02"));
    for name in ["checkpoint.safetensors", "checkpoint.previous.safetensors"] {
        fs::write(folder.join(name), b"nothing").unwrap();
    }
    let output = bench.output("runs", KFAC);
    let log = text(&output.stderr);
    assert_eq!(log.matches("damaged checkpoint").count(), 2, "{log}");
    assert!(log.contains("starts over") && !log.contains("continues in epoch"), "{log}");
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
            send(*worker, libc::SIGKILL);
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

/// The folder of a run that was killed when it had two checkpoints.
fn killed_with_two_checkpoints(bench: &Bench, runs: &str, often: &str) -> std::path::PathBuf {
    let both = |folder: &std::path::Path| {
        ["checkpoint.safetensors", "checkpoint.previous.safetensors"].iter().all(|name| folder.join(name).exists())
    };
    loop {
        let child = bench.start(runs, often);
        wait_for("two checkpoints", || bench.run_folders(runs).iter().any(|folder| both(folder)));
        signal(&child, libc::SIGKILL);
        finish(child);
        let folder = bench.only_run(runs);
        // Killed between the two renames, or at its very end, it has only one or none.
        if both(&folder) && state(&folder) == "running" {
            return folder;
        }
        fs::remove_dir_all(bench.runs(runs)).unwrap();
    }
}

#[cfg(target_os = "linux")]
const KILLS: usize = 50;
#[cfg(target_os = "linux")]
const GRID: &str = "grid --problem small.toml --curv kfac --lr 0.01,0.02,0.05 --damping 0.1,1 --epochs 30 --jobs 2 \
                    --checkpoint-seconds 0.03";

#[cfg(target_os = "linux")]
#[test]
fn fifty_kills_change_nothing() {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use std::time::SystemTime;
    let bench = Bench::new();
    let table = bench.succeed("whole", GRID);
    let whole = bench.results("whole");
    let mut random = StdRng::seed_from_u64(20);
    let (mut of_workers, mut of_parents, mut halfway, mut rounds) = (0, 0, 0, 0);
    while of_workers + of_parents < KILLS {
        // A grid that was done before all kills had come is begun again elsewhere.
        let runs = format!("runs-{rounds}");
        rounds += 1;
        let mut parent = bench.start(&runs, GRID);
        while of_workers + of_parents < KILLS {
            // A worker that begins may be hit as well as one in the middle of a step or a checkpoint; the latter more often,
            // however long a busy machine takes to begin.
            let (now, is_later) = (SystemTime::now(), random.random_bool(0.75));
            wait_for("a worker", || !children(parent.id()).is_empty() || parent.try_wait().unwrap().is_some());
            let has_begun = || written(&bench, &runs).is_some_and(|written| written > now);
            wait_for("a run", || !is_later || has_begun() || parent.try_wait().unwrap().is_some());
            std::thread::sleep(Duration::from_millis(random.random_range(50..400)));
            if parent.try_wait().unwrap().is_some() {
                break;
            }
            let workers: Vec<i32> = children(parent.id()).into_iter().filter(|pid| is_alive(*pid)).collect();
            if random.random_bool(0.2) {
                parent.kill().unwrap();
                // One that ended by itself in this instant was not killed.
                of_parents += usize::from(finish(parent).code().is_none());
                wait_for("the workers' end", || workers.iter().all(|worker| !is_alive(*worker)));
                halfway += usize::from(bench.run_folders(&runs).iter().any(|run| state(run) == "running"));
                parent = bench.start(&runs, GRID);
            } else if !workers.is_empty() {
                let worker = workers[random.random_range(0..workers.len())];
                of_workers += usize::from(send(worker, libc::SIGKILL));
            }
        }
        assert!(finish(parent).success());
        assert_eq!(bench.succeed(&runs, GRID), table);
        assert!(bench.results(&runs) == whole, "killed runs differ");
    }
    println!("{of_workers} workers and {of_parents} parents killed in {rounds} rounds");
    assert!(of_workers >= 20 && of_parents >= 5 && halfway >= 5, "{of_workers} {of_parents} {halfway}");
}

/// When a file of a run was last written.
#[cfg(target_os = "linux")]
fn written(bench: &Bench, runs: &str) -> Option<std::time::SystemTime> {
    let files = bench.run_folders(runs).into_iter().flat_map(|run| fs::read_dir(run).into_iter().flatten().flatten());
    // A file may be replaced in this instant.
    files.filter_map(|file| file.metadata().ok()?.modified().ok()).max()
}

#[test]
fn a_killed_run_of_every_new_optimizer_ends_with_the_same_files() {
    let bench = Bench::new();
    for options in [
        "--optimizer adamw --lr 0.01 --set schedule={cosine={warmup=0.1}} --set clip_norm=0.5",
        "--optimizer muon --lr 0.02",
        "--optimizer soap --lr 0.01 --set precondition_frequency=7",
        "--optimizer shampoo --lr 0.1 --set inverse_every=5",
    ] {
        let name = options.split_whitespace().nth(1).unwrap();
        let train = format!("train --problem small.toml --epochs 20 {options}");
        bench.succeed(name, &train);
        let killed = format!("killed-{name}");
        let often = format!("{train} --checkpoint-seconds 0.01");
        let child = bench.start(&killed, &often);
        wait_for("a few epochs", || {
            let rows = |run: &std::path::PathBuf| fs::read_to_string(run.join("epochs.csv")).unwrap_or_default();
            bench.run_folders(&killed).iter().any(|run| rows(run).lines().count() >= 5)
        });
        signal(&child, libc::SIGKILL);
        finish(child);
        assert!(bench.only_run(&killed).join("checkpoint.safetensors").exists(), "{name}: it was killed too late");
        let output = bench.output(&killed, &often);
        assert!(text(&output.stderr).contains("continues in epoch"), "{}", text(&output.stderr));
        assert!(bench.results(name) == bench.results(&killed), "{name}: a killed run differs");
    }
}
