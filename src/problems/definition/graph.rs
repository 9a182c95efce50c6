//! Reads the layers of a problem file as a graph: names, inputs, and blocks, which are written out.
//!
//! Inside a block names are local, and "input" is what arrives at each repetition of it. Written out, a layer of a block
//! is called BLOCK.REPETITION.INNER where the block has a name, else by its place in the whole list.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::LayerDefinition;
use super::layer::{INPUT, Node, NodeName, PREVIOUS, read_kind, read_layer};
use crate::backpack::layers::layer_types;
use crate::config::{Item, Table};
use crate::error::Result;
use crate::numbers::read;
use crate::suggest;

/// The type that stands for a block's layers.
const BLOCK: &str = "block";

/// An entry of the list of layers that stands for a block's layers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    block: Spanned<String>,
    #[serde(default, deserialize_with = "read::size")]
    repeat: Option<usize>,
    name: Option<NodeName>,
    inputs: Option<Spanned<Vec<Spanned<String>>>>,
}

/// More layers than any network has.
const MAX_LAYERS: usize = 100_000;

/// The layers of a problem, blocks written out, with the names of what each takes where that is not the layer before.
pub(super) fn read(layers: &Item, blocks: Option<&Item>) -> Result<Vec<LayerDefinition>> {
    let mut graph = Graph { layers: Vec::new(), names: Vec::new(), used: BTreeMap::new() };
    let blocks = blocks.map_or(Ok(Vec::new()), read_blocks)?;
    let items = layers.items()?;
    if items.is_empty() {
        return Err(layers.expected("at least one layer"));
    }
    for (index, item) in items.iter().enumerate() {
        let title = format!("layer {index}");
        if read_kind(item, &title)?.text() == Some(BLOCK) {
            graph.block(&item.table(title)?, &blocks)?;
        } else {
            graph.layer(item, &title, &Scope::whole())?;
        }
    }
    graph.finish(layers)
}

/// The layers of each block, by the block's name.
fn read_blocks<'a>(item: &Item<'a>) -> Result<Vec<(String, Vec<Item<'a>>)>> {
    let mut blocks = Vec::new();
    for entry in item.table("of blocks, each a list of layers: [[blocks.NAME]]")?.items() {
        let layers = entry.items()?;
        if layers.is_empty() {
            return Err(entry.expected("at least one layer"));
        }
        for (place, layer) in layers.iter().enumerate() {
            let kind = read_kind(layer, &format!("layer {place} of block {}", entry.key()))?;
            if kind.text() == Some(BLOCK) {
                return Err(kind.error("blocks do not hold blocks; write its layers out here").into());
            }
        }
        blocks.push((entry.key().to_owned(), layers));
    }
    Ok(blocks)
}

/// Where a layer stands: in the whole list, or in a repetition of a block.
struct Scope {
    /// What names of the block's layers begin with; None where they are called by their place.
    prefix: Option<String>,
    /// The place in the block; None outside of one.
    place: Option<usize>,
    /// In a block, what its own names and "input" stand for.
    local: BTreeMap<String, String>,
}

impl Scope {
    fn whole() -> Self {
        Scope { prefix: None, place: None, local: BTreeMap::new() }
    }
}

/// The layers so far.
struct Graph {
    layers: Vec<LayerDefinition>,
    /// What each is called.
    names: Vec<String>,
    /// How many layers take each one's output.
    used: BTreeMap<String, usize>,
}

impl Graph {
    /// What "previous" stands for.
    fn before(&self) -> String {
        self.names.last().map_or_else(|| INPUT.to_owned(), String::clone)
    }

    /// A layer; gives what it is called here (in a block, locally) and in the whole network.
    fn layer(&mut self, item: &Item, title: &str, scope: &Scope) -> Result<(String, String)> {
        let (mut definition, table) = read_layer(item, title)?;
        let index = self.layers.len();
        if index >= MAX_LAYERS {
            return Err(item.place().error("the network is too large", format!("at most {MAX_LAYERS} layers")).into());
        }
        let node: Node = table.part()?;
        let here = match (&node.name, scope.place) {
            (Some(name), _) => name.get_ref().0.clone(),
            (None, Some(place)) => place.to_string(),
            (None, None) => index.to_string(),
        };
        let full = match (&scope.prefix, scope.place) {
            (Some(prefix), _) => format!("{prefix}.{here}"),
            (None, Some(_)) => index.to_string(),
            (None, None) => here.clone(),
        };
        let taken = self.names.contains(&full) || (scope.place.is_some() && scope.local.contains_key(&here));
        if taken {
            let place = node.name.as_ref().map_or_else(|| item.place(), |name| table.place_of(name));
            let label = format!("an earlier layer is called {full}");
            return Err(place.error(format!("the name `{full}` is taken"), label).into());
        }
        let inputs = self.inputs(&table, node.inputs, scope)?;
        let merge = definition.entry.is_merge;
        if merge && inputs.len() < 2 {
            let label = format!("{} takes two or more inputs", definition.kind());
            let title = format!("{title} has one input");
            return Err(definition
                .place
                .error(title, label)
                .help("give them: inputs = [\"previous\", \"NAME\"]")
                .into());
        }
        if !merge && inputs.len() != 1 {
            let name = definition.kind();
            let merges: Vec<&str> =
                layer_types().into_iter().filter(|entry| entry.is_merge).map(|entry| entry.name).collect();
            let label = format!("{name} takes one input; {} take several", merges.join(", "));
            return Err(table.require("inputs")?.error(label).into());
        }
        let before = self.before();
        for input in &inputs {
            *self.used.entry(input.clone()).or_default() += 1;
        }
        definition.inputs = if inputs == [before] { Vec::new() } else { inputs };
        definition.name = (full != index.to_string()).then(|| full.clone());
        definition.names = node.names.into_iter().map(|(parameter, name)| (parameter, name.0)).collect();
        definition.tied = node.tied.map(|tied| self.resolve(&table, &tied, scope)).transpose()?;
        self.layers.push(definition);
        self.names.push(full.clone());
        Ok((here, full))
    }

