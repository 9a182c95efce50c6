//! Reads bench.csv and writes its figures and its table; for `report --bench` and for `bench --out`.

use std::path::{Path, PathBuf};

use super::figures;
use super::read::read_rows;
use super::render::Renderer;
use super::tables::Table;
use super::text::ratio;
use crate::atomic::{self, Durability};
use crate::bench::{Row, baseline};
use crate::error::{Error, IoContext, Result};

/// What was written of a benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchFiles {
    /// What it measured.
    pub rows: Vec<Row>,
    /// The figures' paths without ending.
    pub figures: Vec<PathBuf>,
    /// The table's path without ending.
    pub table: PathBuf,
}

/// The rows of a bench.csv.
///
/// # Errors
/// When it is not there, or is malformed.
pub fn read(csv: &Path) -> Result<Vec<Row>> {
    std::fs::metadata(csv).map_err(|error| Error::unreadable(csv, error))?;
    read_rows(csv, &mut Vec::new())
}

/// Writes the overhead figures of `csv` (as SVG, PNG, PDF) into figures/, their captions into captions.md and its table
/// (Markdown, LaTeX, CSV) into tables/, all beside it.
///
/// # Errors
/// When the file cannot be read, or the folders cannot be written to.
pub fn write_bench_files(csv: &Path) -> Result<BenchFiles> {
    let rows = read(csv)?;
    let [folder, tables] = ["figures", "tables"].map(|name| csv.with_file_name(name));
    for own in [&folder, &tables] {
        std::fs::create_dir_all(own).at("creating the folder", own)?;
    }
    let renderer = Renderer::new();
    let drawn = figures::overhead(&rows);
    for figure in &drawn {
        renderer.write(&folder, &figure.stem, &figure.svg, &figure.title)?;
    }
    let captions = csv.with_file_name("captions.md");
    atomic::write(&captions, super::figures::captions(&drawn).as_bytes(), Durability::Process)?;
    let written = drawn.iter().map(|figure| folder.join(&figure.stem)).collect();
    let table = table(&rows).write(&tables)?;
    Ok(BenchFiles { rows, figures: written, table })
}

/// The rows with the paper's ratios beside ours, where the paper has any of them.
pub fn table(rows: &[Row]) -> Table {
    let known = rows.iter().any(|row| row.published().is_some());
    let record = |row: &Row| {
        let names = [row.problem.clone(), row.figure.clone(), row.quantity.clone()];
        let counts = [row.batch_size, row.threads, row.rounds].map(|count| count.to_string());
        let ratios = [row.ratio, row.ratio_low, row.ratio_high].map(ratio);
        let paper = known.then(|| ratio(row.published().unwrap_or(f64::NAN)));
        names.into_iter().chain(counts).chain(ratios).chain(paper).collect()
    };
    let header = ["problem", "figure", "quantity", "batch size", "threads", "n", "time / gradient", "low", "high"];
    let mut caption =
        "Overhead: time relative to the gradient, the median over n pairs and the ends of its 95 % interval."
            .to_owned();
    if known {
        caption.push_str(&format!(" {}: {}.", baseline::PUBLISHED_TITLE, baseline::PUBLISHED_NOTE));
    }
    let header = header.into_iter().chain(known.then_some(baseline::PUBLISHED_TITLE)).map(str::to_owned).collect();
    Table { stem: "overhead", caption, header, rows: rows.iter().map(record).collect(), first_number: 3 }
}
