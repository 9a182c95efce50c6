//! How long runs are: longer ones go on from the ends of shorter ones, and a length may be in steps or seconds.

use std::fs;
use std::path::PathBuf;

use backpack_run::study::store::{EpochRow, RunFolder, checkpoint};

use crate::study_support::{Bench, finish, text, wait_for, without_times};

/// The run folders in `runs` whose configuration has so many epochs.
fn folders_of(bench: &Bench, runs: &str, epochs: usize) -> Vec<PathBuf> {
    let has = |folder: &PathBuf| {
        let config = fs::read_to_string(folder.join("config.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&config).unwrap()["problem"]["epochs"] == epochs
    };
    bench.run_folders(runs).into_iter().filter(has).collect()
}

/// Drops the runs of other lengths.
fn keep_only(bench: &Bench, runs: &str, epochs: usize) {
    let kept = folders_of(bench, runs, epochs);
    for folder in bench.run_folders(runs).into_iter().filter(|folder| !kept.contains(folder)) {
        fs::remove_dir_all(folder).unwrap();
    }
}

fn said(bench: &Bench, runs: &str, arguments: &str) -> String {
    let output = bench.output(runs, arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

const CONTINUED: &str = "continues from the end of a run of 2 epochs";

#[test]
fn a_longer_run_goes_on_from_the_end_of_a_shorter_one_with_equal_numbers() {
    let bench = Bench::new();
    for (name, train) in [
        ("adam", "train --problem small.toml --optimizer adam --lr 0.01"),
        ("kfac", "train --problem small.toml --curv kfac --lr 0.05 --damping 0.5"),
        ("normed", "train --problem normed.toml --optimizer momentum --lr 0.01"),
    ] {
        let whole = format!("{name}-whole");
        bench.succeed(&whole, &format!("{train} --epochs 4"));
        bench.succeed(name, &format!("{train} --epochs 1"));
        bench.succeed(name, &format!("{train} --epochs 2"));
        let plan = bench.succeed(name, &format!("{train} --epochs 4 --dry-run=full"));
        assert!(plan.contains("continues  "), "{plan}");
        let log = said(&bench, name, &format!("{train} --epochs 4"));
        assert!(
            log.contains("1 run continues from the end of a run of fewer epochs") && log.contains(CONTINUED),
            "{log}"
        );
        assert_eq!(bench.run_folders(name).len(), 3, "each length has a folder of its own");
        keep_only(&bench, name, 4);
        assert!(bench.results(name) == bench.results(&whole), "{name}: a run that went on differs");
        let log = said(&bench, name, &format!("{train} --epochs 3"));
        assert!(!log.contains("goes on"), "a shorter run has nothing to go on from: {log}");
    }
}

#[test]
fn what_cannot_go_on_is_trained_from_the_beginning() {
    let bench = Bench::new();
    let train = "train --problem small.toml --optimizer momentum --lr 0.01";
    bench.succeed("whole", &format!("{train} --epochs 3"));
    let cosine = format!("{train} --set schedule={{cosine={{warmup=0.1}}}}");
    bench.succeed("cosine", &format!("{cosine} --epochs 2"));
    assert!(!bench.only_run("cosine").join("end.safetensors").exists(), "its steps depend on the number of epochs");
    assert!(!said(&bench, "cosine", &format!("{cosine} --epochs 3")).contains("goes on"));

    bench.succeed("never", &format!("{train} --epochs 2 --set keep_end=never"));
    assert!(!bench.only_run("never").join("end.safetensors").exists());
    bench.succeed("other", &format!("{train} --epochs 2 --batch-size 25"));
    bench.succeed("damaged", &format!("{train} --epochs 2"));
    let end = bench.only_run("damaged").join("end.safetensors");
    let mut bytes = fs::read(&end).unwrap();
    let place = bytes.len() - 9;
    bytes[place] ^= 1;
    fs::write(&end, bytes).unwrap();
    for name in ["never", "other", "damaged"] {
        let log = said(&bench, name, &format!("{train} --epochs 3"));
        assert!(!log.contains(CONTINUED), "{name}: {log}");
        keep_only(&bench, name, 3);
        assert!(bench.results(name) == bench.results("whole"), "{name}");
    }
}

#[test]
fn rungs_of_halving_go_on_and_come_to_the_numbers_of_the_full_grid() {
    let bench = Bench::new();
    let grid = "grid --problem small.toml --optimizer momentum --lr 0.001,0.01 --epochs 4";
    bench.succeed("full", grid);
    let log = said(&bench, "halved", &format!("{grid} --halving 2"));
    assert!(log.contains(CONTINUED), "{log}");
    keep_only(&bench, "halved", 4);
    let (full, halved) = (bench.results("full"), bench.results("halved"));
    assert!(!halved.is_empty() && halved.iter().all(|(path, bytes)| full[path] == *bytes));
}

/// Four settings for one epoch, two of them for two, one for four: eight epochs where runs go on, else twelve.
#[test]
fn a_study_says_how_many_epochs_its_tuning_by_halving_took() {
    let bench = Bench::new();
    let study = "study --problem small.toml --optimizer momentum --lr 0.0001,0.001,0.01,0.1 --epochs 4 --halving 2 --set name=s";
    for (name, also, expected) in [
        ("continued", "", 1 + 1 + 2 + 4),
        ("anew", "--set schedule={cosine={}}", 4 + 2 * 2 + 4),
        ("kept", "--set keep_end=never", 4 + 2 * 2 + 4),
        ("diagnosed", "--set diagnostics=5", 4 + 2 * 2 + 4),
    ] {
        bench.succeed(name, &format!("{study} {also} --results-dir results-{name}"));
        let meta = fs::read_to_string(bench.path().join(format!("results-{name}/s/meta.json"))).unwrap();
        let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
        assert_eq!(meta["tuning"][0]["epochs"], expected, "{name}");
    }
}

#[test]
fn a_length_in_steps_ends_within_an_epoch_and_is_resumed_to_the_byte() {
    let bench = Bench::new();
    // 20 steps an epoch: the third one ends after ten.
    let train = "train --problem small.toml --optimizer momentum --lr 0.01";
    let steps = format!("{train} --set epochs={{steps=50}}");
    bench.succeed("steps", &steps);
    let folder = bench.only_run("steps");
    let table = |folder: &PathBuf, name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(table(&folder, "epochs.csv").lines().count(), 1 + 4);
    assert_eq!(table(&folder, "steps.csv").lines().count(), 1 + 5);
    bench.succeed("epochs", &format!("{train} --epochs 3"));
    let whole = bench.only_run("epochs");
    assert_ne!(folder.parent().unwrap().file_name(), whole.parent().unwrap().file_name());
    let lines = |folder: &PathBuf| -> Vec<String> {
        without_times(&table(folder, "epochs.csv")).lines().map(str::to_owned).collect()
    };
    let (found, all) = (lines(&folder), lines(&whole));
    assert_eq!(found[..4], all[..4], "whole epochs are those of a run of epochs");
    assert_ne!(found[4], all[4]);
    assert!(table(&folder, "status.json").contains("\"epochs\": 3"));

    let study = "study --problem small.toml --optimizer momentum --lr 0.01 --seeds 42 --set name=s \
                 --set target={metric=\"valid_losses\",value=9} --set epochs={steps=50} \
                 --results-dir results";
    bench.succeed("steps", study);
    let meta: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(bench.path().join("results/s/meta.json")).unwrap()).unwrap();
    assert_eq!(meta["length"], serde_json::json!({ "steps": 50 }));
    assert_eq!(bench.run_folders("steps").len(), 1, "the same run");
}

#[test]
fn a_length_in_seconds_ends_the_run_after_them() {
    let bench = Bench::new();
    let study = "study --problem small.toml --optimizer momentum --lr 0.01 --seeds 42,43 --set name=s --set epochs={seconds=0.2} --set target={metric=\"valid_losses\",value=1e9} --results-dir results";
    let log = said(&bench, "runs", study);
    assert!(log.contains("epoch 1: ") && !log.contains("epoch 1/0"), "{log}");
    for folder in bench.run_folders("runs") {
        let table = fs::read_to_string(folder.join("epochs.csv")).unwrap();
        let seconds: f64 =
            table.lines().skip(1).map(|line| line.split(',').nth(7).unwrap().parse::<f64>().unwrap()).sum();
        assert!((0.2..2.0).contains(&seconds), "{seconds}");
        let status: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(folder.join("status.json")).unwrap()).unwrap();
        let (steps, epochs) = (status["steps"].as_u64().unwrap(), status["epochs"].as_u64().unwrap());
        assert!(steps > (epochs - 1) * 20 && steps <= epochs * 20, "{status}");
        assert_eq!(table.lines().count() as u64, epochs + 2);
    }
    let meta = fs::read_to_string(bench.path().join("results/s/meta.json")).unwrap();
    assert!(meta.contains("\"lengths\": {\n    \"small\": {\n      \"seconds\": 0.2"), "{meta}");
    let finals = fs::read_to_string(bench.path().join("results/s/final.csv")).unwrap();
    assert!(
        finals.lines().count() == 7 && finals.contains(",2,0,0,0,0,2\n"),
        "the target is met before training: {finals}"
    );
    for (flags, says) in [
        ("--halving 2", "halving divides epochs"),
        ("--set schedule={cosine={}}", "nobody knows how long"),
        ("--set epochs={minutes=1}", "minutes"),
        ("--set epochs={steps=1,seconds=1}", "either `steps` or `seconds`"),
    ] {
        // Halving needs settings to choose from.
        let study =
            if flags.contains("halving") { study.replace("--lr 0.01", "--lr 0.1,0.01") } else { study.to_owned() };
        let output = bench.output("none", &format!("{study} {flags}"));
        assert_eq!(output.status.code(), Some(2), "{flags}");
        assert!(text(&output.stderr).contains(says), "{flags}: {}", text(&output.stderr));
    }
}

/// A checkpoint may be the last thing that is known of a run whose limit was reached within the epoch: that epoch is
/// evaluated all the same.
#[test]
fn a_run_killed_at_its_limit_is_evaluated_before_it_is_done() {
    let bench = Bench::new();
    for (name, length) in [("seconds", "{seconds=1000}"), ("steps", "{steps=20010}")] {
        let train = format!(
            "train --problem small.toml --optimizer momentum --lr 0.01 --checkpoint-seconds 0.001 --set epochs={length}"
        );
        let mut child = bench.start(name, &train);
        wait_for("a checkpoint", || {
            bench.run_folders(name).iter().any(|folder| folder.join("checkpoint.safetensors").exists())
        });
        child.kill().unwrap();
        finish(child);
        let folder = RunFolder::at(bench.only_run(name));
        let mut left = checkpoint::load(&folder).unwrap().checkpoint.unwrap();
        // How many epochs a length in seconds comes to is not known before its end.
        let table = bench.succeed(name, "status small");
        assert!(table.contains(if name == "seconds" { "/? " } else { "/1001 " }), "{table}");
        // Checkpoints follow steps, and none an evaluation.
        assert!(left.progress.epochs.len() == left.progress.epoch + 1 && left.progress.step > 0);
        // As if the step before it had been the one that reached the limit.
        if name == "seconds" {
            left.progress.train_seconds = 1000.0;
        } else {
            let first = left.progress.epochs[0];
            left.progress.epochs = (0..=1000).map(|epoch| EpochRow { epoch, ..first }).collect();
            (left.progress.epoch, left.progress.step) = (1000, 10);
        }
        let (epochs, steps) = (left.progress.epoch + 1, left.progress.epoch * 20 + left.progress.step);
        checkpoint::save(&folder, &left).unwrap();
        bench.succeed(name, &train);
        let rows = folder.read_epochs().unwrap();
        assert_eq!((rows.len(), rows.last().unwrap().epoch), (epochs + 1, epochs), "{name}");
        let status = folder.read_status().unwrap().unwrap();
        assert_eq!((status.epoch, status.epochs), (epochs, epochs), "{name}");
        if name == "seconds" {
            assert!(rows.last().unwrap().train_seconds >= 1000.0);
            assert_eq!(status.steps, Some(steps as u64));
        }
    }
}

#[test]
fn too_few_seeds_are_told_before_the_run() {
    let bench = Bench::new();
    let study = "study --problem small.toml --optimizer momentum,adam,sgd,adamw --lr 0.01 --epochs 1 --dry-run";
    let plan = bench.succeed("runs", &format!("{study} --seeds 1,2,3"));
    assert!(
        plan.contains("note: 3 seeds cannot give p < 0.05; 6 could, 8 after the correction for 6 pairs\n"),
        "{plan}"
    );
    let plan = bench.succeed("runs", &format!("{study} --seeds 1..7"));
    assert!(plan.contains("note: 7 seeds cannot give p < 0.05 after the correction for 6 pairs; 8 could\n"), "{plan}");
    assert!(!bench.succeed("runs", &format!("{study} --seeds 1..8")).contains("note:"));
    // One optimizer is compared with nothing.
    let alone = study.replace("momentum,adam,sgd,adamw", "momentum");
    assert!(!bench.succeed("runs", &format!("{alone} --seeds 1,2,3")).contains("note:"));
}
