//! `grid` and `train` from the command line to the files: results, skipping, selection, and independence of how runs
//! are carried out. Optimizers of today follow a schedule, and stand in tables by their labels and options.

use std::collections::BTreeSet;
use std::fs;

use crate::study_support::{Bench, state, text, without_times};

const GRID: &str = "grid --problem small.toml --optimizer momentum --lr 0.001,0.1 --epochs 2";

#[test]
fn a_grid_trains_every_setting_and_names_the_best() {
    let bench = Bench::new();
    let table = bench.succeed("runs", GRID);
    assert!(table.contains("best: lr 0.1, valid_accuracies"), "{table}");
    assert!(
        table.contains("warning: the best setting lies on the grid's edge (lr high); next, try learning_rate = [0.1, "),
        "{table}"
    );
    let folders = bench.run_folders("runs");
    assert_eq!(folders.len(), 2);
    for folder in folders {
        assert!(folder.starts_with(bench.path().join("runs/small/momentum")), "{folder:?}");
        assert_eq!(state(&folder), "done");
        let epochs = std::fs::read_to_string(folder.join("epochs.csv")).unwrap();
        let lines: Vec<&str> = epochs.lines().collect();
        assert_eq!(lines.len(), 1 + 3);
        assert!(lines[1].starts_with("0,") && lines[1].contains(",0.0,"), "row 0 precedes training: {}", lines[1]);
        // 1000 training samples make 20 steps an epoch, of which every tenth is logged.
        let steps = std::fs::read_to_string(folder.join("steps.csv")).unwrap();
        let at: Vec<&str> = steps.lines().skip(1).map(|line| line.rsplit_once(',').unwrap().0).collect();
        assert_eq!(at, ["1,0", "1,10", "2,20", "2,30"]);
        let config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
        assert_eq!((&config["schema_version"], &config["seed"]), (&1.into(), &42.into()));
        assert_eq!(config["problem"]["epochs"], 2);
        let provenance = std::fs::read_to_string(folder.join("provenance.json")).unwrap();
        assert!(provenance.contains("\"libtorch\": \"2.13.0"), "{provenance}");
    }
}

#[test]
fn a_second_start_skips_what_is_done_and_prints_the_same() {
    let bench = Bench::new();
    let first = bench.succeed("runs", GRID);
    let before = bench
        .run_folders("runs")
        .iter()
        .map(|f| f.join("epochs.csv").metadata().unwrap().modified().unwrap())
        .collect::<Vec<_>>();
    let output = bench.output("runs", GRID);
    assert_eq!(text(&output.stdout), first);
    let after = bench
        .run_folders("runs")
        .iter()
        .map(|f| f.join("epochs.csv").metadata().unwrap().modified().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(before, after);
    // A larger grid takes up only what is new.
    let output = bench.output("runs", &GRID.replace("0.001,0.1", "0.001,0.1,0.01"));
    assert!(text(&output.stderr).contains("2 of 3 runs have their results already"), "{}", text(&output.stderr));
    // A shorter run never passes for a longer one.
    bench.succeed("runs", &GRID.replace("--epochs 2", "--epochs 1"));
    assert_eq!(bench.run_folders("runs").len(), 5);
}

#[test]
fn neither_jobs_nor_checkpoints_change_a_number() {
    let bench = Bench::new();
    let grid = "grid --problem small.toml --curv kfac --lr 0.01,0.1 --damping 0.1,1 --epochs 2";
    let table = bench.succeed("one", grid);
    assert_eq!(bench.succeed("two", &format!("{grid} --jobs 2")), table);
    assert_eq!(bench.succeed("often", &format!("{grid} --checkpoint-seconds 0.001")), table);
    let one = bench.results("one");
    assert_eq!(one.len(), 4 * 6);
    assert!(one == bench.results("two"), "--jobs changed a file");
    assert!(one == bench.results("often"), "checkpoints changed a file");
    // A run in this process gives the numbers of a run in a worker.
    bench.succeed("here", "train --problem small.toml --curv kfac --lr 0.1 --damping 1 --epochs 2");
    for (path, content) in bench.results("here") {
        assert_eq!(one[&path], content, "{path:?}");
    }
}

#[test]
fn the_result_is_printed_as_csv_and_json_too() {
    let bench = Bench::new();
    bench.succeed("runs", GRID);
    let csv = bench.succeed("runs", &format!("{GRID} --format csv"));
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "problem,optimizer,learning_rate,damping,seeds,diverged,state,metric,mode,value,rank");
    assert!(lines[2].starts_with("small,momentum,0.1,,1,0,done,valid_accuracies,final,0."), "{csv}");
    assert!(lines[2].ends_with(",1"), "{csv}");
    let json: serde_json::Value =
        serde_json::from_str(&bench.succeed("runs", &format!("{GRID} --format json"))).unwrap();
    let grid = &json["grids"][0];
    assert_eq!(json["schema_version"], 1);
    assert_eq!(grid["best"]["learning_rate"], 0.1);
    assert_eq!(grid["edges"][0]["end"], "upper");
    assert_eq!(grid["settings"].as_array().unwrap().len(), 2);
}

