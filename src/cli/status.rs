//! `backpack-run status`: where the runs stand, from their folders alone.

use clap::Args;
use serde_json::json;

use super::flags::{FolderFlags, Format, OutputFlags};
use super::tables::{Table, number};
use super::terminal::{print, wrapped};
use crate::error::{Error, Result};
use crate::study::packing;
use crate::study::standing::{Survey, survey};
use crate::study::store::RunFolder;
use crate::table;
use crate::words::count;

/// Show which runs are done, running, interrupted, diverged or failed.
///
/// Example: backpack-run status mnist_logreg/kfac
///
/// Without TEXT, this counts runs per problem and optimizer and lists those that are running or need attention; with TEXT, it
/// lists every matching run.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Only runs whose folder name contains this text, for example a problem or an optimizer
    #[arg(value_name = "TEXT")]
    filter: Option<String>,
    #[command(flatten)]
    folders: FolderFlags,
    #[command(flatten)]
    output: OutputFlags,
}

/// Prints the runs.
pub(super) fn run(args: StatusArgs) -> Result<()> {
    let named = args.folders.runs();
    // An archive's runs are looked at in a folder that is gone afterwards.
    let unpacked = if named.is_file() { Some(packing::look_into(&named)?) } else { None };
    let runs = unpacked.as_ref().map_or(named.as_path(), |folder| folder.path());
    let mut found = Vec::new();
    for folder in RunFolder::find_all(runs)? {
        let name = folder.path().strip_prefix(runs).unwrap_or(folder.path()).display().to_string();
        if args.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())) {
            // What is wrong with one folder hides none of the others.
            found.push((name, survey(&folder).unwrap_or_else(|error| Survey::unreadable(&error))));
        }
    }
    print(&match args.output.format {
        Format::Table => text(&named.display().to_string(), args.filter.as_deref(), &found),
        Format::Csv => csv(&found)?,
        Format::Json => json(&found)?,
    })
}

fn text(runs: &str, filter: Option<&str>, found: &[(String, Survey)]) -> String {
    match filter {
        Some(filter) if found.is_empty() => format!("no run in {runs} has `{filter}` in its folder name\n"),
        None if found.is_empty() => format!("no runs in {runs}\n"),
        Some(_) => format!("{}{}{}", single(found), notes(found), totals(found)),
        None => format!("{}{}{}", groups(found), under_way(found), totals(found)),
    }
}

/// A row for each run.
fn single(found: &[(String, Survey)]) -> String {
    let names = ["run", "state", "epoch", "valid accuracy", "test accuracy"];
    let mut table = Table::new(names).right(2..5).droppable(&["valid accuracy", "test accuracy"]);
    for (name, survey) in found {
        table.row([
            name.clone(),
            survey.word.to_owned(),
            progress(survey),
            number(survey.valid_accuracy.unwrap_or(f64::NAN)),
            number(survey.test_accuracy.unwrap_or(f64::NAN)),
        ]);
    }
    format!("{table}\n")
}

/// Why runs failed, who carries them out, or from where they go on: too long for a column.
fn notes(found: &[(String, Survey)]) -> String {
    let note = |(name, survey): &(String, Survey)| Some(wrapped(&format!("{name}: {}", survey.note.as_ref()?), 2));
    found.iter().filter_map(note).collect()
}

fn progress(survey: &Survey) -> String {
    match survey.epochs {
        None => format!("{}/?", survey.epoch),
        Some(epochs) => format!("{}/{epochs}", survey.epoch),
    }
}

/// The problem and the optimizer of a run's folder.
fn group(name: &str) -> (&str, &str) {
    let mut parts = name.split('/');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// The states that occur, each with its number, in the order in which they first do.
fn counts<'a>(found: impl IntoIterator<Item = &'a (String, Survey)>) -> Vec<(&'static str, usize)> {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for (_, survey) in found {
        match counts.iter_mut().find(|(state, _)| *state == survey.word) {
            Some((_, count)) => *count += 1,
            None => counts.push((survey.word, 1)),
        }
    }
    counts
}

