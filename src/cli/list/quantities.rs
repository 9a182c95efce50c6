//! `list quantities`: what the extended backward pass extracts, and for which layer types.

use serde_json::{Value, json};

use super::render::{Rows, document};
use crate::backpack::quantities;
use crate::backpack::support::{Row, Support, table};
use crate::cli::flags::Format;
use crate::cli::terminal::wrapped;
use crate::error::Result;

/// The text for all quantities.
pub(super) fn list(format: Format) -> Result<String> {
    let support = table()?;
    let quantities = quantities::all();
    let rows = quantities.iter().map(|one| [one.name(), one.shape(), one.about()].map(str::to_owned)).collect();
    let rows = Rows { header: ["quantity", "shape", "about"], rows };
    match format {
        Format::Table => Ok(rows.table(&["shape"]) + "\n" + &exceptions(&support)),
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

/// The layer types that quantities are not for; quantities with the same exceptions share a line.
fn exceptions(support: &[Row]) -> String {
    let number_of_quantities = support.first().map_or(0, |row| row.cells.len());
    let word = |row: &Row, number: usize| row.cells[number].1.word();
    let everywhere: Vec<usize> =
        (0..number_of_quantities).filter(|number| support.iter().all(|row| word(row, *number) == "yes")).collect();
    let name = |number: &usize| support[0].cells[*number].0.name();
    // Layers beside which nothing else is possible are named once, not with every quantity.
    let is_strict =
        |row: &&Row| (0..number_of_quantities).all(|number| everywhere.contains(&number) || word(row, number) == "no");
    let (strict, others): (Vec<&Row>, Vec<&Row>) = support.iter().partition(is_strict);
    let mut groups: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for number in 0..number_of_quantities {
        let own: Vec<&str> = others.iter().map(|row| word(row, number)).collect();
        match groups.iter_mut().find(|(known, _)| *known == own) {
            Some((_, names)) => names.push(name(&number)),
            None => groups.push((own, vec![name(&number)])),
        }
    }
    let mut text = wrapped("Every quantity goes through every layer type, with these exceptions:", 0);
    if !strict.is_empty() {
        let layers: Vec<&str> = strict.iter().map(|row| row.layer.as_str()).collect();
        let alone: Vec<&str> = everywhere.iter().map(name).collect();
        text += &wrapped(&format!("only {}: networks with {}", alone.join(", "), layers.join(", ")), 2);
    }
    for (own, names) in groups {
        for (answer, what) in [("no", "not for networks with"), ("left out", "not for the parameters of")] {
            let layers =
                others.iter().zip(&own).filter(|(_, cell)| **cell == answer).map(|(row, _)| row.layer.as_str());
            let layers: Vec<&str> = layers.collect();
            if !layers.is_empty() {
                text += &wrapped(&format!("{}: {what} {}", names.join(", "), layers.join(", ")), 2);
            }
        }
    }
    text
}
