//! A layer of a problem's network: its type and options, what it takes, and how its parameters start; and how a problem
//! file's layer is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::{Deserializer, Error as _};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::Spanned;

use crate::backpack::init::Init;
use crate::backpack::layers::{AnyOptions, LayerEntry, layer_type, layer_types};
use crate::config::{Item, Place, Table};
use crate::error::{Error, Result};

/// The word for the number of different characters in the problem's text.
const VOCABULARY: &str = "vocabulary";
/// The options that it may stand for.
const SIZED: [&str; 2] = ["num_embeddings", "out_features"];

/// One layer of a network, what it takes, and where it is written. Blocks are written out.
#[derive(Clone, Debug)]
pub struct LayerDefinition {
    /// Its type.
    pub entry: &'static LayerEntry,
    /// Its options. Inputs' sizes are inferred.
    pub options: Arc<dyn AnyOptions>,
    /// The option that is as large as the vocabulary of the problem's text, where one is; it is 1 among the options.
    pub vocabulary: Option<&'static str>,
    /// How its parameters start, by their names in the layer; of all whose start a problem file can choose.
    pub inits: BTreeMap<&'static str, Init>,
    /// Its name; a layer without one is called by its place in the list.
    pub name: Option<String>,
    /// Full names of parameters that are not called after the layer.
    pub names: BTreeMap<String, String>,
    /// The names of the layers whose outputs it takes, or "input"; none stands for the layer before.
    pub inputs: Vec<String>,
    /// The earlier layer whose weight is its own too.
    pub tied: Option<String>,
    /// The value of its `type` key.
    pub place: Place,
}

/// What stands beside the options.
#[derive(Default, Serialize, Deserialize)]
struct Beside {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    names: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tied: Option<String>,
}

impl LayerDefinition {
    /// The layer type's name.
    pub fn kind(&self) -> &'static str {
        self.entry.name
    }

    /// Its options where the vocabulary has this size.
    ///
    /// # Errors
    /// [`Error::Shape`] where it takes one and there is none.
    pub fn sized(&self, vocabulary: Option<i64>) -> Result<Arc<dyn AnyOptions>> {
        let Some(key) = self.vocabulary else { return Ok(Arc::clone(&self.options)) };
        let size = vocabulary.ok_or_else(|| {
            Error::Shape(format!(
                "{key} = \"{VOCABULARY}\" is the number of a text's characters, and the problem's data are none: write a number, or \
                 dataset = {{ text = \"FILE\", context = 64 }}"
            ))
        })?;
        let mut values = self.options.values();
        values.insert(key.to_owned(), size.into());
        self.entry.restore(values).map_err(|error| Error::Shape(error.to_string()))
    }

    /// Everything that it says, by key.
    pub(super) fn values(&self) -> Map<String, Value> {
        let mut values = Map::from_iter([("type".to_owned(), Value::from(self.kind()))]);
        values.extend(self.options.values());
        values.extend(self.vocabulary.map(|key| (key.to_owned(), Value::from(VOCABULARY))));
        let inits = self.inits.iter().map(|(parameter, init)| (format!("{parameter}_init"), init));
        values.extend(inits.filter_map(|(key, init)| Some((key, serde_json::to_value(init).ok()?))));
        let (name, names, inputs) = (self.name.clone(), self.names.clone(), self.inputs.clone());
        let beside = Beside { name, names, inputs, tied: self.tied.clone() };
        if let Ok(Value::Object(beside)) = serde_json::to_value(beside) {
            values.extend(beside);
        }
        values
    }
}

/// Two layers are equal if they say the same, wherever it was written.
impl PartialEq for LayerDefinition {
    fn eq(&self, other: &Self) -> bool {
        self.values() == other.values()
    }
}

/// One flat table: type, options, initial values, name, names and inputs.
impl Serialize for LayerDefinition {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let values = self.values();
        let mut map = serializer.serialize_map(Some(values.len()))?;
        for (key, value) in &values {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for LayerDefinition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut values = Map::deserialize(deserializer)?;
        let kind = values.remove("type").unwrap_or_default();
        let kind = kind.as_str().ok_or_else(|| D::Error::missing_field("type"))?;
        let entry = layer_type(kind).ok_or_else(|| D::Error::custom(format!("there is no layer type `{kind}`")))?;
        let mut inits = BTreeMap::new();
        for (parameter, default) in entry.inits {
            let init = values.remove(&format!("{parameter}_init")).map(serde_json::from_value).transpose();
            inits.insert(*parameter, init.map_err(D::Error::custom)?.unwrap_or(*default));
        }
        let beside = ["name", "names", "inputs", "tied"];
        let beside: Map<String, Value> = beside.iter().filter_map(|key| values.remove_entry(*key)).collect();
        let Beside { name, names, inputs, tied } =
            serde_json::from_value(Value::Object(beside)).map_err(D::Error::custom)?;
        let vocabulary = SIZED.into_iter().find(|key| values.get(*key).is_some_and(|value| value == VOCABULARY));
        if let Some(key) = vocabulary {
            values.insert(key.to_owned(), 1.into());
        }
        let options = entry.restore(values).map_err(D::Error::custom)?;
        Ok(LayerDefinition { entry, options, vocabulary, inits, name, names, inputs, tied, place: Place::default() })
    }
}

// Reads one layer of a problem file: its type from the registry, its options checked for type and range.

/// What arrives at the network, or in a block at the block.
pub(super) const INPUT: &str = "input";
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
pub(super) fn read_kind<'a>(item: &Item<'a>, title: &str) -> Result<Item<'a>> {
    item.table("a layer's type and options")?.get("type").ok_or_else(|| {
        let title = format!("{title} lacks `type`");
        item.place().error(title, "every layer has a type, such as type = \"relu\"").into()
    })
}

/// The layer that an entry of a list of layers describes, called `title` in errors, without its name and inputs; and the
/// table itself, for these.
pub(super) fn read_layer<'a>(item: &Item<'a>, title: &str) -> Result<(LayerDefinition, Table<'a>)> {
    let kind = read_kind(item, title)?;
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
