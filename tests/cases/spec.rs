//! A layer or an activation as a case names it: how this crate builds it, and what libtorch's own function for it is.

use backpack_run::backpack::layers::{
    Activation, AdaptiveAvgPool2d, Add, Attention, AvgPool2d, AvgPool2dOptions, BatchNorm2d, BatchNorm2dOptions,
    Concat, Conv2d, Conv2dOptions, ConvTranspose2d, ConvTranspose2dOptions, Dropout, Elu, Embedding, Flatten,
    FlattenAxes, Gain, Gelu, GeluApproximation, Identity, Layer, LeakyRelu, Linear, LinearOptions, LogSigmoid,
    MaxPool2d, MaxPool2dOptions, Mean, Merge, Multiply, Pad, Padding, PaddingChoice, ParameterSource, Permute,
    PositionEmbedding, Relu, Reshape, Scale, Selu, Sigmoid, Silu, Site, Slice, Tanh, ZeroPad2d, layer_type,
};
use backpack_run::backpack::network::Operation;
use backpack_run::backpack::{Part, Value};
use tch::Tensor;

/// An activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ActivationKind {
    Relu,
    LeakyRelu { negative_slope: f64 },
    Elu { alpha: f64 },
    Selu,
    Sigmoid,
    Tanh,
    LogSigmoid,
    Gelu,
    TanhGelu,
    Silu,
    Identity,
}

impl ActivationKind {
    pub fn layer(self) -> Box<dyn Layer> {
        match self {
            ActivationKind::Relu => Box::new(Activation::new(Relu {})),
            ActivationKind::LeakyRelu { negative_slope } => Box::new(Activation::new(LeakyRelu { negative_slope })),
            ActivationKind::Elu { alpha } => Box::new(Activation::new(Elu { alpha })),
            ActivationKind::Selu => Box::new(Activation::new(Selu {})),
            ActivationKind::Sigmoid => Box::new(Activation::new(Sigmoid {})),
            ActivationKind::Tanh => Box::new(Activation::new(Tanh {})),
            ActivationKind::LogSigmoid => Box::new(Activation::new(LogSigmoid {})),
            ActivationKind::Gelu => Box::new(Activation::new(Gelu { approximate: GeluApproximation::None })),
            ActivationKind::TanhGelu => Box::new(Activation::new(Gelu { approximate: GeluApproximation::Tanh })),
            ActivationKind::Silu => Box::new(Activation::new(Silu {})),
            ActivationKind::Identity => Box::new(Activation::new(Identity {})),
        }
    }
}

