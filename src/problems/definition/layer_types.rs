//! The registry of layer types: name, options with their defaults, and how a table of options is read.

use super::LayerOptions;
use super::read_layer as read;
use crate::config::Table;
use crate::error::Result;

/// An option of a layer type.
#[derive(Debug)]
pub struct LayerOption {
    /// The key.
    pub name: &'static str,
    /// The default, as TOML; `None` if the option must be given.
    pub default: Option<&'static str>,
    /// What it is.
    pub meaning: &'static str,
}

/// A layer type.
pub struct LayerType {
    /// The value of `type`.
    pub name: &'static str,
    /// What it computes.
    pub summary: &'static str,
    /// Its options.
    pub options: &'static [LayerOption],
    /// Reads a table whose keys are known to be its options.
    pub(super) read: fn(&Table) -> Result<LayerOptions>,
}

const fn required(name: &'static str, meaning: &'static str) -> LayerOption {
    LayerOption { name, default: None, meaning }
}

const fn option(name: &'static str, default: &'static str, meaning: &'static str) -> LayerOption {
    LayerOption { name, default: Some(default), meaning }
}

const KERNEL_SIZE: LayerOption = required("kernel_size", "height and width of the window");
const STRIDE: LayerOption = option("stride", "1", "steps between windows");
const POOL_STRIDE: LayerOption = option("stride", "kernel_size", "steps between windows");
const PADDING: LayerOption =
    option("padding", "0", "zeros around the input: integer, [h, w], [left, right, top, bottom] or \"same\"");
const POOL_PADDING: LayerOption =
    option("padding", "0", "integer or [h, w] as in PyTorch, or zeros: [left, right, top, bottom] or \"same\"");
const DILATION: LayerOption = option("dilation", "1", "steps between a window's entries");
const CEIL_MODE: LayerOption = option("ceil_mode", "false", "whether the output's size is rounded up");
const OUT_CHANNELS: LayerOption = required("out_channels", "output channels");
const GROUPS: LayerOption = option("groups", "1", "groups of channels that do not mix");
const BIAS: LayerOption = option("bias", "true", "whether there is a bias");
const WEIGHT_INIT: LayerOption = option("weight_init", "\"default\"", "how the weight starts");
const BIAS_INIT: LayerOption = option("bias_init", "\"default\"", "how the bias starts");

const fn plain(name: &'static str, summary: &'static str, read: fn(&Table) -> Result<LayerOptions>) -> LayerType {
    LayerType { name, summary, options: &[], read }
}

