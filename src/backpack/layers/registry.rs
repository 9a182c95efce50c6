//! The registry of layer types: one line each.

use std::sync::LazyLock;

use super::activations;
use super::attention::{AttentionOptions, SelfAttentionOptions};
use super::batch_norm::BatchNormOptions;
use super::conv::ConvOptions;
use super::conv_transpose::ConvTransposeOptions;
use super::dropout::DropoutOptions;
use super::embedding::EmbeddingOptions;
use super::layer_type::LayerEntry;
use super::learned_tensor::{ClassTokenOptions, GainOptions, PositionEmbeddingOptions};
use super::linear::LinearOptions;
use super::linear_map::{Mean, Scale, SliceOptions};
use super::merges::{AddOptions, Concat, MultiplyOptions};
use super::norms::{GroupNormOptions, LayerNormOptions, RmsNormOptions};
use super::padding::{Pad, ZeroPad2dOptions};
use super::pools::{AdaptiveAvgPoolOptions, AvgPoolOptions, MaxPoolOptions};
use super::recurrent::{LstmOptions, RnnOptions};
use super::reshape::{FlattenAxes, Permute, Reshape};
use crate::entries::Entries;

/// Every layer type that is built in.
pub static LAYER_TYPES: LazyLock<Vec<LayerEntry>> = LazyLock::new(|| {
    vec![
        LayerEntry::of::<LinearOptions>(),
        LayerEntry::of::<ConvOptions<[i64; 1]>>(),
        LayerEntry::of::<ConvOptions<[i64; 2]>>(),
        LayerEntry::of::<ConvOptions<[i64; 3]>>(),
        LayerEntry::of::<ConvTransposeOptions<[i64; 1]>>(),
        LayerEntry::of::<ConvTransposeOptions<[i64; 2]>>(),
        LayerEntry::of::<ConvTransposeOptions<[i64; 3]>>(),
        LayerEntry::of::<MaxPoolOptions<[i64; 1]>>(),
        LayerEntry::of::<MaxPoolOptions<[i64; 2]>>(),
        LayerEntry::of::<MaxPoolOptions<[i64; 3]>>(),
        LayerEntry::of::<AvgPoolOptions<[i64; 1]>>(),
        LayerEntry::of::<AvgPoolOptions<[i64; 2]>>(),
        LayerEntry::of::<AvgPoolOptions<[i64; 3]>>(),
        LayerEntry::of::<AdaptiveAvgPoolOptions<[i64; 1]>>(),
        LayerEntry::of::<AdaptiveAvgPoolOptions<[i64; 2]>>(),
        LayerEntry::of::<AdaptiveAvgPoolOptions<[i64; 3]>>(),
        LayerEntry::of::<BatchNormOptions<[i64; 1]>>(),
        LayerEntry::of::<BatchNormOptions<[i64; 2]>>(),
        LayerEntry::of::<BatchNormOptions<[i64; 3]>>(),
        LayerEntry::of::<ZeroPad2dOptions>(),
        LayerEntry::of::<FlattenAxes>(),
        LayerEntry::of::<DropoutOptions>(),
        LayerEntry::of::<activations::Relu>(),
        LayerEntry::of::<activations::LeakyRelu>(),
        LayerEntry::of::<activations::Elu>(),
        LayerEntry::of::<activations::Selu>(),
        LayerEntry::of::<activations::Sigmoid>(),
        LayerEntry::of::<activations::Tanh>(),
        LayerEntry::of::<activations::LogSigmoid>(),
        LayerEntry::of::<activations::Gelu>(),
        LayerEntry::of::<activations::Silu>(),
        LayerEntry::of::<activations::Identity>(),
        LayerEntry::of::<Pad>(),
        LayerEntry::of::<SliceOptions>(),
        LayerEntry::of::<Permute>(),
        LayerEntry::of::<Reshape>(),
        LayerEntry::of::<Scale>(),
        LayerEntry::of::<Mean>(),
        LayerEntry::of::<EmbeddingOptions>(),
        LayerEntry::of::<LayerNormOptions>(),
        LayerEntry::of::<RmsNormOptions>(),
        LayerEntry::of::<GroupNormOptions>(),
        LayerEntry::of::<PositionEmbeddingOptions>(),
        LayerEntry::of::<GainOptions>(),
        LayerEntry::of::<RnnOptions>(),
        LayerEntry::of::<LstmOptions>(),
        LayerEntry::of::<ClassTokenOptions>(),
        LayerEntry::of::<SelfAttentionOptions>(),
        LayerEntry::of::<AttentionOptions>(),
        LayerEntry::of::<AddOptions>(),
        LayerEntry::of::<MultiplyOptions>(),
        LayerEntry::of::<Concat>(),
    ]
});

static ENTRIES: Entries<&'static LayerEntry> = Entries::new(|| LAYER_TYPES.iter().collect());

/// All layer types, a program's own last.
pub fn layer_types() -> Vec<&'static LayerEntry> {
    ENTRIES.all()
}

/// The layer type of this name.
pub fn layer_type(name: &str) -> Option<&'static LayerEntry> {
    ENTRIES.find(|entry| entry.name == name)
}

/// Has these types in place of those that there are.
pub(crate) fn replace(entries: Vec<&'static LayerEntry>) {
    ENTRIES.replace(entries);
}
