//! Writes a converted network: a problem file, and the tensors under the names that it has for them.

use std::collections::HashSet;

use toml::{Table, Value as Toml};

use super::convert::Converted;
use super::network::{Feed, Layer};
use crate::config::write::to_text;

/// What a problem file says beside its layers.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The problem's name.
    pub name: String,
    /// The data set, as TOML; without it the file says what its input is.
    pub dataset: Option<Toml>,
    /// The loss.
    pub loss: Option<String>,
    /// The weights that it starts from, as the file names them.
    pub weights: Option<String>,
}

/// The places of the layers that the output depends on, in order.
pub fn live(converted: &Converted) -> Vec<usize> {
    let layers = &converted.network.layers;
    let mut needed = HashSet::from([converted.output]);
    for (place, layer) in layers.iter().enumerate().rev() {
        if needed.contains(&Feed::Layer(place)) {
            needed.extend(&layer.inputs);
            needed.extend(layer.tied.map(Feed::Layer));
        }
    }
    (0..layers.len()).filter(|&place| needed.contains(&Feed::Layer(place))).collect()
}

/// The text of the problem file.
pub fn problem(head: &Head, converted: &Converted, comment: &str) -> String {
    let mut table = Table::new();
    table.insert("name".into(), head.name.as_str().into());
    match &head.dataset {
        Some(dataset) => {
            table.insert("dataset".into(), dataset.clone());
        }
        None => {
            let mut input = Table::new();
            input.insert("shape".into(), converted.input_shape.clone().into());
            if let Some(integers) = converted.integers {
                input.insert("integers".into(), integers.into());
            }
            table.insert("input".into(), input.into());
        }
    }
    for (key, value) in [("loss", &head.loss), ("weights", &head.weights)] {
        if let Some(value) = value {
            table.insert(key.into(), value.as_str().into());
        }
    }
    let layers = &converted.network.layers;
    let live = live(converted);
    let list: Vec<Toml> =
        live.iter().enumerate().map(|(index, &place)| layer(layers, &live, index, place).into()).collect();
    table.insert("layers".into(), list.into());
    let comment: String = comment.lines().map(|line| format!("# {line}\n")).collect();
    format!("{comment}{}", to_text(&table))
}

/// The table of a layer.
fn layer(layers: &[Layer], live: &[usize], index: usize, place: usize) -> Table {
    let layer = &layers[place];
    let mut table = Table::new();
    if layer.name != index.to_string() {
        table.insert("name".into(), layer.name.as_str().into());
    }
    table.insert("type".into(), layer.kind.into());
    let before = index.checked_sub(1).map_or(Feed::Input, |before| Feed::Layer(live[before]));
    if layer.inputs != [before] {
        let name = |feed: &Feed| match feed {
            Feed::Input => "input",
            feed if *feed == before => "previous",
            Feed::Layer(place) => layers[*place].name.as_str(),
        };
        let inputs: Vec<Toml> = layer.inputs.iter().map(|feed| name(feed).into()).collect();
        table.insert("inputs".into(), inputs.into());
    }
    for (key, value) in &layer.options {
        table.insert((*key).into(), value.clone());
    }
    if let Some(tied) = layer.tied {
        table.insert("tied".into(), layers[tied].name.as_str().into());
    }
    let mut names = Table::new();
    for holding in layer.holdings.iter().filter(|holding| holding.parameter) {
        if holding.source != format!("{}.{}", layer.name, holding.local) {
            names.insert(holding.local.clone(), holding.source.as_str().into());
        }
    }
    if !names.is_empty() {
        table.insert("names".into(), names.into());
    }
    table
}

/// The tensors of the weights file: the name there, and the name in the archive.
pub fn tensors(converted: &Converted) -> Vec<(String, String)> {
    let layers = &converted.network.layers;
    let held = live(converted).into_iter().flat_map(|place| {
        let layer = &layers[place];
        layer.holdings.iter().map(|holding| match holding.parameter {
            true => (holding.source.clone(), holding.source.clone()),
            false => (format!("{}.{}", layer.name, holding.local), holding.source.clone()),
        })
    });
    held.collect()
}
