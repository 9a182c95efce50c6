//! Reports of studies: figures, one HTML page, evidence, tables, agreement with published curves, and DeepOBS's files.
//!
//! [`report`] reads a study's results folder, also of one that is still at it, and writes beside its files.

pub mod agreement;
mod axis;
pub mod bench;
pub mod commands;
pub mod deepobs;
pub(crate) mod escape;
pub mod evidence;
pub mod figures;
mod font;
mod grid;
pub(crate) mod json;
mod page;
mod problem;
pub mod profile;
mod read;
mod render;
pub mod results;
mod side_by_side;
mod spectrum;
mod statistics;
mod style;
pub mod summary;
mod svg;
mod tables;
mod text;
pub mod verdict;

use std::path::{Path, PathBuf};

use agreement::{Agreement, Reference};
use commands::Command;
use evidence::Comparison;
use figures::Figure;
use profile::{Cost, Profile, Ranks};
use results::{CurveRow, Results};
use summary::SummaryRow;

use crate::atomic::{self, Durability};
use crate::bench::Row;
use crate::error::{Error, IoContext, Result};

pub use bench::{BenchFiles, write_bench_files};
pub use spectrum::write_spectrum;

/// What a report may have beside a study's own files.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Curves to overlay and compare with.
    pub reference: Option<Reference>,
    /// Folders of DeepOBS's runs, taken in as further optimizers.
    pub deepobs: Vec<PathBuf>,
    /// Rows of a benchmark, of which the page and the tables get one more table.
    pub bench: Vec<Row>,
    /// Whether the study's runs are also written in DeepOBS's form.
    pub export_deepobs: bool,
}

/// What a report says and where it is.
#[derive(Clone, Debug)]
pub struct Report {
    /// The study's name.
    pub name: String,
    /// The page.
    pub page: PathBuf,
    /// The figures, each written in three forms.
    pub figures: Vec<Figure>,
    /// A row for each optimizer on each problem, the best first.
    pub summary: Vec<SummaryRow>,
    /// What is said of each problem's leader, in sentences.
    pub verdicts: Vec<Vec<String>>,
    /// The pairs of optimizers.
    pub evidence: Vec<Comparison>,
    /// Over several problems with a target: the profiles of steps and of seconds.
    pub profiles: [Vec<Profile>; 2],
    /// Over several problems.
    pub ranks: Vec<Ranks>,
    /// The agreement with the reference.
    pub agreements: Vec<Agreement>,
    /// The commands that make the numbers.
    pub commands: Vec<Command>,
    /// What a reader should know before anything else: baselines at an edge of their grids.
    pub warnings: Vec<String>,
    /// What was missing or incomplete.
    pub notes: Vec<String>,
    /// Runs written in DeepOBS's form.
    pub exported: usize,
}

/// Writes the report of the study whose results lie in `folder`.
///
/// # Errors
/// When there is no such folder or nothing in it to report, a file in it is malformed, or it cannot be written to.
pub fn report(folder: &Path, options: &Options) -> Result<Report> {
    let mut results = read_study(folder)?;
    let exported = if options.export_deepobs { deepobs::export(&results)? } else { 0 };
    for place in &options.deepobs {
        let seeds = deepobs::import(place)?;
        let curves: Vec<CurveRow> = results::curves_of(&seeds);
        results.seeds.extend(seeds);
        results.curves.extend(curves);
    }
    write(folder, results, options, exported)
}

/// Writes one report, of many studies side by side, into `folder`: each optimizer bears its study's name. What they are
/// called is `name`.
///
/// # Errors
/// As [`report`].
pub fn side_by_side(studies: &[PathBuf], name: &str, folder: &Path, options: &Options) -> Result<Report> {
    let studies = studies.iter().map(|study| read_study(study)).collect::<Result<Vec<_>>>()?;
    std::fs::create_dir_all(folder).at("creating the folder", folder)?;
    write(folder, Results::side_by_side(studies, name, folder), options, 0)
}

