//! A layer type: its name, the options that a problem file may give, and how a layer is made of them.
//!
//! Each type is one struct of options, in the type's own file; `registry.rs` lists them. Problem files, `list layers`,
//! the builder and the support table all go by that.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Layer, Merge, Mode, ParameterSource};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The options of a layer type, and with them the type itself.
///
/// The derived `Deserialize` reads them from a problem file and the documentation of each field is what `list layers`
/// prints; a field without a default is required.
pub trait LayerType: Serialize + DeserializeOwned + JsonSchema + Debug + Send + Sync + 'static {
    /// The value of `type` in problem files.
    const NAME: &'static str;

    /// What it computes, in a line.
    const SUMMARY: &'static str;

    /// Parameters whose initial values a problem file may choose (`weight_init` for `weight`), with their defaults.
    const INITS: &'static [(&'static str, Init)] = &[];

    /// Whether it takes several inputs.
    const IS_MERGE: bool = false;

    /// Whether its weight can be that of an earlier layer (`tied`).
    const CAN_BE_TIED: bool = false;

    /// How many inputs a small example of a merge takes.
    const INPUTS: usize = 2;

    /// Small examples, one for each use that differs in which quantities it allows.
    const SPECIMENS: &'static [Specimen];

    /// What follows from other options is filled in; called once after reading.
    fn settle(self) -> Self {
        self
    }

    /// The operation in its place.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs do not fit, with what would.
    fn build(&self, site: &Site) -> Result<Operation>;
}

/// Where a layer is to stand.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The shapes of what arrives, without the sample axis.
    pub inputs: &'a [&'a [i64]],
    /// The place among the network's layers, for what is drawn by place (dropout's masks).
    pub place: u32,
    /// Where parameters come from.
    pub parameters: ParameterSource,
}

impl<'a> Site<'a> {
    /// The shape of the (first) input.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is none.
    pub fn input(&self) -> Result<&'a [i64]> {
        self.inputs.first().copied().ok_or_else(|| Error::Shape("a layer takes an input".into()))
    }
}

/// A layer as an operation.
pub fn layer(layer: impl Layer + 'static) -> Result<Operation> {
    Ok(Operation::Layer(Box::new(layer)))
}

/// A merge as an operation.
pub fn merge(merge: impl Merge + 'static) -> Result<Operation> {
    Ok(Operation::Merge(Box::new(merge)))
}

/// A small example of a layer type.
#[derive(Clone, Copy, Debug)]
pub struct Specimen {
    /// The circumstance, where it matters for what is allowed: "with extra dimensions".
    pub circumstance: Option<&'static str>,
    /// Its options, as in a problem file: `out_channels = 2, kernel_size = [2, 3]`.
    pub options: &'static str,
    /// The shape of one input, without samples.
    pub input: &'static [i64],
    /// How the pass is made.
    pub mode: Mode,
}

impl Specimen {
    /// One in evaluation mode.
    pub const fn new(options: &'static str, input: &'static [i64]) -> Self {
        Specimen { circumstance: None, options, input, mode: Mode::Evaluation }
    }

    /// The same in this circumstance.
    pub const fn when(self, circumstance: &'static str) -> Self {
        Specimen { circumstance: Some(circumstance), ..self }
    }

    /// The same in training.
    pub const fn training(self) -> Self {
        Specimen { mode: Mode::Training { seed: 0, step: 0 }, ..self }
    }
}

/// Options of some layer type.
pub trait AnyOptions: Debug + Send + Sync {
    /// As [`LayerType::build`].
    ///
    /// # Errors
    /// As [`LayerType::build`].
    fn build(&self, site: &Site) -> Result<Operation>;

    /// The options by name.
    fn values(&self) -> Map<String, Value>;
}

impl<T: LayerType> AnyOptions for T {
    fn build(&self, site: &Site) -> Result<Operation> {
        LayerType::build(self, site)
    }

    fn values(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(values)) => values,
            _ => Map::new(),
        }
    }
}

/// An option of a layer type.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerOption {
    /// The key.
    pub name: String,
    /// The default, as in a problem file; None if the option must be given.
    pub default: Option<String>,
    /// What it is.
    pub meaning: String,
}

