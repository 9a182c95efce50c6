//! `list quantities`: what the extended backward pass extracts, and for which layer types.

use serde_json::{Value, json};

use super::render::{Rows, document};
use crate::backpack::quantities;
use crate::backpack::support::{Row, Support, table};
use crate::cli::flags::Format;
use crate::cli::tables::Table;
use crate::cli::terminal::wrapped;
use crate::error::Result;

/// The text for all quantities.
pub(super) fn list(format: Format) -> Result<String> {
    let support = table()?;
    let quantities = quantities::all();
    let rows = quantities.iter().map(|one| [one.name(), one.shape(), one.about()].map(str::to_owned)).collect();
    let rows = Rows { header: ["quantity", "shape", "about"], rows };
    match format {
        Format::Table => Ok(rows.table(&["shape"]) + "\n" + &support_table(&support)),
        Format::Csv => {
            let widened = rows.rows.into_iter().enumerate().map(|(number, [quantity, shape, about])| {
                let refused =
                    support.iter().filter(|row| row.cells[number].1.is_refused()).map(|row| row.layer.as_str());
                let refused = refused.collect::<Vec<_>>().join("; ");
                let left_out = support.iter().filter(|row| matches!(row.cells[number].1, Support::LeftOut(_)));
                let left_out = left_out.map(|row| row.layer.as_str()).collect::<Vec<_>>().join("; ");
                [quantity, shape, about, refused, left_out]
            });
            Rows { header: ["quantity", "shape", "about", "not_for", "left_out"], rows: widened.collect() }.csv()
        }
        Format::Json => {
            let mut objects = rows.objects();
            for (number, object) in objects.as_array_mut().into_iter().flatten().enumerate() {
                object["layers"] = support.iter().map(|row| cell(row, number)).collect();
            }
            Ok(document("quantities", objects))
        }
    }
}

fn cell(row: &Row, number: usize) -> Value {
    let support = &row.cells[number].1;
    let left_out = matches!(support, Support::LeftOut(_));
    json!({
        "layer": row.layer,
        "possible": !support.is_refused(),
        "left_out": left_out,
        "reason": support.reason(),
    })
}

/// Layer types against quantities; quantities that are possible for the same layer types share a column.
fn support_table(support: &[Row]) -> String {
    let pattern = |number: usize| support.iter().map(|row| row.cells[number].1.word()).collect::<Vec<_>>();
    let mut columns: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for number in 0..support.first().map_or(0, |row| row.cells.len()) {
        let (pattern, name) = (pattern(number), support[0].cells[number].0.name());
        match columns.iter_mut().find(|(known, _)| *known == pattern) {
            Some((_, names)) => names.push(name),
            None => columns.push((pattern, vec![name])),
        }
    }
    let names = columns.iter().map(|(_, names)| names.join("\n"));
    let mut table = Table::new(std::iter::once("layer".to_owned()).chain(names));
    for (number, row) in support.iter().enumerate() {
        let cells = columns.iter().map(|(pattern, _)| pattern[number]);
        table.row(std::iter::once(row.layer.as_str()).chain(cells));
    }
    format!("{table}\n{}", wrapped("left out: the quantity is there for the parameters of other layers", 0))
}
