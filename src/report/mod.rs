//! Reports of studies: figures, one HTML page, evidence, tables, agreement with published curves, and DeepOBS's files.
//!
//! [`report`] reads a study's results folder, also of one that is still at it, and writes beside its files.

mod absent;
pub mod agreement;
mod axis;
pub mod bench;
pub mod commands;
pub mod deepobs;
pub(crate) mod escape;
pub mod evidence;
pub mod figures;
mod grid;
pub(crate) mod json;
mod make;
mod page;
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

use std::path::PathBuf;

use agreement::{Agreement, Reference};
use commands::Command;
use evidence::Comparison;
use figures::Figure;
use profile::{Profile, Ranks};
use summary::SummaryRow;

use crate::bench::Row;

pub use bench::{BenchFiles, write_bench_files};
pub use make::{report, side_by_side};
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
