//! A layer's options in one line, for tables: those that differ from their defaults, initial values left out.

use toml::Value;

use super::layer_types::{LayerOption, layer_type};
use super::{LayerDefinition, LayerOptions};

impl LayerOptions {
    /// The layer type's name in problem files.
    pub fn name(&self) -> &'static str {
        match self {
            LayerOptions::Linear(_) => "linear",
            LayerOptions::Conv2d(_) => "conv2d",
            LayerOptions::ConvTranspose2d(_) => "conv_transpose2d",
            LayerOptions::MaxPool2d(_) => "max_pool2d",
            LayerOptions::AvgPool2d(_) => "avg_pool2d",
            LayerOptions::AdaptiveAvgPool2d(_) => "adaptive_avg_pool2d",
            LayerOptions::BatchNorm2d(_) => "batch_norm2d",
            LayerOptions::ZeroPad2d(_) => "zero_pad2d",
            LayerOptions::Flatten(_) => "flatten",
            LayerOptions::Dropout(_) => "dropout",
            LayerOptions::Relu => "relu",
            LayerOptions::LeakyRelu(_) => "leaky_relu",
            LayerOptions::Elu(_) => "elu",
            LayerOptions::Selu => "selu",
            LayerOptions::Sigmoid => "sigmoid",
            LayerOptions::Tanh => "tanh",
            LayerOptions::LogSigmoid => "log_sigmoid",
            LayerOptions::Gelu => "gelu",
            LayerOptions::Silu => "silu",
            LayerOptions::Identity => "identity",
            LayerOptions::Pad(_) => "pad",
            LayerOptions::Slice(_) => "slice",
            LayerOptions::Permute(_) => "permute",
            LayerOptions::Reshape(_) => "reshape",
            LayerOptions::Scale(_) => "scale",
            LayerOptions::Mean(_) => "mean",
            LayerOptions::Embedding(_) => "embedding",
            LayerOptions::PositionEmbedding(_) => "position_embedding",
            LayerOptions::Gain(_) => "gain",
            LayerOptions::Add => "add",
            LayerOptions::Multiply => "multiply",
            LayerOptions::Concat(_) => "concat",
        }
    }
}

impl LayerDefinition {
    /// `out_channels 32, kernel_size 5, padding same`.
    pub fn summary(&self) -> String {
        let Ok(Value::Table(values)) = Value::try_from(&self.options) else { return String::new() };
        let options = layer_type(self.options.name()).map_or(&[][..], |layer| layer.options);
        let shown = |option: &LayerOption| {
            let value = shorten(values.get(option.name)?);
            let default = match option.default {
                Some("kernel_size") => values.get("kernel_size").map(shorten),
                default => default.map(|text| text.trim_matches('"').to_owned()),
            };
            let number = |text: &str| text.parse::<f64>().ok();
            let is_default = default.is_some_and(|default| {
                default == value || number(&default).is_some_and(|default| number(&value) == Some(default))
            });
            (!is_default && !option.name.ends_with("_init")).then(|| format!("{} {value}", option.name))
        };
        options.iter().filter_map(shown).collect::<Vec<_>>().join(", ")
    }
}

/// A value without quotes, and a list of equal numbers as one of them.
fn shorten(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) if !values.is_empty() && values.iter().all(|other| *other == values[0]) => {
            values[0].to_string()
        }
        other => other.to_string(),
    }
}
