//! `study` and `seeds` from the command line to the result folder.

use std::collections::BTreeMap;
use std::path::Path;

use crate::study_support::{Bench, text};

/// Two grids, of which one needs no choice.
const STUDY: &str = r#"
schema = 1
name = "two"
problem = "small.toml"
epochs = 2
seeds = [42, 43, 44]
[[optimizer]]
name = "momentum"
learning_rate = [0.001, 0.1]
[[optimizer]]
name = "kfac"
learning_rate = 0.05
damping = 0.5
"#;

fn bench() -> Bench {
    let bench = Bench::new();
    std::fs::write(bench.path().join("two.toml"), STUDY).unwrap();
    bench
}

/// The CSV files of a result folder, times aside.
fn tables(folder: &Path) -> BTreeMap<&'static str, String> {
    let read = |name: &'static str| {
        let table = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let keep = if name == "seeds.csv" { 11 } else { usize::MAX };
        let line = |line: &str| line.split(',').take(keep).collect::<Vec<_>>().join(",") + "\n";
        (name, table.lines().map(line).collect::<String>())
    };
    ["curves.csv", "seeds.csv", "grid.csv", "final.csv"].map(read).into()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_study_goes_from_grids_to_curves_and_skips_what_is_done() {
    let bench = bench();
    let table = bench.succeed("runs", "study two.toml --results-dir one");
    assert!(table.contains("Momentum") && table.contains("lr high"), "{table}");
    // Of the grid's two runs one is the best setting's first seed: 1 + 3 of Momentum, 3 of KFAC.
    assert_eq!(bench.run_folders("runs").len(), 7);
    let folder = bench.path().join("one/two");
    let written = tables(&folder);
    let lines = |name: &str| written[name].lines().count() - 1;
    assert_eq!((lines("curves.csv"), lines("seeds.csv")), (2 * 6 * 3, 2 * 3 * 3));
    assert_eq!((lines("grid.csv"), lines("final.csv")), (3, 2 * 6));
    let rows: Vec<&str> = written["grid.csv"].lines().collect();
    assert!(rows[1].starts_with("small,Momentum,0.001,,42,done,2,") && rows[1].ends_with(",2,false"), "{}", rows[1]);
    assert!(rows[2].starts_with("small,Momentum,0.1,,42,done,2,") && rows[2].ends_with(",1,true"), "{}", rows[2]);
    assert!(rows[3].starts_with("small,KFAC,0.05,0.5,42,done,2,") && rows[3].ends_with(",1,true"), "{}", rows[3]);
    assert!(written["final.csv"].contains("small,KFAC,0.05,0.5,single,test_accuracies,"), "{}", written["final.csv"]);
    check_median(&written);
    let meta = json(&folder.join("meta.json"));
    assert_eq!((&meta["schema_version"], &meta["name"], &meta["diverged"]), (&1.into(), &"two".into(), &"fill".into()));
    assert_eq!(meta["seeds"], serde_json::json!([42, 43, 44]));
    assert_eq!(meta["winners"][0]["learning_rate"], 0.1);
    assert_eq!(meta["winners"][1]["edge"], "single");
    assert_eq!(meta["experiment"]["optimizer"][1]["name"], "kfac");
    assert!(meta["machine"]["cores"].as_u64().unwrap() > 0 && meta["program"]["tch"].is_string(), "{meta}");

    let again = bench.output("runs", "study two.toml --results-dir one");
    let said = text(&again.stderr);
    assert!(said.contains("2 runs have their results already and are skipped"), "{said}");
    assert!(said.contains("6 runs have their results already and are skipped"), "{said}");
    assert_eq!(text(&again.stdout), table);
    assert!(tables(&folder) == written);
    assert_eq!(json(&folder.join("meta.json"))["created"], meta["created"]);

    bench.succeed("other", "study two.toml --results-dir two --jobs 2");
    assert!(tables(&bench.path().join("two/two")) == written, "--jobs changed a table");
    // The grid's own commands find the same runs and the same best setting.
    let seeds = "seeds --problem small.toml --optimizer momentum --lr 0.001,0.1 --epochs 2 --seeds 42,43,44";
    let csv = bench.succeed("runs", &format!("{seeds} --results-dir three --format csv"));
    assert_eq!(bench.run_folders("runs").len(), 7, "nothing is run again");
    let momentum: String =
        written["final.csv"].lines().filter(|line| !line.contains("KFAC")).map(|l| l.to_owned() + "\n").collect();
    assert_eq!(csv, momentum);
    assert!(bench.path().join("three/small__momentum/curves.csv").exists());
}

