//! libtorch's own gradient of a problem, which everything is measured against: the layers as plain libtorch operations,
//! forward and backward by automatic differentiation.
//!
//! Parameters and images lie in memory as PyTorch has them unless told otherwise (channels first); the program's own
//! pass does not take part.

use tch::{Kind, Reduction as Libtorch, Tensor};

use crate::backpack::Network;
use crate::backpack::layers::{LinearMap, Padding, Slice, channels_last};
use crate::backpack::losses::Reduction;
use crate::error::Result;
use crate::problems::definition::{LayerOptions, LossKind, PaddingOption, ProblemDefinition};

/// How images and kernels lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As PyTorch has them: `[N, C, H, W]`, contiguous.
    ChannelsFirst,
    /// The same shapes with channels last in memory.
    ChannelsLast,
}

impl Order {
    fn arrange(self, tensor: &Tensor) -> Tensor {
        match self {
            Order::ChannelsFirst => tensor.contiguous(),
            Order::ChannelsLast => channels_last(tensor),
        }
    }
}

/// A layer with what it takes.
struct Step {
    options: LayerOptions,
    inputs: Vec<usize>,
    parameters: Vec<Tensor>,
    buffers: Vec<Tensor>,
}

/// A problem's network in training mode, with copies of another one's parameters.
pub struct Yardstick {
    order: Order,
    layers: Vec<Step>,
    parameters: Vec<Tensor>,
    loss: LossKind,
    reduction: Libtorch,
}

impl Yardstick {
    /// The problem's network with the parameters that `network`, built from it, has now.
    ///
    /// # Errors
    /// Where the problem names no loss.
    pub fn new(definition: &ProblemDefinition, network: &Network, order: Order) -> Result<Self> {
        let mut parameters = Vec::new();
        let layers = network.nodes().iter().zip(&definition.layers).map(|(node, layer)| {
            let own: Vec<Tensor> = node
                .parameters()
                .iter()
                .map(|parameter| order.arrange(&parameter.value.detach().copy()).set_requires_grad(true))
                .collect();
            parameters.extend(own.iter().map(Tensor::shallow_clone));
            let buffers = node.layer().map_or_else(Vec::new, |layer| layer.buffers());
            let buffers = buffers.into_iter().map(|(_, buffer)| buffer.copy()).collect();
            // Values are counted from the network's input on.
            let inputs = node.inputs().iter().map(|value| value.node().map_or(0, |place| place + 1)).collect();
            Step { options: layer.options.clone(), inputs, parameters: own, buffers }
        });
        let layers = layers.collect();
        let reduction = match definition.reduction {
            Reduction::Mean => Libtorch::Mean,
            Reduction::Sum => Libtorch::Sum,
        };
        Ok(Yardstick { order, layers, parameters, loss: definition.loss()?, reduction })
    }

    /// The batch as this network takes it best; not part of what is timed.
    pub fn arrange(&self, x: &Tensor) -> Tensor {
        self.order.arrange(x)
    }

    /// The loss's gradients with respect to every parameter, in the network's order, at inputs `[N, *in]`.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn gradient(&self, x: &Tensor, y: &Tensor) -> Result<Vec<Tensor>> {
        tch::with_grad(|| {
            let loss = self.loss(&self.forward(x)?, y)?;
            Ok(Tensor::f_run_backward(&[&loss], &self.parameters, false, false)?)
        })
    }

    /// The gradient of every sample's loss by itself, sample by sample.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn individual_gradients(&self, x: &Tensor, y: &Tensor) -> Result<Vec<Vec<Tensor>>> {
        (0..x.size()[0]).map(|sample| self.gradient(&x.narrow(0, sample, 1), &y.narrow(0, sample, 1))).collect()
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut values = vec![x.shallow_clone()];
        for step in &self.layers {
            let inputs: Vec<&Tensor> = step.inputs.iter().map(|&value| &values[value]).collect();
            values.push(apply(&step.options, &step.parameters, &step.buffers, &inputs)?);
        }
        Ok(values.swap_remove(self.layers.len()))
    }

    fn loss(&self, output: &Tensor, y: &Tensor) -> Result<Tensor> {
        let none = None::<&Tensor>;
        Ok(match self.loss {
            LossKind::CrossEntropy => output.f_cross_entropy_loss(y, none, self.reduction, -100, 0.0)?,
            LossKind::Mse => output.f_mse_loss(y, self.reduction)?,
            LossKind::BceWithLogits => output.f_binary_cross_entropy_with_logits(y, none, none, self.reduction)?,
        })
    }
}

