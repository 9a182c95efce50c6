//! A spectrum's folder: its numbers as JSON and CSV, and the figure of its density.

use std::path::Path;

use super::figures;
use super::render::Renderer;
use crate::atomic::{self, Durability};
use crate::error::{IoContext, Result};
use crate::spectrum::Record;
use crate::table;

/// Writes spectrum.json and spectrum.csv, and of a density density.csv and density.svg, .png and .pdf.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_spectrum(folder: &Path, record: &Record) -> Result<()> {
    std::fs::create_dir_all(folder).at("creating the folder", folder)?;
    let put = |name: &str, text: &str| atomic::write(&folder.join(name), text.as_bytes(), Durability::Process);
    put("spectrum.csv", &record.csv()?)?;
    if let Some(density) = &record.density {
        let rows = (0..density.places.len()).map(|at| {
            [&density.places, &density.density, &density.low, &density.high]
                .map(|column| column[at].to_string())
                .to_vec()
        });
        put("density.csv", &table::csv(&["eigenvalue", "density", "low", "high"], rows)?)?;
        let figure = figures::spectrum(record, density);
        Renderer::new().write(folder, &figure.stem, &figure.svg, &figure.title)?;
    }
    // Last, so that where it is everything is.
    put("spectrum.json", &record.json()?)
}
