//! The layers a network can have, with PyTorch's option names; pairs are height, width.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PaddingOption;
use crate::backpack::init::Init;
use crate::config::Place;

/// One layer of a network, what it takes, and where it is written. Blocks are written out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerDefinition {
    /// What it is.
    #[serde(flatten)]
    pub options: LayerOptions,
    /// Its name; a layer without one is called by its place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Full names of parameters that are not called after the layer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, String>,
    /// The names of the layers whose outputs it takes, or "input"; none stands for the layer before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// The value of its `type` key.
    #[serde(skip)]
    pub place: Place,
}

/// A layer's type and options. Inputs' sizes are inferred.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LayerOptions {
    /// An affine map of the last dimension.
    Linear(Linear),
    /// A convolution (cross-correlation) of images.
    Conv2d(Conv2d),
    /// A transposed convolution of images.
    ConvTranspose2d(ConvTranspose2d),
    /// The largest value in each window.
    MaxPool2d(MaxPool2d),
    /// The mean of each window, padding included.
    AvgPool2d(AvgPool2d),
    /// Means that give an output of this size.
    AdaptiveAvgPool2d(AdaptiveAvgPool2d),
    /// Batch normalisation of channels.
    BatchNorm2d(BatchNorm2d),
    /// Zeros around an image.
    ZeroPad2d(ZeroPad2d),
    /// Neighbouring dimensions of a sample in one, all of them unless said otherwise.
    Flatten(Flatten),
    /// Values set to zero at random in training.
    Dropout(Dropout),
    /// max(x, 0).
    Relu,
    /// x, or a small multiple of it where it is negative.
    LeakyRelu(LeakyRelu),
    /// x, or alpha (exp(x) - 1) where it is negative.
    Elu(Elu),
    /// The scaled ELU (Klambauer et al., 2017).
    Selu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// The logarithm of the sigmoid.
    LogSigmoid,
    /// x times the normal distribution function, exact.
    Gelu,
    /// x times its sigmoid.
    Silu,
    /// Nothing.
    Identity,
    /// A number around the last dimensions.
    Pad(Pad),
    /// Parts of the dimensions behind the samples.
    Slice(Slice),
    /// The dimensions in another order.
    Permute(Permute),
    /// The entries in another shape.
    Reshape(Reshape),
    /// Times a number.
    Scale(Scale),
    /// The mean over dimensions.
    Mean(Mean),
    /// Rows of a table, chosen by integers.
    Embedding(Embedding),
    /// A learned tensor added to every sample.
    PositionEmbedding(PositionEmbedding),
    /// Every sample times a learned tensor.
    Gain(Gain),
    /// The sum of its inputs.
    Add,
    /// The product of its inputs, entry by entry.
    Multiply,
    /// Its inputs one after the other along a dimension.
    Concat(Concat),
}

/// Options of `flatten`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flatten {
    /// The first dimension; samples are 0.
    #[serde(default = "first_dim", skip_serializing_if = "is_first_dim")]
    pub start_dim: i64,
    /// The last dimension.
    #[serde(default = "last_dim", skip_serializing_if = "is_last_dim")]
    pub end_dim: i64,
}

fn first_dim() -> i64 {
    1
}

fn last_dim() -> i64 {
    -1
}

// An option that this type has got since is left out where it is not used, so that old runs keep their hashes.
fn is_first_dim(dim: &i64) -> bool {
    *dim == first_dim()
}

fn is_last_dim(dim: &i64) -> bool {
    *dim == last_dim()
}

/// Options of `pad`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pad {
    /// Before and behind each dimension, the last one first.
    pub padding: Vec<i64>,
    /// What is put there.
    pub value: f64,
}

/// Options of `slice`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Python's slices of the dimensions behind the samples.
    pub index: String,
}

/// Options of `permute`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Permute {
    /// The input's dimension at each place of the output.
    pub dims: Vec<i64>,
}

/// Options of `reshape`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reshape {
    /// The shape behind the samples.
    pub shape: Vec<i64>,
}

/// Options of `scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// The number.
    pub factor: f64,
}

/// Options of `mean`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The dimensions, which are dropped.
    pub dim: Vec<i64>,
}

/// Options of `embedding`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// The number of rows.
    pub num_embeddings: i64,
    /// The width of a row.
    pub embedding_dim: i64,
    /// How the weight starts; PyTorch's default is normal with deviation 1.
    pub weight_init: Init,
}

