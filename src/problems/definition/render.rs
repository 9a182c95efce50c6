//! Writes a problem as the problem file that reads back equal, every default spelt out; and a layer's options in one
//! line, for tables.

use serde_json::Value as Json;
use toml::{Table, Value};

use super::{LayerDefinition, ProblemDefinition};
use crate::backpack::layers::LayerOption;
use crate::error::{Error, Result};
use crate::problems::data::DataSource;

impl ProblemDefinition {
    /// The content of a problem file with every value in it.
    ///
    /// # Errors
    /// [`Error::Config`] for what TOML cannot hold.
    pub fn to_toml(&self) -> Result<Table> {
        let mut table = Table::new();
        let mut set = |key: &str, value: Value| table.insert(key.to_owned(), value);
        set("name", self.name.as_str().into());
        match &self.dataset {
            DataSource::Absent(input) => set("input", to_value(input)?),
            source => set("dataset", to_value(source)?),
        };
        if let Some(loss) = self.loss {
            set("loss", loss.to_string().into());
        }
        if !self.targets.is_default() {
            set("targets", to_value(self.targets)?);
        }
        set("reduction", self.reduction.as_str().into());
        set("batch_size", integer(self.batch_size));
        set("drop_last", self.drop_last.into());
        set("epochs", self.limit.map_or_else(|| Ok(integer(self.epochs)), to_value)?);
        set("l2", self.l2.into());
        set("augment", self.augment.into());
        if let Some(size) = self.valid_size {
            set("valid_size", integer(size));
        }
        if let Some(size) = self.train_size {
            set("train_size", integer(size));
        }
        if let Some(path) = &self.weights {
            set("weights", to_value(path)?);
        }
        set("layers", to_value(&self.layers)?);
        Ok(table)
    }
}

fn to_value(value: impl serde::Serialize) -> Result<Value> {
    Value::try_from(value)
        .map_err(|error| Error::Config(format!("this configuration cannot be written as TOML: {error}")))
}

fn integer(value: usize) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

// A layer's options in one line, for tables: those that differ from their defaults, initial values left out.

impl LayerDefinition {
    /// `out_channels 32, kernel_size 5, padding same`.
    pub fn summary(&self) -> String {
        let values = self.values();
        let text = |name: &str| values.get(name).map(shorten);
        let shown = |option: &LayerOption| {
            let value = text(&option.name)?;
            // A default can be another option: a pool's stride is its window.
            let default = option.default.as_ref().map(|default| text(default).unwrap_or_else(|| default.clone()));
            let number = |text: &str| text.parse::<f64>().ok();
            let is_default = default.is_some_and(|default| {
                default.trim_matches('"') == value
                    || number(&default).is_some_and(|default| number(&value) == Some(default))
            });
            (!is_default).then(|| format!("{} {value}", option.name))
        };
        self.entry.options().iter().filter_map(shown).collect::<Vec<_>>().join(", ")
    }
}

/// A value without quotes, and a list of equal values as one of them.
fn shorten(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(values) if !values.is_empty() && values.iter().all(|other| *other == values[0]) => {
            values[0].to_string()
        }
        Json::Array(values) => {
            let values: Vec<String> = values.iter().map(Json::to_string).collect();
            format!("[{}]", values.join(", "))
        }
        other => other.to_string(),
    }
}