/// A row for each optimizer on each problem, with a column for each state that occurs.
fn groups(found: &[(String, Survey)]) -> String {
    let states = counts(found);
    let mut table =
        Table::new(["problem", "optimizer", "runs"].into_iter().chain(states.iter().map(|(state, _)| *state)))
            .right(2..3 + states.len());
    let mut rest = found;
    while let Some((first, _)) = rest.first() {
        let (own, after) = rest.split_at(rest.iter().take_while(|(name, _)| group(name) == group(first)).count());
        let here = counts(own);
        let number = |state: &str| here.iter().find(|(known, _)| *known == state).map_or(0, |(_, number)| *number);
        let numbers = states.iter().map(|(state, _)| match number(state) {
            0 => String::new(),
            number => number.to_string(),
        });
        let (problem, optimizer) = group(first);
        let head = [problem.to_owned(), optimizer.to_owned(), own.len().to_string()];
        table.row(head.into_iter().chain(numbers));
        rest = after;
    }
    format!("{table}\n")
}

/// What needs somebody or is being carried out now, so many runs at most.
const SHOWN: usize = 12;

fn under_way(found: &[(String, Survey)]) -> String {
    let open: Vec<&(String, Survey)> = found.iter().filter(|(_, survey)| survey.is_open()).collect();
    let line = |(name, survey): &&(String, Survey)| {
        let note = survey.note.as_ref().map_or_else(String::new, |note| format!(", {note}"));
        wrapped(&format!("{}: {name}, epoch {}{note}", survey.word, progress(survey)), 2)
    };
    let mut text: String = open.iter().take(SHOWN).map(line).collect();
    if open.len() > SHOWN {
        text += &wrapped(&format!("and {} more; `status TEXT` lists single runs", open.len() - SHOWN), 2);
    }
    text
}

fn totals(found: &[(String, Survey)]) -> String {
    let counts: Vec<String> = counts(found).iter().map(|(state, count)| format!("{count} {state}")).collect();
    format!("{}: {}\n", count(found.len(), "run"), counts.join(", "))
}

fn csv(found: &[(String, Survey)]) -> Result<String> {
    let header = ["run", "state", "epoch", "epochs", "valid_accuracy", "test_accuracy", "note"];
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let record = |(name, survey): &(String, Survey)| {
        vec![
            name.clone(),
            survey.word.to_owned(),
            survey.epoch.to_string(),
            survey.epochs.unwrap_or(0).to_string(),
            number(survey.valid_accuracy),
            number(survey.test_accuracy),
            survey.note.clone().unwrap_or_default(),
        ]
    };
    table::csv(&header, found.iter().map(record))
}

