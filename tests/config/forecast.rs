//! What all runs of a study come to: time, memory and disk from what one of each kind costs.

use std::path::PathBuf;

use backpack_run::Error;
use backpack_run::study::forecast::{Cost, Estimate, Forecast, Stage};
use backpack_run::study::settings::RunTask;
use backpack_run::study::standing::{Planned, Standing};
use backpack_run::study::store::KeepEnd;

use crate::resolve::settings;

/// A stage of runs of so many epochs that stand so, and of so many whose settings are not known yet.
fn stage(epochs: usize, standings: &[Standing], later: usize) -> Stage {
    let mut settings = settings(&["--problem", "mnist_logreg", "--optimizer", "sgd", "--lr", "0.1"]);
    settings.problem.epochs = epochs;
    let task = RunTask {
        settings,
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

/// What so many runs of so many epochs cost: seconds, memory, disk while they run, and what of it stays.
fn cost(epochs: usize, runs: usize, seconds: f64, [memory_bytes, disk_bytes, kept_bytes]: [u64; 3]) -> Cost {
    Cost {
        problem: "mnist_logreg".to_owned(),
        optimizer: "sgd".to_owned(),
        epochs,
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
    let mut all = stage(1, &standings, 1);
    all.planned.extend(stage(2, &[Standing::ToDo, Standing::Failed("no".to_owned())], 0).planned);
    all.later.extend(stage(2, &[], 1).later);
    let costs = vec![cost(1, 3, 10.0, [100, 50, 20]), cost(2, 2, 4.0, [300, 70, 10])];
    let forecast = Forecast { stages: vec![all], costs };
    assert_eq!((forecast.runs(), forecast.to_do()), (8, 5));
    let two = forecast.total(2).unwrap();
    assert_eq!((two.seconds, two.memory_bytes), (19.0, 600));
    // All results stay; the checkpoints are those of two runs.
    assert_eq!(two.disk_bytes, (3 * 20 + 2 * 10) + 2 * 60);
    assert!(two.free_disk.unwrap() > 0);
    // No more than there are to do are at it.
    let five = forecast.total(100).unwrap();
    // The longest run alone takes longer than a fifth of the whole.
    assert_eq!(five.seconds, 10.0);
    let four = forecast.total(4).unwrap();
    assert_eq!((four.seconds, four.memory_bytes), (10.0, 2 * 300 + 2 * 100));
    let three = forecast.total(3).unwrap();
    assert_eq!(three.seconds, 38.0 / 3.0);
    assert_eq!((five.memory_bytes, five.disk_bytes), (2 * 300 + 3 * 100, (3 * 20 + 2 * 10) + (3 * 30 + 2 * 60)));
}

#[test]
fn stages_come_one_after_the_other_and_share_nothing() {
    let to_do = [Standing::ToDo, Standing::ToDo, Standing::ToDo];
    let costs = vec![cost(1, 4, 10.0, [100, 50, 20]), cost(2, 2, 4.0, [300, 70, 10])];
    let stages = vec![stage(1, &to_do, 1), stage(3, &[Standing::Done], 0), stage(2, &[], 2)];
    let forecast = Forecast { stages, costs };
    let kept = 4 * 20 + 2 * 10;
    for (jobs, seconds, memory, checkpoints) in [
        (1, 40.0 + 8.0, 300, 60),
        (2, 20.0 + 4.0, 600, 2 * 60),
        (3, 40.0 / 3.0 + 4.0, 600, 2 * 60),
        (100, 10.0 + 4.0, 600, 2 * 60),
    ] {
        let total = forecast.total(jobs).unwrap();
        assert_eq!((total.seconds, total.memory_bytes), (seconds, memory), "{jobs}");
        assert_eq!(total.disk_bytes, kept + checkpoints, "{jobs}");
    }
}

#[test]
fn what_cannot_be_timed_or_is_done_has_no_total() {
    let stages = vec![stage(1, &[Standing::ToDo], 0)];
    let mut forecast = Forecast { stages, costs: vec![cost(1, 1, 10.0, [100, 50, 20])] };
    assert!(forecast.total(1).is_some());
    let refused = Cost { estimate: Err(Error::Usage("it does not fit".to_owned())), ..cost(2, 1, 10.0, [100, 50, 20]) };
    forecast.costs.push(refused);
    forecast.stages.push(stage(2, &[Standing::ToDo], 0));
    assert_eq!(forecast.total(1), None);
    assert_eq!(Forecast { stages: vec![stage(1, &[Standing::Done], 0)], costs: Vec::new() }.total(1), None);
}
