//! What a run is said to cost before it is made, beside what it takes.

use std::fs;
use std::path::Path;
use std::time::Instant;

use backpack_run::study::forecast::{Estimate, estimate};
use backpack_run::study::run::{DataCache, Trainer};
use backpack_run::study::settings::RunTask;
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