fn read_study(folder: &Path) -> Result<Results> {
    if !folder.is_dir() {
        return Err(Error::Usage(format!(
            "{}: no such folder; expected the results of a study (`backpack-run study FILE` makes them)",
            folder.display()
        )));
    }
    Results::read(folder)
}

fn write(folder: &Path, mut results: Results, options: &Options, exported: usize) -> Result<Report> {
    if results.curves.is_empty() && results.grid.is_empty() && results.finals.is_empty() {
        return Err(Error::Usage(format!(
            "{}: nothing to report yet; expected one or more of curves.csv, seeds.csv, grid.csv and final.csv",
            folder.display()
        )));
    }
    let reference = options.reference.as_ref();
    let evidence = evidence::evidence(&results);
    let leaders = evidence::leaders(&evidence);
    let summary = summary::summary(&results, &leaders, &options.bench);
    let agreements = reference.map(|reference| agreement::agreement(&results, reference)).unwrap_or_default();
    if let Some(Reference { title, .. }) = reference.filter(|_| agreements.is_empty()) {
        let note = format!("The reference {title} has no curve for any problem and optimizer of this study.");
        results.notes.push(note);
    }
    let mut tables = tables::tables(&results, &agreements);
    if !options.bench.is_empty() {
        tables.push(bench::table(&options.bench));
    }
    let report = Report {
        name: results.name.clone(),
        page: folder.join("index.html"),
        figures: figures::figures(&results, reference),
        warnings: summary::warnings(&summary),
        verdicts: leaders.iter().map(verdict::sentences).collect(),
        profiles: [Cost::Steps, Cost::Seconds].map(|cost| profile::profiles(&results, cost)),
        ranks: profile::ranks(&results),
        commands: commands::commands(&results, summary.iter().any(|row| row.step_cost.is_some())),
        notes: results.notes.clone(),
        summary,
        evidence,
        agreements,
        exported,
    };
    let folders = (folder.join("figures"), folder.join("tables"));
    for own in [&folders.0, &folders.1] {
        std::fs::create_dir_all(own).at("creating the folder", own)?;
    }
    let put = |path: PathBuf, text: &str| atomic::write(&path, text.as_bytes(), Durability::Process);
    let renderer = render::Renderer::new();
    for figure in &report.figures {
        renderer.write(&folders.0, &figure.stem, &figure.svg, &figure.title)?;
    }
    if !report.summary.is_empty() {
        summary::table(&report.summary).write(&folders.1)?;
    }
    for table in &tables {
        table.write(&folders.1)?;
    }
    put(folder.join("captions.md"), &captions(&report.figures))?;
    put(folder.join("figures.csv"), &figures::to_csv(&report.figures)?)?;
    put(folder.join("evidence.csv"), &evidence::to_csv(&report.evidence)?)?;
    put(folder.join("report.json"), &format!("{}\n", json::file(&report)))?;
    if reference.is_some() {
        put(folder.join("agreement.csv"), &agreement::to_csv(&report.agreements)?)?;
        put(folder.join("agreement_epochs.csv"), &agreement::epochs_to_csv(&report.agreements)?)?;
    } else {
        remove_agreement(folder)?;
    }
    let content = page::Content { results: &results, report: &report, leaders: &leaders, reference, tables: &tables };
    put(report.page.clone(), &page::page(&content))?;
    Ok(report)
}

/// What stands below the figures in a paper.
fn captions(figures: &[Figure]) -> String {
    let one = |figure: &Figure| {
        let [title, caption] = [&figure.title, &figure.caption].map(|text| escape::markdown(text));
        format!("## {}\n\n{title}. {caption}\n\n", figure.stem)
    };
    figures.iter().map(one).collect()
}

/// Removes the agreement that an earlier report with a reference left: it may be that of other curves.
fn remove_agreement(folder: &Path) -> Result<()> {
    let tables = ["tables/agreement.md", "tables/agreement.tex", "tables/agreement.csv"];
    for name in ["agreement.csv", "agreement_epochs.csv"].into_iter().chain(tables) {
        atomic::remove(&folder.join(name))?;
    }
    Ok(())
}