/// Every layer type that a problem file can name.
pub static LAYER_TYPES: &[LayerType] = &[
    LayerType {
        name: "linear",
        summary: "affine map of the last dimension",
        options: &[required("out_features", "outputs"), BIAS, WEIGHT_INIT, BIAS_INIT],
        read: read::linear,
    },
    LayerType {
        name: "conv2d",
        summary: "convolution",
        options: &[OUT_CHANNELS, KERNEL_SIZE, STRIDE, PADDING, DILATION, GROUPS, BIAS, WEIGHT_INIT, BIAS_INIT],
        read: read::conv2d,
    },
    LayerType {
        name: "conv_transpose2d",
        summary: "transposed convolution",
        options: &[
            OUT_CHANNELS,
            KERNEL_SIZE,
            STRIDE,
            option("padding", "0", "rows and columns cut off the output: integer or [h, w]"),
            option("output_padding", "0", "rows and columns added at the output's bottom and right"),
            DILATION,
            GROUPS,
            BIAS,
            WEIGHT_INIT,
            BIAS_INIT,
        ],
        read: read::conv_transpose2d,
    },
    LayerType {
        name: "max_pool2d",
        summary: "largest value of each window",
        options: &[KERNEL_SIZE, POOL_STRIDE, POOL_PADDING, DILATION, CEIL_MODE],
        read: read::max_pool2d,
    },
    LayerType {
        name: "avg_pool2d",
        summary: "mean of each window, padding counted",
        options: &[KERNEL_SIZE, POOL_STRIDE, POOL_PADDING, CEIL_MODE],
        read: read::avg_pool2d,
    },
    LayerType {
        name: "adaptive_avg_pool2d",
        summary: "means that give an output of a size",
        options: &[required("output_size", "height and width of the output")],
        read: read::adaptive_avg_pool2d,
    },
    LayerType {
        name: "batch_norm2d",
        summary: "batch normalisation of channels",
        options: &[
            option("eps", "1e-5", "added to the variance"),
            option("momentum", "0.1", "weight of a new batch in the running statistics"),
            option("frozen", "false", "whether it stays in evaluation mode"),
            WEIGHT_INIT,
            BIAS_INIT,
        ],
        read: read::batch_norm2d,
    },
    LayerType {
        name: "zero_pad2d",
        summary: "zeros around an image",
        options: &[required("padding", "integer, [h, w] or [left, right, top, bottom]")],
        read: read::zero_pad2d,
    },
    LayerType {
        name: "flatten",
        summary: "neighbouring dimensions of a sample in one",
        options: &[
            option("start_dim", "1", "the first of them; samples are 0"),
            option("end_dim", "-1", "the last of them, counted from the end where negative"),
        ],
        read: read::flatten,
    },
    LayerType {
        name: "dropout",
        summary: "values set to zero at random in training",
        options: &[option("p", "0.5", "probability that a value is set to zero")],
        read: read::dropout,
    },
    plain("relu", "max(x, 0)", |_| Ok(LayerOptions::Relu)),
    LayerType {
        name: "leaky_relu",
        summary: "x, or a multiple of it where it is negative",
        options: &[option("negative_slope", "0.01", "the factor of negative values")],
        read: read::leaky_relu,
    },
    LayerType {
        name: "elu",
        summary: "x, or alpha (exp(x) - 1) where it is negative",
        options: &[option("alpha", "1.0", "minus the limit for large negative values")],
        read: read::elu,
    },
    plain("selu", "scaled ELU", |_| Ok(LayerOptions::Selu)),
    plain("sigmoid", "1 / (1 + exp(-x))", |_| Ok(LayerOptions::Sigmoid)),
    plain("tanh", "hyperbolic tangent", |_| Ok(LayerOptions::Tanh)),
    plain("log_sigmoid", "logarithm of the sigmoid", |_| Ok(LayerOptions::LogSigmoid)),
    plain("gelu", "x times the normal distribution function", |_| Ok(LayerOptions::Gelu)),
    plain("silu", "x times its sigmoid", |_| Ok(LayerOptions::Silu)),
    plain("identity", "its input", |_| Ok(LayerOptions::Identity)),
    LayerType {
        name: "pad",
        summary: "a number around the last dimensions",
        options: &[
            required("padding", "pairs of before and behind, the last dimension first"),
            option("value", "0.0", "what is put there"),
        ],
        read: read::pad,
    },
    LayerType {
        name: "slice",
        summary: "parts of the dimensions behind the samples",
        options: &[required("index", "Python's slices, as \"0, ::2, -1\"; a number drops its dimension")],
        read: read::slice,
    },
    LayerType {
        name: "permute",
        summary: "the dimensions in another order",
        options: &[required("dims", "all dimensions, 0 (the samples) first")],
        read: read::permute,
    },
    LayerType {
        name: "reshape",
        summary: "the entries in another shape",
        options: &[required("shape", "the shape behind the samples; one size may be -1")],
        read: read::reshape,
    },
    LayerType {
        name: "scale",
        summary: "its input times a number",
        options: &[required("factor", "the number")],
        read: read::scale,
    },
    LayerType {
        name: "mean",
        summary: "the mean over dimensions, which are dropped",
        options: &[required("dim", "a dimension or a list of them; samples are 0")],
        read: read::mean,
    },
    LayerType {
        name: "embedding",
        summary: "rows of a learned table, chosen by integers",
        options: &[
            required("num_embeddings", "the number of rows"),
            required("embedding_dim", "the width of a row"),
            option("weight_init", "{ normal = 1.0 }", "how the weight starts"),
        ],
        read: read::embedding,
    },
    LayerType {
        name: "position_embedding",
        summary: "a learned tensor added to every sample",
        options: &[
            option("shape", "the sample's", "the weight's shape, which broadcasts to the batch"),
            option("weight_init", "{ normal = 0.02 }", "how the weight starts"),
        ],
        read: read::position_embedding,
    },
    LayerType {
        name: "gain",
        summary: "every sample times a learned tensor",
        options: &[
            option("shape", "the last axis", "the weight's shape, which broadcasts to the batch"),
            option("value", "1.0", "what every entry starts as"),
        ],
        read: read::gain,
    },
    plain("add", "the sum of two inputs or more; sizes of 1 broadcast", |_| Ok(LayerOptions::Add)),
    plain("multiply", "the product of two inputs or more, entry by entry; sizes of 1 broadcast", |_| {
        Ok(LayerOptions::Multiply)
    }),
    LayerType {
        name: "concat",
        summary: "two inputs or more, one after the other along a dimension",
        options: &[option("dim", "1", "the dimension; samples are 0")],
        read: read::concat,
    },
];

/// The layer type of this name.
pub fn layer_type(name: &str) -> Option<&'static LayerType> {
    LAYER_TYPES.iter().find(|layer| layer.name == name)
}
