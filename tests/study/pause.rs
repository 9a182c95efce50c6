//! Runs that are suspended by a file, alone or in workers, end with the files of undisturbed ones.
#![cfg(unix)]

use std::time::{Duration, Instant};

use backpack_run::signals::Stop;
use backpack_run::study::event::{Evaluation, Outcome, RunEvent};
use backpack_run::study::run::{self, DataCache};
use backpack_run::study::settings::RunTask;

use crate::study_support::{Bench, children, finish, signal, task, wait_for};

const TRAIN: &str = "train --problem small.toml --curv kfac --lr 0.05 --damping 0.5 --epochs 3";
const GRID: &str = "grid --problem small.toml --curv kfac --lr 0.02,0.05 --damping 0.1,1 --epochs 3 --jobs 2";

/// Suspended in its first evaluation and again in its first epoch, each time for half a second.
#[test]
fn a_suspension_changes_no_number_and_counts_for_no_seconds() {
    const SUSPENDED: Duration = Duration::from_millis(500);
    // A run looks for the file every 50 ms; on a fast machine an evaluation is over before.
    let write = |file: &std::path::Path| {
        std::fs::write(file, "").unwrap();
        std::thread::sleep(Duration::from_millis(60));
    };
    let bench = Bench::new();
    bench.succeed("whole", TRAIN);
    let problem = bench.path().join("small.toml");
    let line = TRAIN.replace("small.toml", problem.to_str().unwrap());
    let file = bench.path().join("pause");
    let task = RunTask { pause_file: Some(file.clone()), ..task(&bench, line.trim_start_matches("train ")) };
    backpack_run::runtime::set_threads(task.settings.threads);
    let mut rows: Vec<(Evaluation, Instant)> = Vec::new();
    let (mut started, mut suspended) = (None, Vec::new());
    let outcome = run::carry_out(&task, &mut DataCache::default(), &Stop::never(), &mut |event| match event {
        RunEvent::Started { .. } => {
            started = Some(Instant::now());
            write(&file);
        }
        RunEvent::Evaluated(row) => {
            if row.epoch == 0 {
                write(&file);
            }
            rows.push((row, Instant::now()));
        }
        RunEvent::Note { text } if text.contains("suspended") => {
            suspended.push((Instant::now(), None));
            let file = file.clone();
            std::thread::spawn(move || {
                std::thread::sleep(SUSPENDED);
                std::fs::remove_file(file).unwrap();
            });
        }
        RunEvent::Note { .. } => suspended.last_mut().unwrap().1 = Some(Instant::now()),
        _ => {}
    });
    assert_eq!(outcome, Outcome::Done);
    assert!(bench.results("whole") == bench.results("runs"), "a suspended run differs");
    let times: Vec<f64> = suspended.iter().map(|(began, ended)| (ended.unwrap() - *began).as_secs_f64()).collect();
    assert!(times.len() == 2 && times.iter().all(|time| *time >= SUSPENDED.as_secs_f64()), "{times:?}");
    // What was counted passed between what was told before and after it, the suspension apart.
    let evaluation = (rows[0].1 - started.unwrap()).as_secs_f64() - times[0];
    let epoch = (rows[1].1 - rows[0].1).as_secs_f64() - times[1];
    let (first, second) = (&rows[0].0, &rows[1].0);
    assert!(first.eval_seconds <= evaluation, "{} > {evaluation}", first.eval_seconds);
    let counted = second.train_seconds + second.eval_seconds;
    assert!(counted <= epoch, "{counted} > {epoch}");
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