/// The median and quartiles of three seeds in final.csv are those of the rows in seeds.csv.
fn check_median(written: &BTreeMap<&str, String>) {
    let row =
        written["final.csv"].lines().find(|line| line.contains("Momentum") && line.contains("test_losses")).unwrap();
    let fields: Vec<&str> = row.split(',').collect();
    let last = written["seeds.csv"].lines().filter(|line| line.contains("Momentum") && line.contains(",done,2,"));
    let mut losses: Vec<f64> = last.map(|line| line.split(',').nth(9).unwrap().parse().unwrap()).collect();
    losses.sort_by(f64::total_cmp);
    assert_eq!(losses.len(), 3);
    let found: Vec<f64> = fields[6..9].iter().map(|field| field.parse().unwrap()).collect();
    let expected = [losses[1], (losses[0] + losses[1]) / 2.0, (losses[1] + losses[2]) / 2.0];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{row}: {expected}");
    }
    assert_eq!(&fields[11..], ["3", "0"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_study_goes_on_to_the_same_tables() {
    use crate::study_support::{finish, signal, wait_for};
    let bench = bench();
    let study = "study two.toml --set epochs=20 --jobs 2";
    bench.succeed("whole", &format!("{study} --results-dir a"));
    let whole = tables(&bench.path().join("a/two"));
    // Once within the grids, once among the seeds.
    for folders in [2, 5] {
        let child = bench.start("runs", &format!("{study} --results-dir b"));
        wait_for("runs", || bench.run_folders("runs").len() >= folders);
        signal(&child, libc::SIGINT);
        assert_eq!(finish(child).code(), Some(130));
        assert!(tables(&bench.path().join("b/two")) != whole, "it was interrupted too late");
    }
    bench.succeed("runs", &format!("{study} --results-dir b"));
    assert!(tables(&bench.path().join("b/two")) == whole);
    assert!(bench.results("whole") == bench.results("runs"));
}

#[test]
fn seeds_before_the_grid_names_the_command_to_run() {
    let bench = Bench::new();
    let grid = "--problem small.toml --optimizer momentum --lr 0.001,0.1 --epochs 2";
    let output = bench.output("runs", &format!("seeds {grid} --seeds 1,2"));
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("0 of 2 runs have a result"), "{said}");
    let quoted = grid.replace("0.001,0.1", "'0.001,0.1'");
    assert!(said.contains(&format!("backpack-run grid {quoted} --runs-dir runs")), "{said}");
    assert!(!bench.path().join("results").exists());
    bench.succeed("runs", &format!("grid {grid}"));
    let dry = bench.succeed("runs", &format!("seeds {grid} --seeds 42,43 --dry-run=full"));
    assert!(dry.contains("2 runs, 1 to do") && dry.contains("seeds = [42, 43]"), "{dry}");
    bench.succeed("runs", &format!("seeds {grid} --seeds 42,43"));
    assert_eq!(bench.run_folders("runs").len(), 3);
}

#[test]
fn results_of_another_experiment_are_not_replaced_in_silence() {
    let bench = bench();
    let study = "study two.toml --seeds 42 --results-dir results";
    let said = |flags: &str| {
        let output = bench.output("runs", &format!("{study}{flags}"));
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let replaced = "the results of another experiment are replaced";
    assert!(!said(" --epochs 1").contains(replaced));
    assert!(!said(" --epochs 1").contains(replaced));
    assert!(said(" --epochs 2").contains(replaced));
    // One optimizer less, with the other as it was, is the same experiment; what follows is told.
    let fewer = said(" --epochs 2 --optimizer momentum");
    assert!(!fewer.contains(replaced) && fewer.contains("1 optimizer instead of 2; 1 unchanged"), "{fewer}");
    assert!(fewer.contains("next: backpack-run report two --results-dir results"), "{fewer}");
    // A grid's seed that is none of the seeds is told.
    let grid_seed = "the grids run with seed 7 (grid_seed)";
    assert!(!fewer.contains("(grid_seed)") && said(" --epochs 1 --set grid_seed=7").contains(grid_seed));
}

#[test]
fn a_dry_run_shows_both_stages() {
    let bench = bench();
    let said = bench.succeed("runs", "study two.toml --dry-run=full");
    assert!(said.contains("# runs: grid\n") && said.contains("# runs: seeds of the best settings\n"), "{said}");
    // The grid makes the best setting's run with its seed, one of the three.
    assert!(said.contains("later  2 runs of settings that depend on the stage before"), "{said}");
    assert!(said.contains("7 runs, 7 to do"), "{said}");
    let said = bench.succeed("runs", "study two.toml --halving 2 --dry-run=full");
    assert!(said.contains("# runs: grid, rung 2\n") && said.contains("later  1 run of"), "{said}");
    let said = bench.succeed("runs", "study two.toml --optimizer momentum --seeds 42 --dry-run=full");
    assert!(said.contains("2 runs, 2 to do") && !said.contains("seeds of the best settings"), "{said}");
    assert!(!bench.runs("runs").exists() && !bench.path().join("results").exists());
    // Once the grid is done, the run is no second one among the seeds either.
    bench.succeed("runs", "grid two.toml --optimizer momentum");
    let said = bench.succeed("runs", "study two.toml --dry-run");
    assert!(said.contains("7 runs, 5 to do") && said.contains("seeds of the best settings: 5 runs, 5 to do"), "{said}");
}

#[test]
fn diverged_seeds_are_filled_or_dropped() {
    let bench = Bench::new();
    let study = "study --problem small.toml --optimizer sgd --lr 1e25 --epochs 2 --seeds 1,2 --set name=wild";
    let table = bench.succeed("runs", study);
    assert!(table.contains("2, 2 diverged"), "{table}");
    let filled = tables(&bench.path().join("results/wild"));
    assert_eq!(filled["seeds.csv"].lines().count(), 1 + 2, "only measured rows");
    let losses: Vec<&str> = filled["curves.csv"].lines().filter(|line| line.contains(",test_losses,")).collect();
    let median = |line: &str| line.split(',').nth(4).unwrap().to_owned();
    assert_eq!((losses.len(), median(losses[2])), (3, median(losses[0])), "{losses:?}");
    bench.succeed("runs", &format!("{study} --diverged drop"));
    assert_eq!(tables(&bench.path().join("results/wild"))["curves.csv"].lines().count(), 1);
}

#[test]
fn halving_trains_the_best_longer_and_a_study_takes_its_winner() {
    let bench = Bench::new();
    let grid = "--problem small.toml --optimizer momentum --lr 0.0001,0.001,0.01,0.1 --epochs 4 --halving 2";
    let table = bench.succeed("runs", &format!("grid {grid}"));
    assert!(table.contains("@1") && table.contains("@2") && table.contains("* ") && table.contains("@4"), "{table}");
    // 4 runs of one epoch, 2 of two, 1 of four, each in a folder of its own.
    assert_eq!(bench.run_folders("runs").len(), 7);
    bench.succeed("runs", &format!("seeds {grid} --seeds 42,43"));
    assert_eq!(bench.run_folders("runs").len(), 8);
    let written = tables(&bench.path().join("results/small__momentum"));
    let epochs: Vec<&str> = written["grid.csv"].lines().skip(1).map(|line| line.split(',').nth(6).unwrap()).collect();
    let mut sorted = epochs.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["1", "1", "2", "4"]);
    let best: Vec<&str> = written["grid.csv"].lines().filter(|line| line.ends_with(",1,true")).collect();
    assert!(best.len() == 1 && best[0].split(',').nth(6) == Some("4"), "{best:?}");
}

#[test]
fn a_search_draws_settings_from_the_range() {
    let bench = Bench::new();
    let search = "--problem small.toml --curv diag_ggn_mc --lr 0.001,0.1 --damping 0.1,1 --epochs 1";
    for (how, first) in [("halton", "0.01,0.215443"), ("random", "")] {
        let csv = bench.succeed(how, &format!("grid {search} --search {how} --budget 3 --format csv"));
        assert_eq!(csv.lines().count(), 4, "{csv}");
        assert!(csv.lines().nth(1).unwrap().contains(first), "{csv}");
        let table = bench.succeed(how, &format!("grid {search} --search {how} --budget 3"));
        assert!(table.contains("damping") && table.matches("0.").count() >= 9, "{table}");
        assert_eq!(bench.run_folders(how).len(), 3);
    }
    let again = bench.succeed("again", &format!("grid {search} --search random --budget 2 --format csv"));
    let whole = bench.succeed("random", &format!("grid {search} --search random --budget 3 --format csv"));
    let settings = |csv: &str| -> Vec<String> {
        csv.lines().skip(1).take(2).map(|line| line.split(',').take(4).collect::<Vec<_>>().join(",")).collect()
    };
    assert_eq!(settings(&again), settings(&whole), "a larger budget keeps the draws of a smaller one");
    for (flags, says) in [
        ("--search random", "--budget"),
        ("--budget 3", "--search"),
        ("--search halton --budget 3 --damping 0,1", "logarithm"),
    ] {
        let plain =
            search.replace(" --damping 0.1,1", if flags.contains("--damping") { "" } else { " --damping 0.1,1" });
        let output = bench.output("none", &format!("grid {plain} {flags}"));
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
}

#[test]
fn all_seven_optimizers_of_the_paper_go_from_grid_to_curves() {
    let bench = Bench::new();
    let data = crate::support::data_folder("fashion-mnist");
    let set = if data.is_some() { "dataset=fashion_mnist" } else { "dataset=fashion_mnist_mini" };
    let mut study = format!(
        "study --problem fmnist_logreg --set {set} --set train_size=1024 --epochs 1 --seeds 42,43 --jobs 2 --curv \
         diag_ggn,diag_ggn_mc,kfac,kflr,kfra --optimizer momentum,adam --lr 0.001,0.01 --damping 0.1 --results-dir res"
    );
    if let Some(data) = &data {
        study += &format!(" --data-dir {}", data.display());
    }
    bench.succeed("runs", &study);
    let written = tables(&bench.path().join("res/fmnist_logreg"));
    for name in ["DiagGGN", "DiagGGN-MC", "KFAC", "KFLR", "KFRA", "Momentum", "Adam"] {
        let rows = |table: &str| {
            written[table].lines().filter(|line| line.starts_with(&format!("fmnist_logreg,{name},"))).count()
        };
        assert_eq!(
            (rows("curves.csv"), rows("seeds.csv"), rows("grid.csv"), rows("final.csv")),
            (12, 4, 2, 6),
            "{name}"
        );
    }
    assert_eq!(bench.run_folders("runs").len(), 7 * 3);
}