fn json(found: &[(String, Survey)]) -> Result<String> {
    let runs: Vec<_> = found
        .iter()
        .map(|(name, survey)| {
            json!({
                "run": name,
                "state": survey.word,
                "epoch": survey.epoch,
                "epochs": survey.epochs,
                "valid_accuracy": survey.valid_accuracy,
                "test_accuracy": survey.test_accuracy,
                "note": survey.note,
            })
        })
        .collect();
    let text = serde_json::to_string_pretty(&json!({ "schema_version": 1, "runs": runs }));
    Ok(text.map_err(|error| Error::Environment(format!("writing JSON: {error}")))? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::widths::snapshot;
    use crate::study::state::RunState;

    fn run(name: &str, state: RunState, epoch: usize) -> (String, Survey) {
        let survey = Survey {
            state,
            word: state.as_str(),
            epoch,
            epochs: Some(100),
            valid_accuracy: Some(0.91234),
            test_accuracy: (epoch > 50).then_some(0.9),
            note: None,
        };
        (name.to_owned(), survey)
    }

    #[test]
    fn thousands_of_runs_are_counted_and_those_under_way_named() {
        let setting = |optimizer: &str, n: usize| format!("cifar10_3c3d/{optimizer}/lr-0.{n}__0123abcd/seed-42");
        let mut found: Vec<_> = (0..1000).map(|n| run(&setting("adam", n), RunState::Done, 100)).collect();
        found.extend((0..1000).map(|n| run(&setting("momentum", n), RunState::Done, 100)));
        for (epoch, found) in found.iter_mut().enumerate().take(18).skip(3) {
            *found = run(&setting("adam", epoch), RunState::Running, epoch);
        }
        found[1500] = run(&setting("momentum", 500), RunState::Failed, 7);
        found[1500].1.note = Some("no space left on the disk after 7 of 100 epochs".to_owned());
        let all = || text("runs", None, &found);
        assert!(all().lines().count() < 25, "{}", all());
        insta::assert_snapshot!("status", snapshot(&all));
        let few: Vec<_> = [found[2].clone(), found[3].clone(), found[1500].clone()].into();
        insta::assert_snapshot!(snapshot(&|| text("runs", Some("cifar10"), &few)), @"
        80 columns
        ┌──────────────────────────────────────────────────┬─────────┬─────────┐
        │ run                                              ┆ state   ┆   epoch │
        ╞══════════════════════════════════════════════════╪═════════╪═════════╡
        │ cifar10_3c3d/adam/lr-0.2__0123abcd/seed-42       ┆ done    ┆ 100/100 │
        │ cifar10_3c3d/adam/lr-0.3__0123abcd/seed-42       ┆ running ┆   3/100 │
        │ cifar10_3c3d/momentum/lr-0.500__0123abcd/seed-42 ┆ failed  ┆   7/100 │
        └──────────────────────────────────────────────────┴─────────┴─────────┘
        no room here for: valid accuracy, test accuracy (--format csv has them)
          cifar10_3c3d/momentum/lr-0.500__0123abcd/seed-42: no space left on the disk
            after 7 of 100 epochs
        3 runs: 1 done, 1 running, 1 failed

        100 columns
        ┌──────────────────────────────────────────────────┬─────────┬─────────┬─────────────┬─────────────┐
        │ run                                              ┆ state   ┆   epoch ┆       valid ┆        test │
        │                                                  ┆         ┆         ┆    accuracy ┆    accuracy │
        ╞══════════════════════════════════════════════════╪═════════╪═════════╪═════════════╪═════════════╡
        │ cifar10_3c3d/adam/lr-0.2__0123abcd/seed-42       ┆ done    ┆ 100/100 ┆      0.9123 ┆      0.9000 │
        │ cifar10_3c3d/adam/lr-0.3__0123abcd/seed-42       ┆ running ┆   3/100 ┆      0.9123 ┆           - │
        │ cifar10_3c3d/momentum/lr-0.500__0123abcd/seed-42 ┆ failed  ┆   7/100 ┆      0.9123 ┆           - │
        └──────────────────────────────────────────────────┴─────────┴─────────┴─────────────┴─────────────┘
          cifar10_3c3d/momentum/lr-0.500__0123abcd/seed-42: no space left on the disk after 7 of 100 epochs
        3 runs: 1 done, 1 running, 1 failed

        150 columns
        ┌──────────────────────────────────────────────────┬─────────┬─────────┬────────────────┬───────────────┐
        │ run                                              ┆ state   ┆   epoch ┆ valid accuracy ┆ test accuracy │
        ╞══════════════════════════════════════════════════╪═════════╪═════════╪════════════════╪═══════════════╡
        │ cifar10_3c3d/adam/lr-0.2__0123abcd/seed-42       ┆ done    ┆ 100/100 ┆         0.9123 ┆        0.9000 │
        │ cifar10_3c3d/adam/lr-0.3__0123abcd/seed-42       ┆ running ┆   3/100 ┆         0.9123 ┆             - │
        │ cifar10_3c3d/momentum/lr-0.500__0123abcd/seed-42 ┆ failed  ┆   7/100 ┆         0.9123 ┆             - │
        └──────────────────────────────────────────────────┴─────────┴─────────┴────────────────┴───────────────┘
          cifar10_3c3d/momentum/lr-0.500__0123abcd/seed-42: no space left on the disk after 7 of 100 epochs
        3 runs: 1 done, 1 running, 1 failed
        ");
    }
}
