//! Reads one layer of a problem file: its type from the registry, its options checked for type and range.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::LayerDefinition;
use super::layer::{SIZED, VOCABULARY};
use crate::backpack::init::Init;
use crate::backpack::layers::{layer_type, layer_types};
use crate::config::{Item, Table};
use crate::error::Result;

/// What arrives at the network, or in a block at the block.
pub const INPUT: &str = "input";
/// The layer before.
pub(super) const PREVIOUS: &str = "previous";

/// The keys that every layer has beside its options.
const COMMON: [&str; 4] = ["type", "name", "names", "inputs"];

/// What a layer says of its place in the network.
#[derive(Deserialize)]
pub(super) struct Node {
    pub name: Option<Spanned<NodeName>>,
    #[serde(default)]
    pub names: BTreeMap<String, NodeName>,
    pub inputs: Option<Spanned<Vec<Spanned<String>>>>,
    pub tied: Option<Spanned<String>>,
}

/// A name of a layer or block: letters, digits, _ and dots.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct NodeName(pub String);

impl TryFrom<String> for NodeName {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Self, String> {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        if !plain || name.split('.').any(str::is_empty) {
            return Err("expected a name of letters, digits, _ and dots between them".to_owned());
        }
        if [INPUT, PREVIOUS].contains(&name.as_str()) {
            return Err(format!("\"{INPUT}\" and \"{PREVIOUS}\" have meanings of their own in `inputs`"));
        }
        Ok(NodeName(name))
    }
}

/// The item of a layer's `type` key. What the other keys may be depends on it.
pub(super) fn kind<'a>(item: &Item<'a>, title: &str) -> Result<Item<'a>> {
    item.table("a layer's type and options")?.get("type").ok_or_else(|| {
        let title = format!("{title} lacks `type`");
        item.place().error(title, "every layer has a type, such as type = \"relu\"").into()
    })
}

/// The layer that an entry of a list of layers describes, called `title` in errors, without its name and inputs; and the
/// table itself, for these.
pub(super) fn layer<'a>(item: &Item<'a>, title: &str) -> Result<(LayerDefinition, Table<'a>)> {
    let kind = kind(item, title)?;
    let name: String = kind.read()?;
    let Some(entry) = layer_type(&name) else {
        let known: Vec<&str> = layer_types().into_iter().map(|entry| entry.name).chain(["block"]).collect();
        return Err(kind.unknown("layer type", &name, known));
    };
    let options = entry.options().iter().map(|option| option.name.as_str());
    let keys: Vec<&str> = ["type"].into_iter().chain(options).chain(["name", "names", "inputs"]).collect();
    let table = item.table(format!("{title}, {name}"))?.only(&keys)?;
    let init_keys: Vec<String> = entry.inits.iter().map(|(parameter, _)| format!("{parameter}_init")).collect();
    let is_vocabulary = |key: &&'static str| table.get(key).is_some_and(|item| item.text() == Some(VOCABULARY));
    let vocabulary = SIZED.into_iter().find(is_vocabulary);
    let sized = vocabulary.map_or_else(|| table.clone(), |key| table.clone().with_one(key));
    let is_option = |key: &str| !COMMON.contains(&key) && key != "tied" && init_keys.iter().all(|init| init != key);
    let options = sized.read_where(is_option, |options| options.read_with(|values| entry.read(values)))?;
    let mut inits = BTreeMap::new();
    for ((parameter, default), key) in entry.inits.iter().zip(&init_keys) {
        let init = table.get(key).map_or(Ok(Init::Default), |item| item.read())?;
        inits.insert(*parameter, if init == Init::Default { *default } else { init });
    }
    let without_bias = options.values().get("bias") == Some(&Value::Bool(false));
    if let (true, Some(item), Some(init)) = (without_bias, table.get("bias_init"), inits.get("bias"))
        && *init != Init::Default
    {
        return Err(item.key_place().error("`bias_init` without a bias", "leave it out, or set bias = true").into());
    }
    let (name, names, inputs, place) = (None, BTreeMap::new(), Vec::new(), kind.place());
    Ok((LayerDefinition { entry, options, vocabulary, inits, name, names, inputs, tied: None, place }, table))
}
