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
