//! `backpack-run status`: where the runs stand, from their folders alone.

use clap::Args;
use serde_json::json;

use super::flags::{FolderFlags, Format, OutputFlags};
use super::{print, tables};
use crate::error::{Error, Result};
use crate::study::packing;
use crate::study::store::RunFolder;
use crate::study::survey::{Survey, survey};
use crate::table;
use crate::words::count;

/// Shows the runs and where they stand: running, waiting to be continued, done, diverged, failed.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Only runs whose folder holds this text, for example a problem's or an optimizer's name
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
        Format::Table => table(&named.display().to_string(), args.filter.as_deref(), &found),
        Format::Csv => csv(&found)?,
        Format::Json => json(&found)?,
    })
}

fn table(runs: &str, filter: Option<&str>, found: &[(String, Survey)]) -> String {
    match filter {
        Some(filter) if found.is_empty() => return format!("no run in {runs} has `{filter}` in its folder's name\n"),
        None if found.is_empty() => return format!("no runs in {runs}\n"),
        _ => {}
    }
    let mut table = tables::table();
    table.set_header(["run", "state", "epoch", "valid accuracy", "test accuracy", "note"]);
    for (name, survey) in found {
        table.add_row([
            name.clone(),
            survey.state.to_owned(),
            format!("{}/{}", survey.epoch, survey.epochs),
            tables::number(survey.valid_accuracy.unwrap_or(f64::NAN)),
            tables::number(survey.test_accuracy.unwrap_or(f64::NAN)),
            survey.note.clone().unwrap_or_default(),
        ]);
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for (_, survey) in found {
        match counts.iter_mut().find(|(state, _)| *state == survey.state) {
            Some((_, count)) => *count += 1,
            None => counts.push((survey.state, 1)),
        }
    }
    let counts: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    format!("{table}\n{}: {}\n", count(found.len(), "run"), counts.join(", "))
}

fn csv(found: &[(String, Survey)]) -> Result<String> {
    let header = ["run", "state", "epoch", "epochs", "valid_accuracy", "test_accuracy", "note"];
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let record = |(name, survey): &(String, Survey)| {
        vec![
            name.clone(),
            survey.state.to_owned(),
            survey.epoch.to_string(),
            survey.epochs.to_string(),
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
                "state": survey.state,
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
