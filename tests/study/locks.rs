//! Locks of other hosts, races for a lock, processes that stop for a while, and several grids at the same time.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use crate::study_support::{Bench, children, finish, is_alive, is_held_by, send, signal, state, text, wait_for};

const TRAIN: &str = "train --problem small.toml --optimizer momentum --lr 0.1 --epochs 1";

/// The folder of a run that is done, and its lock as a process of another host would have written it.
fn locked_elsewhere(bench: &Bench) -> (PathBuf, PathBuf) {
    bench.succeed("runs", TRAIN);
    let folder = bench.only_run("runs");
    fs::remove_file(folder.join("status.json")).unwrap();
    let lock = folder.join("lock.json");
    let holder = r#"{"schema_version":1,"host":"another-host","boot":"b","pid":1,"start":1,"token":"1-1-0"}"#;
    fs::write(&lock, holder).unwrap();
    (folder, lock)
}

#[test]
fn a_live_lock_of_another_host_is_waited_for_and_an_old_one_taken_over() {
    let bench = Bench::new();
    let (folder, lock) = locked_elsewhere(&bench);
    let status = bench.succeed("runs", "status");
    assert!(status.contains("running") && status.contains("process 1 on another-host"), "{status}");
    let mut command = bench.command("runs", TRAIN);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waiting = log.find(|line| line.contains("another-host is running it; waiting"));
    assert!(waiting.is_some(), "the lock was not respected");
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(state(&folder), "none");
    assert!(fs::read_to_string(&lock).unwrap().contains("another-host"));
    // Its heart has stopped two minutes ago.
    let old = SystemTime::now() - Duration::from_secs(125);
    fs::File::options().write(true).open(&lock).unwrap().set_modified(old).unwrap();
    let said: Vec<String> = log.collect();
    assert!(finish(child).success(), "{said:?}");
    assert!(said.iter().any(|line| line.contains("its lock is taken over")), "{said:?}");
    assert_eq!(state(&folder), "done");
    assert!(!lock.exists());
}

#[test]
fn two_processes_that_start_at_once_never_share_a_run() {
    let bench = Bench::new();
    let train = TRAIN.replace("--epochs 1", "--epochs 3");
    bench.succeed("whole", &train);
    for round in 0..3 {
        let runs = format!("runs-{round}");
        let start = || {
            let mut command = bench.command(&runs, &train);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let both = [start(), start()].map(|child| child.wait_with_output().unwrap());
        assert!(both.iter().all(|output| output.status.success()));
        let trained = both.iter().filter(|output| text(&output.stderr).contains("epoch 3/3")).count();
        assert_eq!(trained, 1, "{}\n{}", text(&both[0].stderr), text(&both[1].stderr));
        assert!(bench.results("whole") == bench.results(&runs));
    }
}

#[test]
fn two_grids_share_the_work_while_their_state_is_asked_for() {
    let bench = Bench::new();
    let grid = "grid --problem small.toml --optimizer momentum --lr 0.01,0.02,0.05,0.1,0.2,0.3 --epochs 10 --jobs 2";
    let table = bench.succeed("whole", grid);
    let start = || {
        let mut command = bench.command("runs", grid);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let grids = [start(), start()];
    for _ in 0..5 {
        bench.succeed("runs", "status");
    }
    let outputs = grids.map(|child| child.wait_with_output().unwrap());
    let mut trained = 0;
    for output in &outputs {
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), table);
        trained += text(&output.stderr).matches("epoch 10/10").count();
    }
    assert_eq!(trained, 6, "a run was done twice");
    assert!(bench.results("whole") == bench.results("runs"));
}

