//! Reports of studies: figures, one HTML page, evidence, tables, agreement with published curves, and DeepOBS's files.
//!
//! [`report`] reads a study's results folder, also of one that is still at it, and writes beside its files.

pub mod agreement;
mod axis;
pub mod bench;
pub mod deepobs;
pub(crate) mod escape;
pub mod evidence;
pub mod figures;
mod grid;
mod page;
mod read;
mod render;
pub mod results;
mod statistics;
mod style;
mod svg;
mod tables;
mod text;

use std::path::{Path, PathBuf};

use agreement::{Agreement, Reference};
use evidence::Comparison;
use results::{CurveRow, Results};

use crate::bench::Row;
use crate::error::{Error, IoContext, Result};
use crate::study::store::atomic::{self, Durability};

pub use bench::{BenchFiles, write_bench_files};
pub(crate) use render::Renderer;

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
    /// How many figures there are, each in three forms.
    pub figures: usize,
    /// The pairs of optimizers.
    pub evidence: Vec<Comparison>,
    /// The agreement with the reference.
    pub agreements: Vec<Agreement>,
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
    if !folder.is_dir() {
        return Err(Error::Usage(format!(
            "{}: no such folder; expected the results of a study (`backpack-run study FILE` makes them)",
            folder.display()
        )));
    }
    let mut results = Results::read(folder)?;
    let exported = if options.export_deepobs { deepobs::export(&results)? } else { 0 };
    for place in &options.deepobs {
        let seeds = deepobs::import(place)?;
        let curves: Vec<CurveRow> = results::curves_of(&seeds);
        results.seeds.extend(seeds);
        results.curves.extend(curves);
    }
    if results.curves.is_empty() && results.grid.is_empty() && results.finals.is_empty() {
        return Err(Error::Usage(format!(
            "{}: nothing to report yet; expected one or more of curves.csv, seeds.csv, grid.csv and final.csv",
            folder.display()
        )));
    }
    let reference = options.reference.as_ref();
    let evidence = evidence::evidence(&results);
    let agreements = reference.map(|reference| agreement::agreement(&results, reference)).unwrap_or_default();
    let mut tables = tables::tables(&results, &agreements);
    if !options.bench.is_empty() {
        tables.push(bench::table(&options.bench));
    }
    let figures = figures::figures(&results, reference);

    let folders = (folder.join("figures"), folder.join("tables"));
    for own in [&folders.0, &folders.1] {
        std::fs::create_dir_all(own).at("creating the folder", own)?;
    }
    let put = |path: PathBuf, text: &str| atomic::write(&path, text.as_bytes(), Durability::Process);
    let renderer = render::Renderer::new();
    for figure in &figures {
        renderer.write(&folders.0, &figure.stem, &figure.svg, &figure.title)?;
    }
    for table in &tables {
        table.write(&folders.1)?;
    }
    put(folder.join("evidence.csv"), &evidence::to_csv(&evidence)?)?;
    if reference.is_some() {
        put(folder.join("agreement.csv"), &agreement::to_csv(&agreements)?)?;
        put(folder.join("agreement_epochs.csv"), &agreement::epochs_to_csv(&agreements)?)?;
    } else {
        remove_agreement(folder)?;
    }
    let content = page::Content { results: &results, evidence: &evidence, reference, tables: &tables };
    let page = folder.join("index.html");
    put(page.clone(), &page::page(&content))?;
    let (name, notes) = (results.name, results.notes);
    Ok(Report { name, page, figures: figures.len(), evidence, agreements, notes, exported })
}

/// Removes the agreement that an earlier report with a reference left: it may be that of other curves.
fn remove_agreement(folder: &Path) -> Result<()> {
    for name in ["agreement.csv", "agreement_epochs.csv", "tables/agreement.md", "tables/agreement.tex"] {
        atomic::remove(&folder.join(name))?;
    }
    Ok(())
}
