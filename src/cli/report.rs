//! `backpack-run report`: figures, page, evidence and tables of studies.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::flags::{FolderFlags, Format, OutputFlags};
use super::terminal;
use super::terminal::{print, wrapped};
use crate::config::name::{FOLDER_NAME, is_folder_name};
use crate::digits::significant;
use crate::error::{Error, IoContext, Result};
use crate::report::agreement::{Agreement, Reference, Within};
use crate::report::escape::visible;
use crate::report::{
    BenchFiles, Options, Report, evidence, json as report_json, report, side_by_side, write_bench_files,
};
use crate::words::count;

/// Write a page, figures, tables and statistics for studies.
///
/// Example: backpack-run report fig10 --reference published
///
/// Everything goes beside the results, in RESULTS/NAME: index.html, figures/, tables/, evidence.csv and report.json. A study
/// that is still running can be reported too.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// Studies by name or by results folder [default: all in the results folder; none with --bench alone]
    #[arg(value_name = "NAME")]
    studies: Vec<String>,
    /// Curves to overlay and compare with: `published` for the paper's, or a CSV file with the first seven columns of
    /// curves.csv and, where the number of seeds is known, its column `n`
    #[arg(long, value_name = "FILE")]
    reference: Option<String>,
    /// Also write one report of all these studies together to RESULTS/NAME, where each optimizer carries its study's name
    #[arg(long, value_name = "NAME", requires = "studies")]
    side_by_side: Option<String>,
    /// A folder of DeepOBS runs to include as further optimizers; repeatable
    #[arg(long, value_name = "DIR")]
    deepobs: Vec<PathBuf>,
    /// Also write the runs in another program's format
    #[arg(long, value_enum, value_name = "FORM")]
    export: Option<Export>,
    /// A bench.csv written by `bench`: its overhead figures and table go to figures/ and tables/ beside it, and the table also
    /// goes on the pages of the named studies
    #[arg(long, value_name = "FILE")]
    bench: Option<PathBuf>,
    #[command(flatten)]
    folders: FolderFlags,
    #[command(flatten)]
    output: OutputFlags,
}

/// Another program's format.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Export {
    /// DeepOBS's folders and JSON files
    Deepobs,
}

/// What tells a study's folder from others.
const STUDY_FILES: [&str; 4] = ["curves.csv", "seeds.csv", "grid.csv", "final.csv"];

/// Writes the reports and prints what they say.
pub(super) fn run(args: ReportArgs) -> Result<()> {
    let for_studies = args.reference.is_some() || !args.deepobs.is_empty() || args.export.is_some();
    let reference = args.reference.as_deref().map(Reference::open).transpose()?;
    let files = args.bench.as_deref().map(write_bench_files).transpose()?;
    let options = Options {
        reference,
        deepobs: args.deepobs.clone(),
        bench: files.as_ref().map(|files| files.rows.clone()).unwrap_or_default(),
        export_deepobs: args.export.is_some(),
    };
    let folders = match args.studies.is_empty() {
        true if args.bench.is_some() && !for_studies => Vec::new(),
        true => all(&args.folders.results())?,
        false => args.studies.iter().map(|study| place(study, &args.folders.results())).collect(),
    };
    let beside = args.side_by_side.as_deref().map(|name| place_beside(name, &args.folders.results())).transpose()?;
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for folder in &folders {
        match report(folder, &options) {
            Ok(report) => reports.push(report),
            Err(error) => failures.push((folder, error)),
        }
    }
    // Without one of its studies a comparison would not be what was asked for.
    if let Some((name, folder)) = beside.filter(|_| failures.is_empty()) {
        reports.push(side_by_side(&folders, name, &folder, &options)?);
    }
    if failures.is_empty() || !reports.is_empty() || files.is_some() {
        print(&match args.output.format {
            Format::Table => text(&reports, files.as_ref()),
            Format::Csv => evidence::to_csv(&reports.iter().flat_map(|r| r.evidence.clone()).collect::<Vec<_>>())?,
            Format::Json => json(&reports, files.as_ref()),
        })?;
    }
    // The first failure is what the command ends with; the others would not be told otherwise.
    for (folder, error) in failures.iter().skip(1) {
        terminal::log_line(&format!("error: {}: no report of this study: {error}", folder.display()));
    }
    match failures.into_iter().next() {
        Some((folder, error)) => {
            if folders.len() > 1 {
                terminal::log_line(&format!("{}: no report of this study, for the following reason", folder.display()));
            }
            Err(error)
        }
        None => Ok(()),
    }
}