/// One layer as libtorch has it.
fn apply(options: &LayerOptions, parameters: &[Tensor], buffers: &[Tensor], inputs: &[&Tensor]) -> Result<Tensor> {
    let x = inputs[0];
    let (weight, bias) = (parameters.first(), parameters.get(1));
    let image = |axis: usize| x.size()[axis];
    Ok(match (options, weight) {
        (LayerOptions::Linear(_), Some(weight)) => x.f_linear(weight, bias)?,
        (LayerOptions::Conv2d(conv), Some(weight)) => {
            let choice = conv.padding.zeros();
            let zeros = choice.resolve([image(2), image(3)], conv.kernel_size, conv.stride, conv.dilation);
            let (x, padding) = padded(x, zeros)?;
            x.f_conv2d(weight, bias, conv.stride, padding, conv.dilation, conv.groups)?
        }
        (LayerOptions::ConvTranspose2d(conv), Some(weight)) => x.f_conv_transpose2d(
            weight,
            bias,
            conv.stride,
            conv.padding,
            conv.output_padding,
            conv.groups,
            conv.dilation,
        )?,
        (LayerOptions::BatchNorm2d(norm), Some(_)) => {
            x.f_batch_norm(weight, bias, buffers.first(), buffers.get(1), !norm.frozen, norm.momentum, norm.eps, false)?
        }
        (LayerOptions::MaxPool2d(pool), _) => {
            let (x, native) = pool_padded(x, pool.padding, pool.kernel_size, pool.stride, pool.dilation)?;
            x.f_max_pool2d(pool.kernel_size, pool.stride, native, pool.dilation, pool.ceil_mode)?
        }
        (LayerOptions::AvgPool2d(pool), _) => {
            let (x, native) = pool_padded(x, pool.padding, pool.kernel_size, pool.stride, [1, 1])?;
            x.f_avg_pool2d(pool.kernel_size, pool.stride, native, pool.ceil_mode, true, None::<i64>)?
        }
        (LayerOptions::AdaptiveAvgPool2d(pool), _) => x.f_adaptive_avg_pool2d(pool.output_size)?,
        (LayerOptions::ZeroPad2d(pad), _) => x.f_constant_pad_nd(pad.padding)?,
        (LayerOptions::Flatten(flatten), _) => x.f_flatten(flatten.start_dim, flatten.end_dim)?,
        (LayerOptions::Pad(pad), _) => x.f_pad(pad.padding.as_slice(), "constant", pad.value)?,
        (LayerOptions::Slice(slice), _) => LinearMap::forward(&slice.index.parse::<Slice>()?, x)?,
        (LayerOptions::Permute(permute), _) => x.f_permute(permute.dims.as_slice())?,
        (LayerOptions::Reshape(reshape), _) => {
            x.f_reshape([&x.size()[..1], reshape.shape.as_slice()].concat().as_slice())?
        }
        (LayerOptions::Scale(scale), _) => x.f_mul_scalar(scale.factor)?,
        (LayerOptions::Mean(mean), _) => x.f_mean_dim(mean.dim.as_slice(), false, None::<Kind>)?,
        (LayerOptions::Embedding(_), Some(weight)) => Tensor::f_embedding(weight, x, -1, false, false)?,
        (LayerOptions::PositionEmbedding(_), Some(weight)) => x.f_add(weight)?,
        (LayerOptions::Gain(_), Some(weight)) => x.f_mul(weight)?,
        (LayerOptions::Add, _) => inputs[1..].iter().try_fold(x.shallow_clone(), |sum, other| sum.f_add(other))?,
        (LayerOptions::Multiply, _) => {
            inputs[1..].iter().try_fold(x.shallow_clone(), |product, other| product.f_mul(other))?
        }
        (LayerOptions::Concat(concat), _) => Tensor::f_cat(inputs, concat.dim)?,
        (LayerOptions::Dropout(dropout), _) => x.f_dropout(dropout.p, true)?,
        (LayerOptions::Relu, _) => x.f_relu()?,
        // The bindings have leaky_relu and elu with libtorch's default options alone.
        (LayerOptions::LeakyRelu(relu), _) => {
            x.f_prelu(&Tensor::full([1], relu.negative_slope, (x.kind(), x.device())))?
        }
        (LayerOptions::Elu(elu), _) if elu.alpha == 1.0 => x.f_elu()?,
        (LayerOptions::Elu(elu), _) => x.f_relu()? + x.f_clamp_max(0.0)?.f_elu()? * elu.alpha,
        (LayerOptions::Selu, _) => x.f_selu()?,
        (LayerOptions::Sigmoid, _) => x.f_sigmoid()?,
        (LayerOptions::Tanh, _) => x.f_tanh()?,
        (LayerOptions::LogSigmoid, _) => x.f_log_sigmoid()?,
        (LayerOptions::Gelu, _) => x.f_gelu("none")?,
        (LayerOptions::Silu, _) => x.f_silu()?,
        (LayerOptions::Identity, _) | (_, None) => x.shallow_clone(),
    })
}

/// The input with what libtorch cannot pad by itself, and what is left for it to pad.
fn padded(x: &Tensor, zeros: Padding) -> Result<(Tensor, [i64; 2])> {
    Ok(match zeros.is_symmetric() {
        true => (x.shallow_clone(), [zeros.top, zeros.left]),
        false => (x.f_constant_pad_nd(zeros.list())?, [0, 0]),
    })
}

/// As [`padded`] for pooling, where only symmetric padding is libtorch's and all other one is of zeros.
fn pool_padded(
    x: &Tensor,
    padding: PaddingOption,
    kernel: [i64; 2],
    stride: [i64; 2],
    dilation: [i64; 2],
) -> Result<(Tensor, [i64; 2])> {
    if let PaddingOption::Symmetric(native) = padding {
        return Ok((x.shallow_clone(), native));
    }
    let zeros = padding.zeros().resolve([x.size()[2], x.size()[3]], kernel, stride, dilation);
    let x = if zeros.is_zero() { x.shallow_clone() } else { x.f_constant_pad_nd(zeros.list())? };
    Ok((x, [0, 0]))
}

/// The largest difference between two lists of tensors, as a share of the largest entry of all of them.
pub fn difference(one: &[Tensor], other: &[Tensor]) -> f64 {
    let largest = |tensor: &Tensor| tensor.abs().max().to_kind(Kind::Double).double_value(&[]);
    let far = one.iter().zip(other).map(|(one, other)| largest(&(one - other))).fold(0.0, f64::max);
    far / other.iter().map(largest).fold(f64::MIN_POSITIVE, f64::max)
}
