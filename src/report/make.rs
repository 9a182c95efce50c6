//! Makes the report of one study or of several: reads their results, and writes what the page and the files show.

use std::path::{Path, PathBuf};

use super::agreement::{self, Reference};
use super::profile::{self, Cost};
use super::results::{self, CurveRow, Results};
use super::{
    Options, Report, absent, bench, commands, deepobs, evidence, figures, json, page, render, summary, tables, verdict,
};
use crate::atomic::{self, Durability};
use crate::error::{Error, IoContext, Result};

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
    results.notes.extend(absent::notes(&results));
    let reference = options.reference.as_ref();
    let evidence = evidence::evidence(&results);
    let leaders = evidence::leaders(&results, &evidence);
    results.notes.extend(evidence::spoiled(&results));
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
    put(folder.join("captions.md"), &figures::captions(&report.figures))?;
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

/// Removes the agreement that an earlier report with a reference left: it may be that of other curves.
fn remove_agreement(folder: &Path) -> Result<()> {
    let tables = ["tables/agreement.md", "tables/agreement.tex", "tables/agreement.csv"];
    for name in ["agreement.csv", "agreement_epochs.csv"].into_iter().chain(tables) {
        atomic::remove(&folder.join(name))?;
    }
    Ok(())
}
