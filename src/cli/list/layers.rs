//! `list layers`: layer types with their options.

use serde_json::{Value, json};

use super::render::{Rows, document};
use crate::cli::flags::Format;
use crate::error::Result;
use crate::problems::definition::{LAYER_TYPES, LayerType};

/// The text for all layer types.
pub(super) fn list(format: Format) -> Result<String> {
    let options = |layer: &LayerType| {
        let options = layer.options.iter().map(|option| match option.default {
            Some(default) => format!("{} = {default}", option.name),
            None => option.name.to_owned(),
        });
        options.collect::<Vec<_>>().join(", ")
    };
    let row = |layer: &LayerType| [layer.name.to_owned(), options(layer), layer.summary.to_owned()];
    let rows = Rows { header: ["layer", "options", "summary"], rows: LAYER_TYPES.iter().map(row).collect() };
    match format {
        Format::Table => Ok(rows.table()),
        Format::Csv => rows.csv(),
        Format::Json => Ok(document("layers", LAYER_TYPES.iter().map(json_of).collect())),
    }
}

fn json_of(layer: &LayerType) -> Value {
    let option = |option: &crate::problems::definition::LayerOption| {
        json!({
            "name": option.name,
            "required": option.default.is_none(),
            "default": option.default,
            "meaning": option.meaning,
        })
    };
    json!({
        "name": layer.name,
        "summary": layer.summary,
        "options": layer.options.iter().map(option).collect::<Vec<_>>(),
    })
}