/// A layer.
#[derive(Clone, Debug)]
pub enum Spec {
    Linear(LinearOptions),
    Conv(Conv2dOptions),
    ConvTranspose(ConvTranspose2dOptions),
    MaxPool(MaxPool2dOptions),
    AvgPool(AvgPool2dOptions),
    AdaptiveAvgPool([i64; 2]),
    BatchNorm(BatchNorm2dOptions),
    ZeroPad(Padding),
    Flat,
    Drop(f64),
    Act(ActivationKind),
    /// A layer that takes not the value before it, but this one: 0 is the input, 1 the first layer's output.
    Of(usize, Box<Spec>),
    Table(i64, i64),
    Shifted(Option<&'static [i64]>),
    Gained(Option<&'static [i64]>),
    Padded(&'static [i64], f64),
    Sliced(&'static str),
    Permuted(&'static [i64]),
    Reshaped(&'static [i64]),
    Scaled(f64),
    Averaged(&'static [i64]),
    FlatAxes(i64, i64),
    /// A layer by its type and options in a problem file, and libtorch's own function of its input and parameters.
    Typed(&'static str, &'static str, fn(&Tensor, &[Tensor]) -> Tensor),
    /// Merges of values, counted likewise.
    Sum(Vec<usize>),
    Product(Vec<usize>),
    Cat(i64, Vec<usize>),
    /// Attention, causal or not, of three values.
    Attend(bool, [usize; 3]),
}

macro_rules! from_options {
    ($($options:ty => $variant:ident),* $(,)?) => {
        $(impl From<$options> for Spec {
            fn from(options: $options) -> Self {
                Spec::$variant(options)
            }
        })*
    };
}

from_options! {
    LinearOptions => Linear,
    Conv2dOptions => Conv,
    ConvTranspose2dOptions => ConvTranspose,
    MaxPool2dOptions => MaxPool,
    AvgPool2dOptions => AvgPool,
    BatchNorm2dOptions => BatchNorm,
    Padding => ZeroPad,
    ActivationKind => Act,
}

pub fn linear(out_features: i64) -> LinearOptions {
    LinearOptions { out_features, bias: true }
}

pub fn conv(out_channels: i64, kernel_size: [i64; 2]) -> Conv2dOptions {
    Conv2dOptions { out_channels, kernel_size, ..Default::default() }
}

pub fn conv_transpose(out_channels: i64, kernel_size: [i64; 2]) -> ConvTranspose2dOptions {
    ConvTranspose2dOptions { out_channels, kernel_size, ..Default::default() }
}

pub fn max_pool(kernel_size: [i64; 2]) -> MaxPool2dOptions {
    MaxPool2dOptions { kernel_size, ..Default::default() }
}

pub fn avg_pool(kernel_size: [i64; 2]) -> AvgPool2dOptions {
    AvgPool2dOptions { kernel_size, ..Default::default() }
}

pub fn batch_norm() -> BatchNorm2dOptions {
    BatchNorm2dOptions::default()
}

pub fn pad(left: i64, right: i64, top: i64, bottom: i64) -> Padding {
    Padding { left, right, top, bottom }
}

/// Explicit padding of a convolution.
pub fn around(left: i64, right: i64, top: i64, bottom: i64) -> PaddingChoice {
    PaddingChoice::Ends { before: [top, left], behind: [bottom, right] }
}

impl Spec {
    /// How many different integers it takes, where it takes any.
    pub fn integers(&self) -> Option<i64> {
        if let Spec::Table(rows, _) = self { Some(*rows) } else { None }
    }

    /// The network's part at this place, for values of these shapes, and its output's shape.
    pub fn part(&self, place: usize, shapes: &[Vec<i64>]) -> (Part, Vec<i64>) {
        let name = place.to_string();
        let value = |number: &usize| number.checked_sub(1).map_or(Value::INPUT, Value::of_node);
        let merge = |merge: Box<dyn Merge>, inputs: &[usize]| {
            let arriving: Vec<&[i64]> = inputs.iter().map(|&input| shapes[input].as_slice()).collect();
            let shape = merge.output_shape(&arriving).unwrap();
            (Part::merge(name.clone(), merge, inputs.iter().map(value).collect()), shape)
        };
        let layer = |spec: &Spec, input: usize| {
            let layer = spec.build(&shapes[input], place as u32);
            let shape = layer.output_shape(&shapes[input]).unwrap();
            (Part::layer(name.clone(), layer, value(&input)), shape)
        };
        match self {
            Spec::Of(input, spec) => layer(spec, *input),
            Spec::Sum(inputs) => merge(Box::new(Add), inputs),
            Spec::Product(inputs) => merge(Box::new(Multiply), inputs),
            Spec::Cat(dim, inputs) => merge(Box::new(Concat::new(*dim).unwrap()), inputs),
            Spec::Attend(causal, inputs) => merge(Box::new(Attention { causal: *causal }), inputs),
            spec => layer(spec, place),
        }
    }

    /// This crate's layer, for an input of this shape.
    fn build(&self, input: &[i64], place: u32) -> Box<dyn Layer> {
        match self {
            Spec::Linear(options) => Box::new(Linear::new(input, options).unwrap()),
            Spec::Conv(options) => Box::new(Conv2d::new(input, options).unwrap()),
            Spec::ConvTranspose(options) => Box::new(ConvTranspose2d::new(input, options).unwrap()),
            Spec::MaxPool(options) => Box::new(MaxPool2d::new(input, options).unwrap()),
            Spec::AvgPool(options) => Box::new(AvgPool2d::new(input, options).unwrap()),
            Spec::AdaptiveAvgPool(size) => Box::new(AdaptiveAvgPool2d::new(input, *size).unwrap()),
            Spec::BatchNorm(options) => Box::new(BatchNorm2d::new(input, options).unwrap()),
            Spec::ZeroPad(padding) => Box::new(ZeroPad2d::new(input, *padding).unwrap()),
            Spec::Flat => Box::new(Flatten::new()),
            Spec::Drop(p) => Box::new(Dropout::new(*p, place).unwrap()),
            Spec::Act(kind) => kind.layer(),
            Spec::Table(rows, width) => Box::new(Embedding::new(*rows, *width).unwrap()),
            Spec::Shifted(shape) => Box::new(PositionEmbedding::new(input, *shape).unwrap()),
            Spec::Gained(shape) => Box::new(Gain::new(input, *shape, 1.0).unwrap()),
            Spec::Padded(padding, value) => Box::new(Pad::new(padding, *value).unwrap()),
            Spec::Sliced(index) => Box::new(index.parse::<Slice>().unwrap()),
            Spec::Permuted(dims) => Box::new(Permute::new(dims).unwrap()),
            Spec::Reshaped(shape) => Box::new(Reshape::new(shape).unwrap()),
            Spec::Scaled(factor) => Box::new(Scale::new(*factor)),
            Spec::Averaged(dims) => Box::new(Mean::new(dims)),
            Spec::FlatAxes(start, end) => Box::new(FlattenAxes::new(*start, *end)),
            Spec::Typed(kind, options, _) => typed(kind, options, input, place),
            Spec::Of(..) | Spec::Sum(_) | Spec::Product(_) | Spec::Cat(..) | Spec::Attend(..) => {
                panic!("{self:?} is not a layer")
            }
        }
    }

    /// The outputs (channels) and groups, for each parameter; None where it has no Kronecker factors.
    pub fn outputs_and_groups(&self) -> Vec<Option<(i64, i64)>> {
        let (outputs, groups, bias) = match self {
            Spec::Linear(o) => (o.out_features, 1, o.bias),
            Spec::Conv(o) => (o.out_channels, o.groups, o.bias),
            Spec::ConvTranspose(o) => (o.out_channels, o.groups, o.bias),
            Spec::Of(_, spec) => return spec.outputs_and_groups(),
            Spec::Table(..) | Spec::Shifted(_) | Spec::Gained(_) => return vec![None],
            Spec::BatchNorm(_) => return vec![None; 2],
            Spec::Typed(kind, options, _) => {
                let values = layer_type(kind).unwrap().parse(options).unwrap().values();
                let number = |key: &str| values.get(key).and_then(|value| value.as_i64());
                let Some(outputs) = number("out_channels").or(number("out_features")) else {
                    let has = |key: &str| usize::from(values.get(key) == Some(&true.into()));
                    let count = match *kind {
                        "layer_norm" => has("elementwise_affine") * (1 + has("bias")),
                        "rms_norm" => has("elementwise_affine"),
                        "group_norm" => 2 * has("affine"),
                        "class_token" => 1,
                        "rnn" | "lstm" => 2 + 2 * has("bias"),
                        kind if kind.starts_with("batch_norm") => 2,
                        _ => 0,
                    };
                    return vec![None; count];
                };
                (outputs, number("groups").unwrap_or(1), values["bias"] == true)
            }
            _ => return Vec::new(),
        };
        vec![Some((outputs, groups)); if bias { 2 } else { 1 }]
    }

    /// libtorch's own function of the values so far, with these parameters and then buffers, taken in the network's
    /// order. A dropout layer
    /// is this crate's alone and is given as the identity.
    pub fn libtorch(&self, values: &[Tensor], tensors: &mut dyn Iterator<Item = Tensor>) -> Tensor {
        let x = &values[values.len() - 1];
        let mut next = |wanted: bool| wanted.then(|| tensors.next().expect("there are as many tensors as slots"));
        match self {
            Spec::Table(..) => Tensor::embedding(&next(true).unwrap(), x, -1, false, false),
            Spec::Shifted(_) => x + next(true).unwrap(),
            Spec::Gained(_) => x * next(true).unwrap(),
            Spec::Padded(padding, value) => x.pad(*padding, "constant", *value),
            Spec::Sliced(index) => sliced(x, index),
            Spec::Permuted(dims) => x.permute(*dims),
            Spec::Reshaped(shape) => x.reshape([&x.size()[..1], shape].concat()),
            Spec::Scaled(factor) => x * *factor,
            Spec::Averaged(dims) => x.mean_dim(*dims, false, x.kind()),
            Spec::FlatAxes(start, end) => x.flatten(*start, *end),
            Spec::Typed(kind, options, function) => {
                let layer = typed(kind, options, &x.size()[1..], 0);
                let count = layer.parameters().len() + layer.buffers().len();
                let own: Vec<Tensor> = (0..count).map(|_| next(true).unwrap()).collect();
                function(x, &own)
            }
            Spec::Of(input, spec) => spec.libtorch(&values[*input..=*input], tensors),
            Spec::Sum(inputs) => {
                inputs[1..].iter().fold(values[inputs[0]].shallow_clone(), |sum, &input| sum + &values[input])
            }
            Spec::Product(inputs) => {
                inputs[1..].iter().fold(values[inputs[0]].shallow_clone(), |product, &input| product * &values[input])
            }
            Spec::Attend(causal, [q, k, v]) => attention(&values[*q], &values[*k], &values[*v], *causal),
            Spec::Cat(dim, inputs) => {
                Tensor::cat(&inputs.iter().map(|&input| &values[input]).collect::<Vec<_>>(), *dim)
            }
            Spec::Linear(options) => {
                let weight = next(true).unwrap();
                x.linear(&weight, next(options.bias).as_ref())
            }
            Spec::Conv(o) => {
                let weight = next(true).unwrap();
                let padding = resolved(o.padding, x, o.kernel_size, o.stride, o.dilation);
                let padded = x.constant_pad_nd(padding);
                padded.conv2d(&weight, next(o.bias).as_ref(), o.stride, [0, 0], o.dilation, o.groups)
            }
            Spec::ConvTranspose(o) => {
                let weight = next(true).unwrap();
                let bias = next(o.bias);
                x.conv_transpose2d(&weight, bias.as_ref(), o.stride, o.padding, o.output_padding, o.groups, o.dilation)
            }
            Spec::MaxPool(o) => {
                let (padded, native) =
                    pooled(o.padding, x, o.kernel_size, o.stride.unwrap_or(o.kernel_size), o.dilation);
                padded.max_pool2d(o.kernel_size, o.stride.unwrap_or(o.kernel_size), native, o.dilation, o.ceil_mode)
            }
            Spec::AvgPool(o) => {
                let (padded, native) = pooled(o.padding, x, o.kernel_size, o.stride.unwrap_or(o.kernel_size), [1, 1]);
                padded.avg_pool2d(
                    o.kernel_size,
                    o.stride.unwrap_or(o.kernel_size),
                    native,
                    o.ceil_mode,
                    o.count_include_pad,
                    None::<i64>,
                )
            }
            Spec::AdaptiveAvgPool(size) => x.adaptive_avg_pool2d(size),
            Spec::BatchNorm(o) => {
                let [weight, bias, mean, variance] = std::array::from_fn(|_| next(true));
                x.batch_norm(weight, bias, mean, variance, false, o.momentum, o.eps, false)
            }
            Spec::ZeroPad(padding) => x.constant_pad_nd(padding.list()),
            Spec::Flat => x.flatten(1, -1),
            Spec::Drop(_) => x.shallow_clone(),
            Spec::Act(kind) => match *kind {
                ActivationKind::Relu => x.relu(),
                // libtorch's leaky_relu and elu take no options in these bindings; their definitions do.
                ActivationKind::LeakyRelu { negative_slope } => x.clamp_min(0.0) + x.clamp_max(0.0) * negative_slope,
                ActivationKind::Elu { alpha } => x.clamp_min(0.0) + (x.clamp_max(0.0).exp() - 1.0) * alpha,
                ActivationKind::Selu => x.selu(),
                ActivationKind::Sigmoid => x.sigmoid(),
                ActivationKind::Tanh => x.tanh(),
                ActivationKind::LogSigmoid => x.log_sigmoid(),
                ActivationKind::Gelu => x.gelu("none"),
                ActivationKind::TanhGelu => x.gelu("tanh"),
                ActivationKind::Silu => x.silu(),
                ActivationKind::Identity => x.shallow_clone(),
            },
        }
    }
}

/// Attention, written out.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> Tensor {
    let width = *q.size().last().unwrap() as f64;
    let scores = q.matmul(&k.transpose(-2, -1)) / width.sqrt();
    let scores = match causal {
        true => scores.masked_fill(&scores.ones_like().triu(1).gt(0.5), f64::NEG_INFINITY),
        false => scores,
    };
    scores.softmax(-1, q.kind()).matmul(v)
}

/// A layer by its type and options in a problem file.
fn typed(kind: &str, options: &str, input: &[i64], place: u32) -> Box<dyn Layer> {
    let options = layer_type(kind).unwrap_or_else(|| panic!("there is no {kind}")).parse(options).unwrap();
    let site = Site { inputs: &[input], place, parameters: ParameterSource::Drawn };
    match options.build(&site).unwrap() {
        Operation::Layer(layer) => layer,
        Operation::Merge(_) => panic!("{kind} is a merge"),
    }
}

/// The slices that the cases have, written out.
fn sliced(x: &Tensor, index: &str) -> Tensor {
    match index {
        "1" => x.select(1, 1),
        "-1, ::2" => x.select(1, -1).slice(1, 0, None, 2),
        "0" => x.select(1, 0),
        ":2" => x.slice(1, 0, 2, 1),
        ":, 1:-1" => x.slice(2, 1, -1, 1),
        other => panic!("{other} is not written out"),
    }
}

/// `[left, right, top, bottom]` of a choice, TensorFlow's `same` written out.
pub fn resolved(choice: PaddingChoice, x: &Tensor, kernel: [i64; 2], stride: [i64; 2], dilation: [i64; 2]) -> [i64; 4] {
    match choice {
        PaddingChoice::Ends { before: [top, left], behind: [bottom, right] } => [left, right, top, bottom],
        PaddingChoice::Symmetric([height, width]) => [width, width, height, height],
        PaddingChoice::Same => {
            let size = x.size();
            let mut list = [0; 4];
            for axis in 0..2 {
                let input = size[2 + axis];
                let output = (input as f64 / stride[axis] as f64).ceil() as i64;
                let total = ((output - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1 - input).max(0);
                list[2 - 2 * axis] = total / 2;
                list[3 - 2 * axis] = total - total / 2;
            }
            list
        }
    }
}

fn pooled(
    padding: PaddingChoice,
    x: &Tensor,
    kernel: [i64; 2],
    stride: [i64; 2],
    dilation: [i64; 2],
) -> (Tensor, [i64; 2]) {
    match padding {
        PaddingChoice::Symmetric(native) => (x.shallow_clone(), native),
        choice => (x.constant_pad_nd(resolved(choice, x, kernel, stride, dilation)), [0, 0]),
    }
}
