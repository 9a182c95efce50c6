//! Makes a layer from its definition and the shape that arrives at it.

use crate::backpack::layers::{
    Activation, ActivationKind, AdaptiveAvgPool2d, Add, AvgPool2d, AvgPool2dOptions, BatchNorm2d, BatchNorm2dOptions,
    Concat, Conv2d, Conv2dOptions, ConvTranspose2d, ConvTranspose2dOptions, Dropout, Embedding, Flatten, FlattenAxes,
    Gain, Layer, Linear, LinearOptions, MaxPool2d, MaxPool2dOptions, Mean, Multiply, NewParameter, Pad, Permute,
    PoolPadding, PositionEmbedding, Reshape, Scale, Slice, ZeroPad2d,
};
use crate::backpack::network::Operation;
use crate::config::item::MAX_SIZE;
use crate::error::{Error, Result};
use crate::problems::definition::{
    Gain as GainOptions, LayerOptions, PaddingOption, PositionEmbedding as PositionEmbeddingOptions,
};

/// The operation for inputs of these shapes (without the sample axis); `place` counts the network's layers, `parameter`
/// makes its parameters.
pub(super) fn build_layer(
    options: &LayerOptions,
    inputs: &[&[i64]],
    place: u32,
    parameter: NewParameter,
) -> Result<Operation> {
    let [input, ..] = inputs else { return Err(Error::Shape("a layer takes an input".into())) };
    check_parameters(options, input)?;
    let layer: Box<dyn Layer> = match options {
        LayerOptions::Linear(linear) => {
            let options = LinearOptions { out_features: linear.out_features, bias: linear.bias };
            Box::new(Linear::made_of(input, &options, parameter)?)
        }
        LayerOptions::Conv2d(conv) => Box::new(Conv2d::made_of(
            input,
            &Conv2dOptions {
                out_channels: conv.out_channels,
                kernel_size: conv.kernel_size,
                stride: conv.stride,
                padding: conv.padding.zeros(),
                dilation: conv.dilation,
                groups: conv.groups,
                bias: conv.bias,
            },
            parameter,
        )?),
        LayerOptions::ConvTranspose2d(conv) => Box::new(ConvTranspose2d::made_of(
            input,
            &ConvTranspose2dOptions {
                out_channels: conv.out_channels,
                kernel_size: conv.kernel_size,
                stride: conv.stride,
                padding: conv.padding,
                output_padding: conv.output_padding,
                dilation: conv.dilation,
                groups: conv.groups,
                bias: conv.bias,
            },
            parameter,
        )?),
        LayerOptions::MaxPool2d(pool) => Box::new(MaxPool2d::new(
            input,
            &MaxPool2dOptions {
                kernel_size: pool.kernel_size,
                stride: pool.stride,
                padding: pool_padding(pool.padding),
                dilation: pool.dilation,
                ceil_mode: pool.ceil_mode,
            },
        )?),
        LayerOptions::AvgPool2d(pool) => Box::new(AvgPool2d::new(
            input,
            &AvgPool2dOptions {
                kernel_size: pool.kernel_size,
                stride: pool.stride,
                padding: pool_padding(pool.padding),
                ceil_mode: pool.ceil_mode,
            },
        )?),
        LayerOptions::AdaptiveAvgPool2d(pool) => Box::new(AdaptiveAvgPool2d::new(input, pool.output_size)?),
        LayerOptions::BatchNorm2d(norm) => Box::new(BatchNorm2d::new(
            input,
            &BatchNorm2dOptions { eps: norm.eps, momentum: norm.momentum, frozen: norm.frozen },
        )?),
        LayerOptions::ZeroPad2d(pad) => Box::new(ZeroPad2d::new(input, pad.padding.into())?),
        LayerOptions::Flatten(flatten) if (flatten.start_dim, flatten.end_dim) == (1, -1) => Box::new(Flatten::new()),
        LayerOptions::Flatten(flatten) => Box::new(FlattenAxes::new(flatten.start_dim, flatten.end_dim)),
        LayerOptions::Dropout(dropout) => Box::new(Dropout::new(dropout.p, place)?),
        LayerOptions::Relu => activation(ActivationKind::Relu),
        LayerOptions::LeakyRelu(relu) => activation(ActivationKind::LeakyRelu { negative_slope: relu.negative_slope }),
        LayerOptions::Elu(elu) => activation(ActivationKind::Elu { alpha: elu.alpha }),
        LayerOptions::Selu => activation(ActivationKind::Selu),
        LayerOptions::Sigmoid => activation(ActivationKind::Sigmoid),
        LayerOptions::Tanh => activation(ActivationKind::Tanh),
        LayerOptions::LogSigmoid => activation(ActivationKind::LogSigmoid),
        LayerOptions::Gelu => activation(ActivationKind::Gelu),
        LayerOptions::Silu => activation(ActivationKind::Silu),
        LayerOptions::Identity => activation(ActivationKind::Identity),
        LayerOptions::Pad(pad) => Box::new(Pad::new(&pad.padding, pad.value)?),
        LayerOptions::Slice(slice) => Box::new(slice.index.parse::<Slice>()?),
        LayerOptions::Permute(permute) => Box::new(Permute::new(&permute.dims)?),
        LayerOptions::Reshape(reshape) => Box::new(Reshape::new(&reshape.shape)?),
        LayerOptions::Scale(scale) => Box::new(Scale::new(scale.factor)),
        LayerOptions::Mean(mean) => Box::new(Mean::new(&mean.dim)),
        LayerOptions::Embedding(table) => {
            Box::new(Embedding::made_of(table.num_embeddings, table.embedding_dim, parameter)?)
        }
        LayerOptions::PositionEmbedding(added) => {
            Box::new(PositionEmbedding::made_of(input, added.shape.as_deref(), parameter)?)
        }
        LayerOptions::Gain(gain) => Box::new(Gain::new(input, gain.shape.as_deref(), gain.value)?),
        LayerOptions::Add => return Ok(Operation::Merge(Box::new(Add))),
        LayerOptions::Multiply => return Ok(Operation::Merge(Box::new(Multiply))),
        LayerOptions::Concat(concat) => return Ok(Operation::Merge(Box::new(Concat::new(concat.dim)?))),
    };
    Ok(Operation::Layer(layer))
}

