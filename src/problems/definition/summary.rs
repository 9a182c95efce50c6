//! A layer's options in one line, for tables: those that differ from their defaults, initial values left out.

use serde_json::Value;

use super::LayerDefinition;
use crate::backpack::layers::LayerOption;

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
fn shorten(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) if !values.is_empty() && values.iter().all(|other| *other == values[0]) => {
            values[0].to_string()
        }
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(Value::to_string).collect();
            format!("[{}]", values.join(", "))
        }
        other => other.to_string(),
    }
}