#[test]
fn a_diverged_run_is_a_result_and_ranks_last() {
    let bench = Bench::new();
    let grid = "grid --problem small.toml --optimizer sgd --lr 1e25,0.01 --epochs 2";
    let table = bench.succeed("runs", grid);
    assert!(table.contains("diverged") && table.contains("best: lr 0.01,"), "{table}");
    let diverged = bench.run_folders("runs").into_iter().find(|folder| state(folder) == "diverged").unwrap();
    let status = std::fs::read_to_string(diverged.join("status.json")).unwrap();
    assert!(status.contains("in epoch 1 at step 1"), "{status}");
    let epochs = std::fs::read_to_string(diverged.join("epochs.csv")).unwrap();
    assert_eq!(epochs.lines().count(), 1 + 1, "only measured rows");
    assert!(!diverged.join("checkpoint.safetensors").exists());
    // It is done: a second start leaves it alone.
    assert_eq!(bench.succeed("runs", grid), table);
}

#[test]
fn train_runs_one_setting_with_several_seeds() {
    let bench = Bench::new();
    let train = "train --problem normed.toml --optimizer adam --lr 0.01 --epochs 1 --seeds 42,43";
    let table = bench.succeed("runs", train);
    assert_eq!(table.matches("done").count(), 2, "{table}");
    let [one, other] = &bench.run_folders("runs")[..] else { panic!("two runs") };
    assert!(one.ends_with("seed-42") && other.ends_with("seed-43"));
    let read = |folder: &std::path::Path| without_times(&std::fs::read_to_string(folder.join("epochs.csv")).unwrap());
    assert_ne!(read(one), read(other));
    let csv = bench.succeed("runs", &format!("{train} --format csv"));
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let output = bench.output("runs", "train --problem small.toml --optimizer sgd --lr 0.1,0.2");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--lr has 2 values"), "{}", text(&output.stderr));
}

