//! The protocol of a study beyond grid and seeds: targets, budgets, further tunings, one setting for all problems.

use std::collections::BTreeMap;
use std::fs;

use crate::study_support::{Bench, text};

type Rows = Vec<BTreeMap<String, String>>;

/// A table of the study `name`.
fn rows(bench: &Bench, name: &str, table: &str) -> Rows {
    let path = bench.path().join("results").join(name).join(table);
    let mut reader = csv::Reader::from_path(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    reader.deserialize().map(|row| row.unwrap()).collect()
}

fn meta(bench: &Bench, name: &str) -> serde_json::Value {
    let path = bench.path().join("results").join(name).join("meta.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} is `{}`", row[column]))
}

/// A study of Momentum and KFAC on the small problem, with these further lines at its top.
fn write_study(bench: &Bench, name: &str, lines: &str) {
    let study = format!(
        r#"
schema = 1
problem = "small.toml"
epochs = 4
seeds = [42, 43, 44]
{lines}
[[optimizer]]
name = "momentum"
learning_rate = [0.001, 0.02]
momentum = [0.5, 0.9]
[[optimizer]]
name = "kfac"
learning_rate = 0.05
damping = [0.5, 1.0]
"#
    );
    fs::write(bench.path().join(format!("{name}.toml")), study).unwrap();
}

/// The first evaluation of each seed at which its validation loss is low enough, and the training seconds to it.
fn first_below(seeds: &Rows, optimizer: &str, aim: f64) -> Vec<Option<(f64, f64)>> {
    let of = |seed: &str| {
        let own: Vec<_> = seeds.iter().filter(|row| row["optimizer"] == optimizer && row["seed"] == seed).collect();
        let at = own.iter().position(|row| number(row, "valid_loss") <= aim)?;
        let seconds = own[..=at].iter().map(|row| number(row, "train_seconds")).sum();
        Some((number(own[at], "epoch"), seconds))
    };
    ["42", "43", "44"].map(of).into()
}

#[test]
fn a_target_is_told_in_steps_epochs_and_seconds() {
    let bench = Bench::new();
    write_study(&bench, "aim", "target = { metric = \"valid_losses\", value = \"best baseline\" }");
    bench.succeed("runs", "study aim.toml --results-dir results");
    let (seeds, finals) = (rows(&bench, "aim", "seeds.csv"), rows(&bench, "aim", "final.csv"));
    let row = |optimizer: &str| {
        finals.iter().find(|row| row["optimizer"] == optimizer && row["metric"] == "valid_losses").unwrap()
    };
    let aim = number(row("Momentum"), "median");
    let target = &meta(&bench, "aim")["target"];
    assert_eq!((&target["metric"], &target["value"]), (&"valid_losses".into(), &"best baseline".into()));
    assert_eq!(target["problems"]["small"], serde_json::json!({ "value": aim, "baseline": "Momentum" }));
    for optimizer in ["Momentum", "KFAC"] {
        let mut first: Vec<(f64, f64)> = first_below(&seeds, optimizer, aim).into_iter().flatten().collect();
        let row = row(optimizer);
        assert_eq!(number(row, "target_reached"), first.len() as f64, "{optimizer}");
        first.sort_by(|a, b| a.0.total_cmp(&b.0));
        match first.get(1) {
            Some((epoch, _)) => {
                assert_eq!(number(row, "target_epochs"), *epoch, "{optimizer}");
                // 1200 - 200 samples in batches of 50.
                assert_eq!(number(row, "target_steps"), 20.0 * epoch, "{optimizer}");
            }
            None => assert_eq!([&row["target_steps"], &row["target_seconds"]], ["", ""], "{optimizer}"),
        }
    }
    assert!(number(row("Momentum"), "target_reached") >= 2.0, "the median is reached by half of the seeds");
    let targets = rows(&bench, "aim", "targets.csv");
    assert_eq!(targets.len(), 6);
    for (row, expected) in targets.iter().filter(|row| row["optimizer"] == "KFAC").zip(first_below(&seeds, "KFAC", aim))
    {
        assert_eq!(row["reached"], expected.is_some().to_string());
        let Some((epoch, seconds)) = expected else { continue };
        assert_eq!(number(row, "epochs"), epoch);
        assert!(number(row, "seconds") <= seconds + 1e-9, "a busy machine's seconds only ever shrink");
    }

    // Where diverged runs are left out, those that did not diverge are counted as before.
    bench.succeed("runs", "study aim.toml --results-dir results --diverged drop");
    let dropped = rows(&bench, "aim", "final.csv");
    let reached = |rows: &Rows| rows.iter().map(|row| row["target_reached"].clone()).collect::<Vec<_>>();
    assert_eq!(reached(&dropped), reached(&finals));

    // A number that nobody reaches; without a target there is no trace of one.
    write_study(&bench, "aim", "target = { value = 1.0 }");
    bench.succeed("runs", "study aim.toml --results-dir results");
    let finals = rows(&bench, "aim", "final.csv");
    assert!(finals.iter().all(|row| row["target_reached"] == "0" && row["target_epochs"].is_empty()), "{finals:?}");
    write_study(&bench, "aim", "");
    bench.succeed("runs", "study aim.toml --results-dir results");
    assert!(!rows(&bench, "aim", "final.csv")[0].contains_key("target_steps"));
    assert!(!bench.path().join("results/aim/targets.csv").exists() && meta(&bench, "aim")["target"].is_null());
}

