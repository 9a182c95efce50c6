//! `list quantities`: what the extended backward pass extracts.

use super::render::{Rows, document};
use crate::backpack::quantities;
use crate::cli::flags::Format;
use crate::error::Result;

/// The text for all quantities.
pub(super) fn list(format: Format) -> Result<String> {
    let rows = quantities::all();
    let rows = rows.iter().map(|quantity| [quantity.name(), quantity.shape(), quantity.about()].map(str::to_owned));
    let rows = Rows { header: ["quantity", "shape", "about"], rows: rows.collect() };
    match format {
        Format::Table => Ok(rows.table()),
        Format::Csv => rows.csv(),
        Format::Json => Ok(document("quantities", rows.objects())),
    }
}
