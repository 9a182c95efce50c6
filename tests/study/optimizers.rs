//! Optimizers of today in runs and studies: they go on from a checkpoint, follow a schedule, and stand in tables by their
//! labels and options.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs;

use crate::study_support::{Bench, finish, signal, text, wait_for, without_times};

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

#[test]
fn a_schedule_multiplies_the_learning_rate_in_parts_of_the_run() {
    let bench = Bench::new();
    let train = "train --problem small.toml --optimizer sgd --epochs 2";
    let epochs = |runs: &str, options: &str| {
        bench.succeed(runs, &format!("{train} {options}"));
        without_times(&fs::read_to_string(bench.only_run(runs).join("epochs.csv")).unwrap())
    };
    let plain = epochs("plain", "--lr 0.1");
    assert_eq!(epochs("halved", "--lr 0.2 --set schedule={steps={at=[0.0],factor=0.5}}"), plain);
    let later = epochs("later", "--lr 0.1 --set schedule={steps={at=[0.5],factor=0.5}}");
    let lines = |table: &str| table.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&later)[..3], lines(&plain)[..3], "the first half is as without a schedule");
    assert_ne!(lines(&later)[3], lines(&plain)[3], "the second is not");
}

const STUDY: &str = r#"
schema = 1
name = "labels"
problem = "small.toml"
epochs = 1
seeds = [42, 43]
[[optimizer]]
name = "kfac"
label = "KFAC, batch"
learning_rate = 0.05
damping = 0.5
averaging = "none"
[[optimizer]]
name = "kfac"
learning_rate = 0.05
damping = 0.5
[[optimizer]]
name = "momentum"
learning_rate = 0.01
momentum = [0.0, 0.9]
[[optimizer]]
name = "momentum"
label = "The same again"
learning_rate = 0.01
"#;

#[test]
fn labels_and_gridded_options_are_in_every_table() {
    let bench = Bench::new();
    fs::write(bench.path().join("labels.toml"), STUDY).unwrap();
    let table = bench.succeed("runs", "study labels.toml --results-dir results");
    assert!(table.contains("KFAC, batch") && table.contains("The same again"), "{table}");
    assert!(table.contains("averaging none") && table.contains("averaging cumulative"), "{table}");
    let read = |name: &str| fs::read_to_string(bench.path().join("results/labels").join(name)).unwrap();
    let rows: Vec<String> = read("grid.csv").lines().map(str::to_owned).collect();
    assert!(rows[0].starts_with("problem,optimizer,learning_rate,damping,momentum,averaging,seed,"), "{}", rows[0]);
    let begins = |row: usize, expected: &str| assert!(rows[row].starts_with(expected), "{}", rows[row]);
    begins(1, "small,\"KFAC, batch\",0.05,0.5,0,none,42,done,");
    begins(2, "small,KFAC,0.05,0.5,0,cumulative,42,done,");
    begins(3, "small,Momentum,0.01,,0,,42,done,");
    begins(4, "small,Momentum,0.01,,0.9,,42,done,");
    begins(5, "small,The same again,0.01,,0.9,,42,done,");
    // Equal settings are one run, whatever they are called: four settings of the first seed, and of the second what
    // was chosen: both of KFAC, momentum 0.9 under its second label, and momentum 0 only where it won the first.
    let plain_won = read("final.csv").contains("small,Momentum,0.01,,0,");
    assert_eq!(bench.run_folders("runs").len(), 4 + 3 + usize::from(plain_won));
    let names = |name: &str| -> BTreeSet<String> {
        let table = read(name);
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        reader.records().map(|record| record.unwrap()[1].to_owned()).collect()
    };
    for name in ["curves.csv", "seeds.csv", "final.csv"] {
        let expected = ["KFAC", "KFAC, batch", "Momentum", "The same again"].map(str::to_owned);
        assert_eq!(names(name), BTreeSet::from(expected), "{name}");
    }
    assert!(read("final.csv").starts_with("problem,optimizer,learning_rate,damping,momentum,averaging,edge,metric,"));
    assert!(read("final.csv").contains("small,\"KFAC, batch\",0.05,0.5,0,none,single,"));
    let meta: serde_json::Value = serde_json::from_str(&read("meta.json")).unwrap();
    assert_eq!(meta["winners"][0]["options"], serde_json::json!({ "averaging": "none", "momentum": 0.0 }));
    assert_eq!(meta["experiment"]["optimizer"][0]["label"], "KFAC, batch");
    bench.succeed("runs", "report results/labels");
    let grid = bench.succeed("runs", "grid labels.toml --optimizer momentum --format csv");
    let header = "problem,optimizer,learning_rate,damping,momentum,seeds,";
    assert!(grid.starts_with(header) && grid.contains("\nsmall,The same again,0.01,,0.9,1,"), "{grid}");
}