#[test]
fn a_target_that_cannot_be_is_refused() {
    let bench = Bench::new();
    for (lines, flags, says) in [
        ("target = { value = 1.5 }", "", "an accuracy lies between 0 and 1"),
        ("target = { metric = \"valid_accuracy\", value = 0.5 }", "", "did you mean `valid_accuracies`"),
        ("target = { metric = \"valid_losses\" }", "", "value"),
        ("target = { value = \"best\" }", "", "a number, or \"best baseline\""),
        ("target = { value = \"best baseline\" }", " --optimizer kfac", "no baseline"),
        ("tuning_repeats = 5\nhalving = 2", "", "leave out halving"),
    ] {
        write_study(&bench, "bad", lines);
        let output = bench.output("runs", &format!("study bad.toml --results-dir results{flags}"));
        assert_eq!(output.status.code(), Some(2), "{lines}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(says), "{lines}: {}", text(&output.stderr));
    }
}

/// What a row says of a setting and what it measured.
fn setting(row: &BTreeMap<String, String>) -> [&str; 4] {
    ["learning_rate", "momentum", "valid_loss", "test_accuracy"].map(|column| row[column].as_str())
}

#[test]
fn tuning_is_told_with_its_cost_repeated_and_compared_with_one_setting_for_all_problems() {
    let bench = Bench::new();
    write_study(&bench, "two", "tuning_repeats = 60");
    let study = "study two.toml --problem small.toml,normed.toml --optimizer momentum --epochs 1 --seeds 42 --results-dir results";
    bench.succeed("runs", study);
    let grid = rows(&bench, "two", "grid.csv");
    let tuning = &meta(&bench, "two")["tuning"];
    for (place, problem) in ["small", "normed"].into_iter().enumerate() {
        let told = &tuning[place];
        assert_eq!((&told["problem"], &told["optimizer"]), (&problem.into(), &"Momentum".into()));
        assert_eq!((&told["baseline"], &told["search"]), (&true.into(), &"grid".into()));
        assert_eq!((&told["budget"], &told["finished"], &told["epochs"]), (&4.into(), &4.into(), &4.into()));
        let best = grid.iter().find(|row| row["problem"] == problem && row["best"] == "true").unwrap();
        let rate = &told["axes"][0];
        assert_eq!(
            (&rate["key"], &rate["least"], &rate["largest"]),
            (&"learning_rate".into(), &0.001.into(), &0.02.into())
        );
        assert_eq!(rate["best"], number(best, "learning_rate"));
        // Between two values every setting lies on an edge.
        let edge = |large: bool| if large { "highest" } else { "lowest" };
        assert_eq!(rate["edge"], edge(best["learning_rate"] == "0.02"));
        let momentum = &told["axes"][1];
        assert_eq!(
            (&momentum["key"], &momentum["edge"]),
            (&"momentum".into(), &edge(best["momentum"] == "0.9").into())
        );
        let both =
            format!("learning_rate:{};momentum:{}", rate["edge"].as_str().unwrap(), edge(best["momentum"] == "0.9"));
        let finals = rows(&bench, "two", "final.csv");
        assert!(finals.iter().filter(|row| row["problem"] == problem).all(|row| row["edge"] == both), "{finals:?}");
    }

    let drawn = rows(&bench, "two", "tuning.csv");
    assert_eq!(drawn.len(), 2 * 60);
    let of =
        |rows: &Rows, problem: &str| -> Rows { rows.iter().filter(|row| row["problem"] == problem).cloned().collect() };
    for problem in ["small", "normed"] {
        let (grid, drawn) = (of(&grid, problem), of(&drawn, problem));
        let best = grid.iter().find(|row| row["best"] == "true").unwrap();
        assert!(drawn.iter().all(|row| grid.iter().any(|tried| setting(tried) == setting(row))), "{problem}");
        // The best of four is among four draws of 1 - (3/4)^4 = 68 % of the tunings: 41 of 60, give or take 3.6.
        let again = drawn.iter().filter(|row| setting(row) == setting(best)).count();
        assert!((27..=55).contains(&again), "{problem}: {again} of 60");
    }
    assert_ne!(
        of(&drawn, "small").iter().map(|row| row["learning_rate"].clone() + &row["momentum"]).collect::<Vec<_>>(),
        of(&drawn, "normed").iter().map(|row| row["learning_rate"].clone() + &row["momentum"]).collect::<Vec<_>>()
    );

    // The least sum of ranks over both problems.
    let single = rows(&bench, "two", "single.csv");
    let rank = |problem: &str, place: usize| number(&of(&grid, problem)[place], "rank");
    let sums: Vec<f64> = (0..4).map(|place| rank("small", place) + rank("normed", place)).collect();
    let least = sums.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!((single.len(), single.iter().map(|row| number(row, "rank")).sum::<f64>()), (2, least));
    assert_eq!(
        [&single[0]["learning_rate"], &single[0]["momentum"]],
        [&single[1]["learning_rate"], &single[1]["momentum"]]
    );
    for row in &single {
        let grid = of(&grid, &row["problem"]);
        let best = grid.iter().find(|row| row["best"] == "true").unwrap();
        let tried = grid
            .iter()
            .find(|tried| [&tried["learning_rate"], &tried["momentum"]] == [&row["learning_rate"], &row["momentum"]])
            .unwrap();
        assert_eq!([&row["test_loss"], &row["best_test_loss"]], [&tried["test_loss"], &best["test_loss"]]);
        assert_eq!([&row["value"], &row["best_value"]], [&tried["valid_accuracy"], &best["valid_accuracy"]]);
    }

    bench.succeed("runs", &format!("{study} --set tuning_repeats=7"));
    let fewer = rows(&bench, "two", "tuning.csv");
    assert_eq!(of(&fewer, "normed"), of(&drawn, "normed")[..7], "more repeats add to fewer");
}