/// Refuses a weight with more entries than libtorch's kernels can count.
fn check_parameters(options: &LayerOptions, input: &[i64]) -> Result<()> {
    let first = input.first().copied().unwrap_or(1);
    let last = input.last().copied().unwrap_or(1);
    let sizes = match options {
        LayerOptions::Linear(linear) => vec![linear.out_features, last],
        LayerOptions::Conv2d(conv) => {
            [&[conv.out_channels, first / conv.groups.max(1)][..], &conv.kernel_size].concat()
        }
        LayerOptions::Embedding(table) => vec![table.num_embeddings, table.embedding_dim],
        LayerOptions::PositionEmbedding(PositionEmbeddingOptions { shape: Some(shape), .. })
        | LayerOptions::Gain(GainOptions { shape: Some(shape), .. }) => shape.clone(),
        LayerOptions::ConvTranspose2d(conv) => {
            [&[first, conv.out_channels / conv.groups.max(1)][..], &conv.kernel_size].concat()
        }
        _ => return Ok(()),
    };
    match product(&sizes) {
        Some(count) if count <= MAX_SIZE => Ok(()),
        _ => Err(Error::Shape(format!(
            "{}: a weight of {sizes:?} is too large, at most {MAX_SIZE} entries are possible",
            options.name()
        ))),
    }
}

/// The product of sizes, unless it overflows.
pub(super) fn product(sizes: &[i64]) -> Option<i64> {
    sizes.iter().try_fold(1i64, |product, size| product.checked_mul(*size))
}

fn activation(kind: ActivationKind) -> Box<dyn Layer> {
    Box::new(Activation::new(kind))
}

/// PyTorch pools over its own padding; DeepOBS's "same", and four sides, are zeros.
fn pool_padding(padding: PaddingOption) -> PoolPadding {
    match padding {
        PaddingOption::Symmetric(native) => PoolPadding::Native(native),
        other => PoolPadding::Zeros(other.zeros()),
    }
}
