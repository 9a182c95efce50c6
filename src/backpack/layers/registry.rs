//! The registry of layer types: one line each.

use std::sync::{LazyLock, RwLock};

use super::layer_type::{LayerEntry, LayerType};
use super::{
    activations,
    add::AddOptions,
    attention::{AttentionOptions, SelfAttentionOptions},
    batch_norm::BatchNormOptions,
    class_token::ClassTokenOptions,
    concat::Concat,
    conv::ConvOptions,
    conv_transpose::ConvTransposeOptions,
    dropout::DropoutOptions,
    embedding::EmbeddingOptions,
    flatten::FlattenAxes,
    gain::GainOptions,
    linear::LinearOptions,
    mean::Mean,
    multiply::MultiplyOptions,
    norms::{GroupNormOptions, LayerNormOptions, RmsNormOptions},
    pad::Pad,
    permute::Permute,
    pools::{AdaptiveAvgPoolOptions, AvgPoolOptions, MaxPoolOptions},
    position_embedding::PositionEmbeddingOptions,
    recurrent::{LstmOptions, RnnOptions},
    reshape::Reshape,
    scale::Scale,
    slice::SliceOptions,
    zero_pad2d::ZeroPad2dOptions,
};
use crate::error::{Error, Result};

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

/// Types that a program has entered beside them.
static OWN: RwLock<Vec<&'static LayerEntry>> = RwLock::new(Vec::new());

/// Enters a layer type of one's own, so that problem files can name it.
///
/// # Errors
/// [`Error::Usage`] when its name is taken.
pub fn register<T: LayerType>() -> Result<()> {
    if layer_type(T::NAME).is_some() {
        return Err(Error::Usage(format!("there is a layer type `{}` already", T::NAME)));
    }
    let mut own = OWN.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Entries live as long as the program.
    own.push(Box::leak(Box::new(LayerEntry::of::<T>())));
    Ok(())
}

/// All layer types, one's own last.
pub fn layer_types() -> Vec<&'static LayerEntry> {
    let own = OWN.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    LAYER_TYPES.iter().chain(own.iter().copied()).collect()
}

/// The layer type of this name.
pub fn layer_type(name: &str) -> Option<&'static LayerEntry> {
    let own = OWN.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    LAYER_TYPES.iter().chain(own.iter().copied()).find(|entry| entry.name == name)
}
