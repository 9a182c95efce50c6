//! `list layers`: layer types with their options.

use serde_json::{Value, json};

use super::render::{Rows, document};
use crate::backpack::layers::{LayerEntry, LayerOption, layer_types};
use crate::cli::flags::Format;
use crate::error::Result;

/// The text for all layer types.
pub(super) fn list(format: Format) -> Result<String> {
    let options = |layer: &LayerEntry| {
        let options = layer.options().iter().map(|option| match &option.default {
            Some(default) => format!("{} = {default}", option.name),
            None => option.name.clone(),
        });
        options.collect::<Vec<_>>().join(", ")
    };
    let row = |layer: &LayerEntry| [layer.name.to_owned(), options(layer), layer.summary.to_owned()];
    let rows = Rows { header: ["layer", "options", "summary"], rows: layer_types().into_iter().map(row).collect() };
    match format {
        Format::Table => Ok(rows.table(&["options"])),
        Format::Csv => rows.csv(),
        Format::Json => Ok(document("layers", layer_types().into_iter().map(json_of).collect())),
    }
}

fn json_of(layer: &LayerEntry) -> Value {
    let option = |option: &LayerOption| {
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
        "options": layer.options().iter().map(option).collect::<Vec<_>>(),
    })
}
