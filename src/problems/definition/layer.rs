//! The layers a network can have, with PyTorch's option names; pairs are height, width.

use serde::{Deserialize, Serialize};

use super::PaddingOption;
use crate::backpack::init::Init;
use crate::config::Place;

/// One layer of a network, and where it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerDefinition {
    /// What it is.
    pub options: LayerOptions,
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
    /// All dimensions of a sample in one.
    Flatten,
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