#[test]
fn a_dry_run_prints_everything_and_starts_nothing() {
    let bench = Bench::new();
    bench.succeed("runs", "train --problem small.toml --optimizer momentum --lr 0.1 --epochs 2");
    let before = bench.results("runs");
    let said = bench.succeed("runs", &format!("{GRID} --dry-run=full"));
    for part in ["learning_rate = [0.001, 0.1]", "grid_seed = 42", "2 runs, 1 to do", "steps/s", "memory", "disk"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(bench.results("runs"), before);
    // The answer stands first, and the resolved file only where it is asked for.
    assert!(said.starts_with("2 runs, 1 to do, 1 at a time\ntime "), "{said}");
    let short = bench.succeed("runs", &format!("{GRID} --dry-run"));
    assert!(short.starts_with("2 runs, 1 to do, 1 at a time\ntime ") && !short.contains("grid_seed"), "{short}");
    let json: serde_json::Value =
        serde_json::from_str(&bench.succeed("runs", &format!("{GRID} --dry-run --format json"))).unwrap();
    assert!(json["estimates"][0]["run_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn status_reads_the_folders() {
    let bench = Bench::new();
    assert!(bench.succeed("runs", "status").contains("no runs"));
    bench.succeed("runs", GRID);
    let table = bench.succeed("runs", "status");
    // One row for both, and single runs where a text is given.
    assert!(table.contains("2 runs: 2 done") && !table.contains("2/2") && !table.contains("lr-0.1"), "{table}");
    let single = bench.succeed("runs", "status lr-0.1");
    assert!(single.contains("1 run: 1 done") && single.contains("2/2") && single.contains("lr-0.1"), "{single}");
    let csv = bench.succeed("runs", "status lr-0.1 --format csv");
    assert_eq!(csv.lines().count(), 2, "{csv}");
    let json: serde_json::Value = serde_json::from_str(&bench.succeed("runs", "status --format json")).unwrap();
    assert_eq!(json["runs"][0]["state"], "done");
}

#[test]
fn version_names_the_libraries() {
    let output = crate::support::program().arg("--version").output().unwrap();
    let said = text(&output.stdout);
    assert!(said.starts_with("backpack-run 0.") && said.contains("tch 0.26.0, libtorch 2.13.0"), "{said}");
}

#[test]
fn what_cannot_start_prints_no_table_and_what_is_done_is_said_to_be_skipped() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path().join("nothing")).unwrap();
    let missing = "--problem svhn_3c3d --optimizer sgd --lr 0.1,0.2 --epochs 1 --data-dir nothing";
    let output = bench.output("runs", &format!("grid {missing}"));
    assert_ne!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "");
    bench.succeed("runs", GRID);
    let said = text(&bench.output("runs", GRID).stderr);
    assert!(said.contains("2 runs have their results already and are skipped"), "{said}");
    let said = bench.succeed("runs", "status nowhere");
    assert!(said.contains("no run in runs has `nowhere` in its folder name"), "{said}");
    assert!(bench.succeed("runs", "status lr-0.1").contains("1 run: 1 done"));
    let train = "train --problem small.toml --optimizer momentum --lr 0.1 --epochs 2";
    let dry = bench.succeed("runs", &format!("{train} --dry-run=full"));
    assert!(dry.contains("1 run, 0 to do") && !dry.contains("seeds = "), "{dry}");
    let help = bench.succeed("runs", "train --help");
    let about: Vec<&str> =
        help.lines().map(str::trim).filter(|line| line.starts_with("--lr") || line.starts_with("--search")).collect();
    assert_eq!(about.len(), 1, "{help}");
    assert!(about[0].contains("--lr <NUMBER>") && help.contains("The learning rate"), "{help}");
    let output = bench.output("runs", &format!("{train} --halving 2"));
    assert_eq!(output.status.code(), Some(2));
}

/// Tables of runs at three widths: what they hold stays whole.
#[test]
fn tables_of_runs_keep_to_the_terminal() {
    let bench = Bench::new();
    bench.succeed("runs", GRID);
    let study =
        "study --problem small.toml --optimizer momentum --lr 0.001,0.1 --epochs 2 --seeds 42,43 --set name=wide";
    let at = |command: &str, width: usize| {
        let output = bench.command("runs", command).env("COLUMNS", width.to_string()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    for width in [60, 80, 150] {
        let table = at(study, width);
        for said in [&table, &at("status", width), &at("status lr-0.1", width)] {
            let long = |line: &&str| line.chars().count() > width && line.split_whitespace().count() > 2;
            assert_eq!(said.lines().find(long), None, "at {width}: {said}");
        }
        for whole in ["Momentum", "small", "median"] {
            assert!(table.contains(whole), "{table}");
        }
        // The test accuracy is there at any width, its three numbers in full.
        let brackets = table.matches('[').count();
        assert!(table.contains("test_accuracies") && brackets >= 2, "{table}");
    }
    let grouped = at("status", 60);
    assert!(grouped.contains("momentum") && grouped.contains("3 runs: 3 done"), "{grouped}");
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