/// Where the report of studies side by side goes, with its name.
fn place_beside<'a>(name: &'a str, results: &Path) -> Result<(&'a str, PathBuf)> {
    if !is_folder_name(name) {
        return Err(Error::Usage(format!("--side-by-side {}: expected {FOLDER_NAME}", visible(name))));
    }
    let folder = results.join(name);
    if STUDY_FILES.iter().any(|file| folder.join(file).exists()) {
        return Err(Error::Usage(format!(
            "--side-by-side {name}: {} holds a study of that name; expected another name",
            folder.display()
        )));
    }
    Ok((name, folder))
}

/// A study's folder: the path itself where there is such a folder, else its name in the results folder.
pub(super) fn place(study: &str, results: &Path) -> PathBuf {
    let named = results.join(study);
    if named.is_dir() || !Path::new(study).is_dir() { named } else { PathBuf::from(study) }
}

/// Every folder in the results folder that holds results of a study.
fn all(results: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if results.is_dir() {
        for entry in std::fs::read_dir(results).at("reading the folder", results)? {
            let path = entry.at("reading the folder", results)?.path();
            if STUDY_FILES.iter().any(|file| path.join(file).is_file()) {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Error::Usage(format!(
            "{}: no results of studies here; `backpack-run study FILE` makes them, and --results-dir names another folder",
            results.display()
        )));
    }
    Ok(found)
}

fn text(reports: &[Report], files: Option<&BenchFiles>) -> String {
    let mut text = String::new();
    for report in reports {
        let figures = count(report.figures.len(), "figure");
        text.push_str(&format!("{}: {} ({figures})\n", visible(&report.name), report.page.display()));
        text.extend(report.notes.iter().map(|note| wrapped(&format!("note: {}", visible(note)), 2)));
        text.extend(report.warnings.iter().map(|warning| wrapped(&format!("warning: {}", visible(warning)), 2)));
        if report.exported > 0 {
            text.push_str(&format!("  {} in DeepOBS's format in deepobs/ beside it\n", count(report.exported, "run")));
        }
        for verdict in &report.verdicts {
            for (place, sentence) in verdict.iter().enumerate() {
                text.push_str(&wrapped(&visible(sentence), if place == 0 { 2 } else { 4 }));
            }
        }
        text.push_str(&agreement_text(&report.agreements));
    }
    if let Some(BenchFiles { figures, table, .. }) = files {
        text.extend(figures.iter().map(|figure| format!("{}.svg, .png, .pdf\n", figure.display())));
        text.push_str(&format!("{}.md, .tex, .csv\n", table.display()));
    }
    text
}

/// One line an optimizer, with the value of its curves that is farthest outside.
fn agreement_text(agreements: &[Agreement]) -> String {
    let mut text = String::new();
    let mut rest = agreements;
    while let Some(Agreement { problem, optimizer, .. }) = rest.first() {
        let same = |a: &&Agreement| (&a.problem, &a.optimizer) == (problem, optimizer);
        let (own, after) = rest.split_at(rest.iter().take_while(same).count());
        let values: usize = own.iter().map(|a| a.epochs.len()).sum();
        let counts = Within::sum(&own.iter().map(Agreement::counts).collect::<Vec<_>>());
        let mut line = format!(
            "{} {}: of {values} values on {}, {} are between the reference's quartiles, {} between them widened once, {} twice",
            visible(problem),
            visible(optimizer),
            count(own.len(), "curve"),
            counts.inside,
            counts.once,
            counts.twice
        );
        if let Some(expected) = own.iter().map(|a| a.expected).collect::<Option<Vec<_>>>() {
            let Within { inside, once, twice } = Within::sum(&expected);
            line += &format!(" (to be expected of so many seeds: {inside:.0}, {once:.0}, {twice:.0})");
        }
        let farthest = own.iter().filter_map(|a| Some((a.metric, a.farthest()?)));
        let farthest = farthest.reduce(|far, next| if next.1.distance() > far.1.distance() { next } else { far });
        if let Some((metric, far)) = farthest {
            let distance = significant(far.distance(), 2);
            line +=
                &format!("; farthest: {metric} at epoch {}, by {distance} times the distance between them", far.epoch);
        }
        text.push_str(&wrapped(&line, 2));
        rest = after;
    }
    text
}

fn json(reports: &[Report], files: Option<&BenchFiles>) -> String {
    let studies: Vec<_> = reports.iter().map(report_json::report).collect();
    let figures = files.map_or(&[][..], |files| &files.figures);
    format!("{:#}\n", json!({ "schema_version": 1, "studies": studies, "bench_figures": figures }))
}
