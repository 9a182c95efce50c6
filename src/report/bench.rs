//! Reads bench.csv and writes its figures; for `report --bench` and for `bench --out`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::figures;
use super::read::read_rows;
use super::render::Renderer;
use crate::error::{IoContext, Result};

/// One row of bench.csv.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BenchRow {
    /// The paper's figure, or `steps`.
    pub figure: String,
    /// The problem's name.
    pub problem: String,
    /// The quantity's name, or the optimizer's.
    pub quantity: String,
    /// Samples in a batch.
    pub batch_size: usize,
    /// Threads that were used.
    pub threads: usize,
    /// Pairs that were measured.
    pub rounds: usize,
    /// The median of the gradient alone.
    pub gradient_seconds: Option<f64>,
    /// The median with the quantity.
    pub seconds: Option<f64>,
    /// How many times the gradient's.
    pub ratio: Option<f64>,
    /// The lower end of the ratio's spread.
    pub ratio_low: Option<f64>,
    /// The upper end.
    pub ratio_high: Option<f64>,
    /// The peak memory.
    pub peak_bytes: Option<f64>,
}

/// Writes the overhead figures of `csv` (as SVG, PNG, PDF) into `folder` and gives their paths without ending.
///
/// # Errors
/// When the file cannot be read, or the folder cannot be written to.
pub fn write_bench_figures(csv: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::metadata(csv).at("reading", csv)?;
    let rows: Vec<BenchRow> = read_rows(csv, &mut Vec::new())?;
    std::fs::create_dir_all(folder).at("creating the folder", folder)?;
    let renderer = Renderer::new();
    let mut written = Vec::new();
    for figure in figures::overhead(&rows) {
        renderer.write(folder, &figure.stem, &figure.svg, &figure.title)?;
        written.push(folder.join(figure.stem));
    }
    Ok(written)
}