/// Options of `position_embedding`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PositionEmbedding {
    /// The weight's shape, which broadcasts to the batch; None for that of a sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<i64>>,
    /// How the weight starts; the default is normal with deviation 0.02.
    pub weight_init: Init,
}

/// Options of `gain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// The weight's shape, which broadcasts to the batch; None for the last axis of a sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<i64>>,
    /// What every entry of the weight starts as.
    pub value: f64,
}

/// Options of `concat`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concat {
    /// The dimension.
    pub dim: i64,
}

impl LayerOptions {
    /// Whether it takes several inputs.
    pub fn is_merge(&self) -> bool {
        matches!(self, LayerOptions::Add | LayerOptions::Multiply | LayerOptions::Concat(_))
    }
}

/// Options of `linear`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Outputs.
    pub out_features: i64,
    /// Whether there is a bias.
    pub bias: bool,
    /// How the weight starts.
    pub weight_init: Init,
    /// How the bias starts.
    pub bias_init: Init,
}

/// Options of `conv2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv2d {
    /// Output channels.
    pub out_channels: i64,
    /// The window.
    pub kernel_size: [i64; 2],
    /// Steps between windows.
    pub stride: [i64; 2],
    /// Zeros around the input.
    pub padding: PaddingOption,
    /// Steps between a window's entries.
    pub dilation: [i64; 2],
    /// Groups of channels that do not mix.
    pub groups: i64,
    /// Whether there is a bias.
    pub bias: bool,
    /// How the weight starts.
    pub weight_init: Init,
    /// How the bias starts.
    pub bias_init: Init,
}

/// Options of `conv_transpose2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvTranspose2d {
    /// Output channels.
    pub out_channels: i64,
    /// The window.
    pub kernel_size: [i64; 2],
    /// Steps between windows.
    pub stride: [i64; 2],
    /// Rows and columns cut off the output's borders.
    pub padding: [i64; 2],
    /// Rows and columns added at the output's bottom and right.
    pub output_padding: [i64; 2],
    /// Steps between a window's entries.
    pub dilation: [i64; 2],
    /// Groups of channels that do not mix.
    pub groups: i64,
    /// Whether there is a bias.
    pub bias: bool,
    /// How the weight starts.
    pub weight_init: Init,
    /// How the bias starts.
    pub bias_init: Init,
}

/// Options of `max_pool2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaxPool2d {
    /// The window.
    pub kernel_size: [i64; 2],
    /// Steps between windows; the window's size unless given.
    pub stride: [i64; 2],
    /// Padding: PyTorch's (never the largest) if symmetric, zeros if "same" or four sides.
    pub padding: PaddingOption,
    /// Steps between a window's entries.
    pub dilation: [i64; 2],
    /// Whether the output's size is rounded up.
    pub ceil_mode: bool,
}

/// Options of `avg_pool2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AvgPool2d {
    /// The window.
    pub kernel_size: [i64; 2],
    /// Steps between windows; the window's size unless given.
    pub stride: [i64; 2],
    /// Zeros around the input, which count.
    pub padding: PaddingOption,
    /// Whether the output's size is rounded up.
    pub ceil_mode: bool,
}

/// Options of `adaptive_avg_pool2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveAvgPool2d {
    /// The output's size.
    pub output_size: [i64; 2],
}

/// Options of `batch_norm2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm2d {
    /// Added to the variance.
    pub eps: f64,
    /// The weight of a new batch in the running statistics.
    pub momentum: f64,
    /// Whether the layer uses its running statistics in training too, and leaves them as they are.
    pub frozen: bool,
    /// How the weight starts; PyTorch's default is 1.
    pub weight_init: Init,
    /// How the bias starts; PyTorch's default is 0.
    pub bias_init: Init,
}

/// Options of `zero_pad2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZeroPad2d {
    /// Left, right, top, bottom.
    pub padding: [i64; 4],
}

/// Options of `dropout`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    /// The probability that a value is set to zero.
    pub p: f64,
}

/// Options of `leaky_relu`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeakyRelu {
    /// The factor of negative values.
    pub negative_slope: f64,
}

/// Options of `elu`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Elu {
    /// Minus the limit for large negative values.
    pub alpha: f64,
}