/// A layer type in the registry.
pub struct LayerEntry {
    /// The value of `type`.
    pub name: &'static str,
    /// What it computes.
    pub summary: &'static str,
    /// As [`LayerType::INITS`].
    pub inits: &'static [(&'static str, Init)],
    /// As [`LayerType::IS_MERGE`].
    pub is_merge: bool,
    /// As [`LayerType::CAN_BE_TIED`].
    pub can_be_tied: bool,
    /// How many inputs [`Self::specimens`] take.
    pub inputs: usize,
    /// As [`LayerType::SPECIMENS`].
    pub specimens: &'static [Specimen],
    describe: fn() -> Vec<LayerOption>,
    /// What [`Self::options`] gives: made once, for its schema takes longer than reading a layer.
    options: OnceLock<Vec<LayerOption>>,
    from_toml: fn(toml::de::ValueDeserializer) -> std::result::Result<Arc<dyn AnyOptions>, toml::de::Error>,
    from_json: fn(Value) -> std::result::Result<Arc<dyn AnyOptions>, serde_json::Error>,
}

impl Debug for LayerEntry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.debug_struct("LayerEntry").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LayerEntry {
    /// The entry of a layer type.
    pub const fn of<T: LayerType>() -> Self {
        LayerEntry {
            name: T::NAME,
            summary: T::SUMMARY,
            inits: T::INITS,
            is_merge: T::IS_MERGE,
            can_be_tied: T::CAN_BE_TIED,
            inputs: if T::IS_MERGE { T::INPUTS } else { 1 },
            specimens: T::SPECIMENS,
            describe: describe::<T>,
            options: OnceLock::new(),
            from_toml: |table| Ok(Arc::new(T::deserialize(table)?.settle())),
            from_json: |value| Ok(Arc::new(serde_json::from_value::<T>(value)?.settle())),
        }
    }

    /// Its options in their order, initial values last.
    pub fn options(&self) -> &[LayerOption] {
        self.options.get_or_init(|| {
            let inits = self.inits.iter().map(|(parameter, default)| LayerOption {
                name: format!("{parameter}_init"),
                default: Some(match default {
                    Init::Normal(deviation) => format!("{{ normal = {deviation:?} }}"),
                    Init::Constant(value) => format!("{{ constant = {value:?} }}"),
                    _ => "\"default\"".to_owned(),
                }),
                meaning: format!("initial values of the {parameter}"),
            });
            let tied = self.can_be_tied.then(|| LayerOption {
                name: "tied".to_owned(),
                default: Some("the layer's own".to_owned()),
                meaning: "the earlier layer whose weight it uses instead of one of its own".to_owned(),
            });
            (self.describe)().into_iter().chain(inits).chain(tied).collect()
        })
    }

    /// Options from a TOML table that holds nothing else. An error tells its place by its span.
    ///
    /// # Errors
    /// For a value that does not fit.
    pub fn read(
        &self,
        table: toml::de::ValueDeserializer,
    ) -> std::result::Result<Arc<dyn AnyOptions>, toml::de::Error> {
        (self.from_toml)(table)
    }

    /// Options from their [`AnyOptions::values`].
    ///
    /// # Errors
    /// For a value that does not fit.
    pub fn restore(&self, values: Map<String, Value>) -> std::result::Result<Arc<dyn AnyOptions>, serde_json::Error> {
        (self.from_json)(Value::Object(values))
    }

    /// Options as [`Specimen::options`] writes them.
    ///
    /// # Errors
    /// [`Error::Config`] for what is not TOML or does not fit.
    pub fn parse(&self, options: &str) -> Result<Arc<dyn AnyOptions>> {
        let text = format!("{{ {options} }}");
        let table = toml::de::ValueDeserializer::parse(&text);
        table.and_then(|table| self.read(table)).map_err(|error| Error::Config(format!("{}: {error}", self.name)))
    }
}

/// The options of a type, from its schema: names and defaults as serde has them, meanings as they are documented.
fn describe<T: LayerType>() -> Vec<LayerOption> {
    let schema = schemars::schema_for!(T);
    let list = |key: &str| schema.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let required = list("required");
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
    let option = |(name, property): (&String, &Value)| {
        let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default();
        // `x-default` is for defaults that are no values: "kernel_size".
        let default = match (property.get("x-default").and_then(Value::as_str), property.get("default")) {
            (Some(words), _) => words.to_owned(),
            (None, Some(value)) => text_of(value),
            (None, None) => "none".to_owned(),
        };
        LayerOption {
            name: name.clone(),
            default: (!required.contains(&Value::String(name.clone()))).then_some(default),
            meaning: meaning.replace('\n', " "),
        }
    };
    properties.iter().map(option).collect()
}

/// A default as a problem file would say it; equal numbers for all axes as one of them.
fn text_of(value: &Value) -> String {
    match value {
        Value::Array(values) if !values.is_empty() && values.iter().all(|other| *other == values[0]) => {
            values[0].to_string()
        }
        other => other.to_string(),
    }
}