    /// The layers of a block, as often as it says.
    fn block(&mut self, table: &Table, blocks: &[(String, Vec<Item>)]) -> Result<()> {
        let Block { block, repeat, name: own, inputs, .. } = table.read()?;
        let name = block.get_ref();
        let Some((_, layers)) = blocks.iter().find(|(known, _)| known == name) else {
            let known = blocks.iter().map(|(known, _)| known.as_str());
            return Err(table.require("block")?.unknown("block", name, known));
        };
        let inputs = self.inputs(table, inputs, &Scope::whole())?;
        let [entry] = &inputs[..] else {
            return Err(table.require("inputs")?.error("a block takes one input").into());
        };
        let mut entry = entry.clone();
        for repetition in 0..repeat.unwrap_or(1) {
            let mut scope = Scope {
                prefix: own.as_ref().map(|own| format!("{}.{repetition}", own.0)),
                place: None,
                local: BTreeMap::from([(INPUT.to_owned(), entry.clone()), (PREVIOUS.to_owned(), entry.clone())]),
            };
            for (place, item) in layers.iter().enumerate() {
                scope.place = Some(place);
                let (here, full) = self.layer(item, &format!("layer {place} of block {name}"), &scope)?;
                scope.local.insert(PREVIOUS.to_owned(), full.clone());
                scope.local.insert(here, full.clone());
                entry = full;
            }
        }
        Ok(())
    }

    /// What a layer takes, by full names.
    fn inputs(
        &self,
        table: &Table,
        given: Option<Spanned<Vec<Spanned<String>>>>,
        scope: &Scope,
    ) -> Result<Vec<String>> {
        let previous = || scope.local.get(PREVIOUS).cloned().unwrap_or_else(|| self.before());
        let Some(given) = given else { return Ok(vec![previous()]) };
        if given.get_ref().is_empty() {
            return Err(table.require("inputs")?.expected("names of earlier layers, \"previous\" or \"input\""));
        }
        given.get_ref().iter().map(|name| self.resolve(table, name, scope)).collect()
    }

    /// The full name of the earlier layer that a name in `table` stands for here.
    fn resolve(&self, table: &Table, name: &Spanned<String>, scope: &Scope) -> Result<String> {
        let (place, name) = (table.place_of(name), name.get_ref().as_str());
        if name == PREVIOUS {
            return Ok(scope.local.get(PREVIOUS).cloned().unwrap_or_else(|| self.before()));
        }
        let found = match scope.place {
            Some(_) => scope.local.get(name).cloned(),
            None if name == INPUT || self.names.iter().any(|known| known == name) => Some(name.to_owned()),
            None => None,
        };
        found.ok_or_else(|| {
            let local: Vec<&str> = match scope.place {
                Some(_) => scope.local.keys().map(String::as_str).collect(),
                None => self.names.iter().map(String::as_str).chain([INPUT, PREVIOUS]).collect(),
            };
            let within = if scope.place.is_some() { " of this block" } else { "" };
            place
                .error(
                    format!("`{}` is no earlier layer{within}", name.escape_debug()),
                    "a layer takes the outputs of layers before it",
                )
                .help(suggest::help(name, local))
                .into()
        })
    }

    fn finish(self, layers: &Item) -> Result<Vec<LayerDefinition>> {
        let last = self.names.len().saturating_sub(1);
        for (definition, name) in self.layers.iter().zip(&self.names).take(last) {
            if !self.used.contains_key(name) {
                let title = format!("nothing takes the output of layer {name} ({})", definition.kind());
                let label = "name it in the `inputs` of a later layer, or leave it out";
                return Err(definition.place.error(title, label).into());
            }
        }
        if self.layers.is_empty() {
            return Err(layers.expected("at least one layer"));
        }
        Ok(self.layers)
    }
}