#[test]
fn a_worker_that_is_stopped_for_a_while_goes_on() {
    let bench = Bench::new();
    let grid = "grid --problem small.toml --optimizer momentum --lr 0.05,0.1 --epochs 60 --jobs 2";
    bench.succeed("whole", grid);
    let parent = bench.start("runs", grid);
    let held = |folder: &Path, pid: i32| is_held_by(folder, pid as u32);
    let mut worker = 0;
    wait_for("a worker with a run", || {
        let folders = bench.run_folders("runs");
        let busy = children(parent.id()).into_iter().find(|pid| folders.iter().any(|folder| held(folder, *pid)));
        worker = busy.unwrap_or(0);
        worker != 0
    });
    for number in [libc::SIGSTOP, libc::SIGCONT] {
        assert!(send(worker, number));
        std::thread::sleep(Duration::from_millis(700));
    }
    assert!(finish(parent).success());
    assert!(bench.results("whole") == bench.results("runs"));
}

/// Somebody ends a worker politely: it leaves a checkpoint, and another goes on from there, also where none is left.
#[test]
fn a_worker_that_is_asked_to_end_takes_nobody_along() {
    let bench = Bench::new();
    for (learning_rates, jobs, whole, runs) in [("0.05,0.1", 2, "two", "of-two"), ("0.05", 1, "one", "of-one")] {
        let grid = format!(
            "grid --problem small.toml --optimizer momentum --lr {learning_rates},0.2 --epochs 40 --jobs {jobs} \
             --set seeds=[42]"
        );
        bench.succeed(whole, &grid);
        let parent = bench.start(runs, &grid);
        let mut ended = 0;
        // Three times, also when the other worker has nothing more to do; a worker that is done by then is no loss.
        while ended < 3 && is_alive(parent.id() as i32) {
            let folders = bench.run_folders(runs);
            let busy = |pid: &i32| folders.iter().any(|folder| is_held_by(folder, *pid as u32));
            if let Some(worker) = children(parent.id()).into_iter().find(busy) {
                ended += usize::from(send(worker, libc::SIGTERM));
                std::thread::sleep(Duration::from_millis(150));
            }
        }
        assert!(finish(parent).success());
        assert!(ended >= 2, "only {ended} workers were ended");
        assert!(bench.results(whole) == bench.results(runs));
    }
}

#[test]
fn folders_may_have_any_name_and_be_links() {
    let bench = Bench::new();
    let grid = "grid --problem small.toml --optimizer momentum --lr 0.05,0.1 --epochs 1 --jobs 2";
    bench.succeed("whole", grid);
    let odd = "läufe mit 'Leerzeichen' und \"n\u{2264}m\"";
    bench.succeed(odd, grid);
    assert!(bench.results("whole") == bench.results(odd));
    fs::create_dir(bench.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", bench.runs("linked")).unwrap();
    bench.succeed("linked", grid);
    assert!(bench.results("whole") == bench.results("linked"));
    assert!(bench.succeed("linked", "status").contains("2 done"));
}

#[test]
fn closed_streams_lose_no_run() {
    let bench = Bench::new();
    let grid = "grid --problem small.toml --optimizer momentum --lr 0.05,0.1,0.2 --epochs 3 --jobs 2";
    bench.succeed("whole", grid);
    for (runs, arguments) in [("pool", grid.to_owned()), ("here", grid.replace(" --jobs 2", ""))] {
        let mut command = bench.command(runs, &arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(finish(child).code(), Some(0));
        assert!(bench.results("whole") == bench.results(runs));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_output_is_an_error() {
    for arguments in [&["--help"][..], &["--version"], &["grid", "--help"], &["list", "optimizers"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(crate::support::program_path());
        let output = command.args(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("stdout"), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn one_signal_to_a_grid_leaves_checkpoints_and_a_second_ends_it_at_once() {
    let bench = Bench::new();
    let grid = "grid --problem small.toml --optimizer momentum --lr 0.05,0.1 --epochs 100000 --jobs 2";
    let parent = bench.start("runs", grid);
    wait_for("two runs", || bench.run_folders("runs").iter().filter(|f| f.join("epochs.csv").exists()).count() == 2);
    let workers = children(parent.id());
    for number in [libc::SIGSTOP, libc::SIGINT, libc::SIGTERM, libc::SIGCONT] {
        signal(&parent, number);
    }
    assert_eq!(finish(parent).code(), Some(130));
    wait_for("the workers' end", || workers.iter().all(|worker| !is_alive(*worker)));
}
