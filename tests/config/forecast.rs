//! What all runs of a study come to: time, memory and disk from what one of each kind costs.

use std::path::PathBuf;

use backpack_run::Error;
use backpack_run::study::estimate::Estimate;
use backpack_run::study::forecast::{Cost, Forecast, Stage};
use backpack_run::study::plan::{Planned, Standing};
use backpack_run::study::store::KeepEnd;
use backpack_run::study::task::RunTask;

use crate::resolve::settings;

/// A stage of runs that stand so, and of so many whose settings are not known yet.
fn stage(standings: &[Standing], later: usize) -> Stage {
    let task = RunTask {
        settings: settings(&["--problem", "mnist_logreg", "--optimizer", "sgd", "--lr", "0.1"]),
        seed: 42,
        runs_dir: PathBuf::from("."),
        data_dir: None,
        checkpoint_seconds: 60.0,
        keep_end: KeepEnd::default(),
        diagnostics: None,
        pause_file: None,
    };
    let planned = |standing: &Standing| Planned { task: task.clone(), standing: standing.clone(), unsealed: false };
    Stage {
        title: "grid".to_owned(),
        planned: standings.iter().map(planned).collect(),
        later: vec![planned(&Standing::ToDo); later],
    }
}

/// What so many runs of one kind cost: seconds, memory, disk while they run, and what of it stays.
fn cost(runs: usize, seconds: f64, [memory_bytes, disk_bytes, kept_bytes]: [u64; 3]) -> Cost {
    Cost {
        problem: "mnist_logreg".to_owned(),
        optimizer: "sgd".to_owned(),
        epochs: 1,
        limit: None,
        runs,
        estimate: Ok(Estimate {
            step_seconds: 0.1,
            evaluation_seconds: 1.0,
            steps_per_epoch: 10,
            seconds,
            memory_bytes,
            disk_bytes,
            kept_bytes,
        }),
    }
}

#[test]
fn runs_at_the_same_time_share_the_time_and_add_up_in_memory() {
    let standings = [Standing::Done, Standing::Diverged("step 3".to_owned()), Standing::ToDo, Standing::Resumes];
    let stages = vec![stage(&standings, 2), stage(&[Standing::ToDo, Standing::Failed("no".to_owned())], 0)];
    let costs = vec![cost(3, 10.0, [100, 50, 20]), cost(2, 4.0, [300, 70, 10])];
    let forecast = Forecast { stages, costs };
    assert_eq!((forecast.runs(), forecast.to_do()), (8, 5));
    let two = forecast.total(2).unwrap();
    assert_eq!((two.seconds, two.memory_bytes), (19.0, 600));
    // All results stay; the checkpoints are those of two runs.
    assert_eq!(two.disk_bytes, (3 * 20 + 2 * 30) + (2 * 10 + 2 * 60));
    assert!(two.free_disk.unwrap() > 0);
    // No more than there are to do are at it.
    let all = forecast.total(100).unwrap();
    // The longest run alone takes longer than a fifth of the whole.
    assert_eq!(all.seconds, 10.0);
    let four = forecast.total(4).unwrap();
    assert_eq!(four.seconds, 10.0);
    let three = forecast.total(3).unwrap();
    assert_eq!(three.seconds, 38.0 / 3.0);
    assert_eq!((all.memory_bytes, all.disk_bytes), (1500, (3 * 20 + 3 * 30) + (2 * 10 + 2 * 60)));
}

#[test]
fn what_cannot_be_timed_or_is_done_has_no_total() {
    let mut forecast =
        Forecast { stages: vec![stage(&[Standing::ToDo], 0)], costs: vec![cost(1, 10.0, [100, 50, 20])] };
    assert!(forecast.total(1).is_some());
    let refused = Cost { estimate: Err(Error::Usage("it does not fit".to_owned())), ..cost(1, 10.0, [100, 50, 20]) };
    forecast.costs.push(refused);
    assert_eq!(forecast.total(1), None);
    assert_eq!(Forecast { stages: vec![stage(&[Standing::Done], 0)], costs: Vec::new() }.total(1), None);
}
