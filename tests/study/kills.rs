//! Fifty kills at random moments, of workers and of the program itself, change no byte of a grid's results.
#![cfg(target_os = "linux")]

use std::fs;
use std::time::{Duration, SystemTime};

use crate::study_support::{Bench, children, finish, is_alive, state, wait_for};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KILLS: usize = 50;
const GRID: &str = "grid --problem small.toml --curv kfac --lr 0.01,0.02,0.05 --damping 0.1,1 --epochs 30 --jobs 2 \
                    --checkpoint-seconds 0.03";

#[test]
fn fifty_kills_change_nothing() {
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
                // SAFETY: sends a signal to a child of the program, which waits for it and so keeps its number.
                of_workers += usize::from(unsafe { libc::kill(worker, libc::SIGKILL) } == 0);
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
fn written(bench: &Bench, runs: &str) -> Option<SystemTime> {
    let files = bench.run_folders(runs).into_iter().flat_map(|run| fs::read_dir(run).into_iter().flatten().flatten());
    // A file may be replaced in this instant.
    files.filter_map(|file| file.metadata().ok()?.modified().ok()).max()
}
