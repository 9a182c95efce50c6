//! Runs that are suspended by a file, alone or in workers, end with the files of undisturbed ones.
#![cfg(unix)]

use std::path::Path;
use std::time::{Duration, Instant};

use crate::study_support::{Bench, children, finish, signal, state, wait_for};

const TRAIN: &str = "train --problem small.toml --curv kfac --lr 0.05 --damping 0.5 --epochs 12";
const GRID: &str = "grid --problem small.toml --curv kfac --lr 0.02,0.05 --damping 0.1,1 --epochs 3 --jobs 2";

/// The processor time that a process has taken, in the system's ticks.
#[cfg(target_os = "linux")]
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or_else(Vec::new, |(_, rest)| rest.split(' ').collect());
    [11, 12].iter().filter_map(|&field| fields.get(field)?.parse::<u64>().ok()).sum()
}

/// Seconds of training and evaluation in a run's table.
fn seconds(folder: &Path) -> f64 {
    let table = std::fs::read_to_string(folder.join("epochs.csv")).unwrap();
    let seconds = |line: &str| line.split(',').skip(7).map(|field| field.parse::<f64>().unwrap()).sum::<f64>();
    table.lines().skip(1).map(seconds).sum()
}

#[test]
fn a_suspended_run_takes_no_time_and_ends_with_the_same_files() {
    let bench = Bench::new();
    bench.succeed("whole", TRAIN);
    let file = bench.path().join("pause");
    let began = Instant::now();
    let child = bench.start("runs", &format!("{TRAIN} --pause-file pause"));
    let mut suspended = Duration::ZERO;
    for _ in 0..2 {
        wait_for("the first row", || bench.run_folders("runs").iter().any(|run| run.join("epochs.csv").exists()));
        let before = Instant::now();
        std::fs::write(&file, "").unwrap();
        // The step that is under way may end.
        std::thread::sleep(Duration::from_millis(300));
        #[cfg(target_os = "linux")]
        {
            let before = ticks(child.id());
            std::thread::sleep(Duration::from_millis(700));
            assert!(ticks(child.id()) - before <= 5, "it went on");
        }
        assert_eq!(state(&bench.only_run("runs")), "running");
        suspended += before.elapsed() - Duration::from_millis(300);
        std::fs::remove_file(&file).unwrap();
    }
    assert!(finish(child).success());
    assert!(bench.results("whole") == bench.results("runs"), "a suspended run differs");
    let counted = seconds(&bench.only_run("runs"));
    let most = began.elapsed().saturating_sub(suspended).as_secs_f64();
    assert!(counted <= most, "{counted} s were counted, at most {most} s were worked");
}

#[test]
fn workers_are_suspended_together_and_stop_meanwhile_when_asked() {
    let bench = Bench::new();
    let table = bench.succeed("whole", GRID);
    let file = bench.path().join("pause");
    // There from the start: no run gets further than its beginning.
    std::fs::write(&file, "").unwrap();
    let grid = format!("{GRID} --pause-file {}", file.display());
    let child = bench.start("runs", &grid);
    wait_for("two workers", || children(child.id()).len() == 2);
    wait_for("two runs", || bench.run_folders("runs").len() == 2);
    std::thread::sleep(Duration::from_millis(300));
    assert!(bench.run_folders("runs").iter().all(|run| !run.join("epochs.csv").exists()), "a run went on");
    signal(&child, libc::SIGTERM);
    assert_eq!(finish(child).code(), Some(130));
    let child = bench.start("runs", &grid);
    wait_for("two workers", || children(child.id()).len() == 2);
    std::fs::remove_file(&file).unwrap();
    assert!(finish(child).success());
    assert_eq!(bench.succeed("runs", GRID), table);
    assert!(bench.results("whole") == bench.results("runs"), "suspended runs differ");
}
