//! What a run is said to cost before it is made, beside what it takes; what all runs of a study come to, in time, memory
//! and disk, from what one of each kind costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use backpack_run::Error;
use backpack_run::study::forecast::{Cost, Estimate, Forecast, Stage, estimate};
use backpack_run::study::run::{DataCache, Trainer};
use backpack_run::study::settings::RunTask;
use backpack_run::study::standing::{Planned, Standing};
use backpack_run::study::store::KeepEnd;
use safetensors::SafeTensors;

use crate::study_support::{Bench, task};

/// Bytes of the tensors in a file, without its header.
fn tensor_bytes(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensors().iter().map(|(_, tensor)| tensor.data().len() as u64).sum()
}

/// The seconds of a whole run, of so many steps and evaluations, follow from those of one.
fn assert_adds_up(estimate: &Estimate, steps: f64, evaluations: f64) {
    let seconds = steps * estimate.step_seconds + evaluations * estimate.evaluation_seconds;
    assert!((estimate.seconds / seconds - 1.0).abs() < 1e-12, "{estimate:?}, expected {seconds}");
}

/// Seconds of a step, measured over an epoch of twenty.
fn step_seconds(task: &RunTask) -> f64 {
    let mut cache = DataCache::default();
    let mut trainer = Trainer::new(&task.settings, task.seed, cache.get(task).unwrap()).unwrap();
    let order = trainer.train_order(0);
    let began = Instant::now();
    for step in 0..20 {
        trainer.step(&order, 0, step, false).unwrap();
    }
    began.elapsed().as_secs_f64() / 20.0
}

#[test]
fn what_is_forecast_is_what_a_run_takes() {
    let bench = Bench::new();
    let small = bench.path().join("small.toml");
    let run = format!("--problem {} --optimizer adam --lr 0.01 --epochs 2", small.display());
    let task = task(&bench, &run);
    let told = estimate(&task, &mut DataCache::default()).unwrap();
    assert_eq!(told.steps_per_epoch, 20);
    // Something else may hold up the machine during one of both.
    let ratio = || estimate(&task, &mut DataCache::default()).unwrap().step_seconds / step_seconds(&task);
    assert!((0..5).any(|_| (0.25..4.0).contains(&ratio())), "{told:?}, a step takes {}", step_seconds(&task));
    assert!(told.evaluation_seconds > 1e-6, "{told:?}");
    assert_adds_up(&told, 40.0, 3.0);

    bench.succeed("runs", &format!("train {run}"));
    let folder = bench.only_run("runs");
    let [weights, end] = ["weights", "end"].map(|name| tensor_bytes(&folder.join(format!("{name}.safetensors"))));
    // Three evaluations, and a loss of each tenth step with one more an epoch.
    let rows = 3 * 200 + (4 + 2) * 32;
    let tables = ["epochs.csv", "steps.csv"].map(|name| fs::metadata(folder.join(name)).unwrap().len());
    assert!(tables.iter().sum::<u64>() < rows, "{tables:?}");
    assert_eq!(told.kept_bytes, weights + end + rows);
    // While it runs there are two checkpoints beside them, each with the tables so far.
    assert_eq!(told.disk_bytes, told.kept_bytes + 2 * end + rows);
}

#[test]
fn a_run_of_some_steps_is_forecast_by_them() {
    let bench = Bench::new();
    let small = bench.path().join("small.toml");
    let run = format!("--problem {} --optimizer sgd --lr 0.01 --set epochs={{steps=50}}", small.display());
    let told = estimate(&task(&bench, &run), &mut DataCache::default()).unwrap();
    assert_adds_up(&told, 50.0, 4.0);
}

/// A stage of runs of so many epochs that stand so, and of so many whose settings are not known yet.
fn stage(epochs: usize, standings: &[Standing], later: usize) -> Stage {
    let bench = Bench::new();
    let small = bench.path().join("small.toml");
    let mut settings = task(&bench, &format!("--problem {} --optimizer sgd --lr 0.1", small.display())).settings;
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
        problem: "small".to_owned(),
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
