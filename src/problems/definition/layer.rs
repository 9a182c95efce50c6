//! A layer of a problem's network: its type and options, what it takes, and how its parameters start.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::{Deserializer, Error as _};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::backpack::init::Init;
use crate::backpack::layers::{AnyOptions, LayerEntry, layer_type};
use crate::config::Place;
use crate::error::{Error, Result};

/// The word for the number of different characters in the problem's text.
pub(super) const VOCABULARY: &str = "vocabulary";
/// The options that it may stand for.
pub(super) const SIZED: [&str; 2] = ["num_embeddings", "out_features"];

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
