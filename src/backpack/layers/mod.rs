//! Layers: the forward map and its Jacobian products with respect to input and parameters, one file a layer family.
//!
//! Shapes. `N` is the number of samples; `V` counts vectors that are pushed through a Jacobian together (the *free
//! axis*: one for the gradient, `C` for the exact square root of the GGN, `M` for the sampled one). A layer maps
//! `[N, *in]` to `[N, *out]`; its Jacobian products map `[V, N, *out]` to `[V, N, *in]` and back. The samples of a
//! batch do not mix (BatchNorm while training excepted, which has no per-sample quantities).
//!
//! A layer of your own implements [`Layer`]: the forward map and the Jacobian products suffice, the first-order and
//! diagonal quantities follow from them; `examples/custom_layer.rs` shows one.

mod activations;
mod affine;
mod attention;
mod axes;
mod batch_norm;
mod conv;
mod conv_transpose;
mod curvature;
mod dropout;
mod embedding;
mod kronecker;
mod layer_type;
mod learned_tensor;
mod linear;
mod linear_map;
mod merge;
mod merges;
mod norms;
mod padding;
mod parameter;
mod pools;
mod recurrent;
mod registry;
mod reshape;
mod saved;
mod second_moment;
mod shifted_products;
mod site;
mod sizes;
mod taken;

use std::fmt;

use tch::{Kind, Tensor};

use crate::backpack::init::Init;
use crate::error::{Error, Result};

pub(crate) use kronecker::BatchFactors;
pub(crate) use second_moment::{add_second_moment, second_moment};

pub use activations::{
    Activation, Elu, Function, Gelu, GeluApproximation, Identity, LeakyRelu, LogSigmoid, Relu, Selu, Sigmoid, Silu,
    Tanh,
};
pub use attention::{Attention, AttentionOptions, SelfAttention, SelfAttentionOptions};
pub use axes::Channels;
pub use batch_norm::{
    BatchNorm1d, BatchNorm1dOptions, BatchNorm2d, BatchNorm2dOptions, BatchNorm3d, BatchNorm3dOptions, BatchNormOptions,
};
pub use conv::{Conv1d, Conv1dOptions, Conv2d, Conv2dOptions, Conv3d, Conv3dOptions, ConvOptions};
pub use conv_transpose::{
    ConvTranspose1d, ConvTranspose1dOptions, ConvTranspose2d, ConvTranspose2dOptions, ConvTranspose3d,
    ConvTranspose3dOptions, ConvTransposeOptions,
};
pub use curvature::{Curvature, MixedDerivative, Recursion, SecondDerivative, Tangent, VjpTangent};
pub use dropout::{Dropout, DropoutOptions};
pub use embedding::{Embedding, EmbeddingOptions};
pub use kronecker::{Basis, Reading};
pub use layer_type::{AnyOptions, LayerEntry, LayerOption, LayerType, Site, Specimen};
pub use learned_tensor::{
    ClassToken, ClassTokenOptions, Gain, GainOptions, PositionEmbedding, PositionEmbeddingOptions,
};
pub use linear::{Linear, LinearOptions};
pub use linear_map::{LinearMap, Mean, Scale, Slice, SliceOptions};
pub use merge::{Bend, Merge, Residual};
pub use merges::{Add, AddOptions, Concat, Multiply, MultiplyOptions};
pub use norms::{GroupNormOptions, LayerNormOptions, Norm, RmsNormOptions};
pub use padding::{Pad, Padding, PaddingChoice, ZeroPad2d, ZeroPad2dOptions};
pub use parameter::{Parameter, ParameterSource, is_bias};
pub use pools::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveAvgPoolOptions, AvgPool1d, AvgPool1dOptions,
    AvgPool2d, AvgPool2dOptions, AvgPool3d, AvgPool3dOptions, AvgPoolOptions, MaxPool1d, MaxPool1dOptions, MaxPool2d,
    MaxPool2dOptions, MaxPool3d, MaxPool3dOptions, MaxPoolOptions,
};
pub use recurrent::{Lstm, LstmOptions, Nonlinearity, Rnn, RnnOptions};
pub(crate) use registry::replace as replace_layer_types;
pub use registry::{LAYER_TYPES, layer_type, layer_types};
pub use reshape::{Flatten, FlattenAxes, Permute, Reshape};
pub use saved::Saved;
pub use site::{AffineSite, EntrywiseSite, FactoredSite, KroneckerSupport, OrderedRows, ParameterSite};
pub use sizes::MAX_ENTRIES;

/// The initial values that a problem file can choose for most layers.
const WEIGHT_AND_BIAS: &[(&str, Init)] = &[("weight", Init::Default), ("bias", Init::Default)];

/// How a forward pass is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout is the identity, BatchNorm uses its running statistics.
    Evaluation,
    /// Dropout draws its masks from the stream of this seed and training step; BatchNorm uses the batch's statistics
    /// (unless frozen), and the pass tells what moves its running ones.
    Training {
        /// The run's seed.
        seed: u64,
        /// The number of training steps taken before this one.
        step: u64,
    },
}

/// A map of a batch with its derivatives. See the module's documentation for the shapes.
///
/// The first block of methods is what a layer has to say; the second has default implementations on top of the first,
/// which a layer overrides where it knows a faster way.
pub trait Layer: Send {
    /// The layer type's name, as in problem files ("conv2d").
    fn kind(&self) -> &'static str;

    /// The shape of the output of one sample, for the shape of one input; an error names what does not fit.
    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>>;

    /// The forward map, `[N, *in]` to `[N, *out]`, and what the Jacobian products need.
    fn forward(&self, input: &Tensor, mode: Mode) -> Result<Saved>;

    /// The forward map as libtorch alone has it, with tensors as they lie in memory, for automatic differentiation: the
    /// yardstick of `bench`. It differs from [`Self::forward`] where that is made of other operations for speed.
    fn library(&self, input: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.forward(input, mode)?.output)
    }

    /// Where its input is made of integers, how many different ones there are, from 0 on; None for numbers.
    fn integers(&self) -> Option<i64> {
        None
    }

    /// The transposed Jacobian with respect to the input times `v`: `[V, N, *out]` to `[V, N, *in]`.
    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor>;

    /// The Jacobian with respect to the input times `v`: `[V, N, *in]` to `[V, N, *out]`.
    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor>;

    /// How many numbers of a sample it holds beside input and output, in the forward pass and for each vector on its way
    /// through: memory is estimated, and chunks are cut, by them.
    fn held_within(&self, _input: &[i64]) -> i64 {
        0
    }

    /// The parameters, in the order in which the methods below count them.
    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    /// The parameters, for replacing their values.
    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut []
    }

    /// Tensors that are part of the layer's state but not trained (BatchNorm's running statistics).
    fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        Vec::new()
    }

    /// The buffers, for replacing their values.
    fn buffers_mut(&mut self) -> Vec<(&'static str, &mut Tensor)> {
        Vec::new()
    }

    /// What the buffers are to be moved by after this forward pass (BatchNorm: the batch's own statistics), if at all.
    fn statistics(&self, _saved: &Saved) -> Vec<Tensor> {
        Vec::new()
    }

    /// Moves the buffers by what [`Self::statistics`] gave.
    fn update_buffers(&mut self, _statistics: &[Tensor]) -> Result<()> {
        Ok(())
    }

    /// The transposed Jacobian with respect to a parameter times `v`, for each sample by itself: `[V, N, *out]` to
    /// `[V, N, *p]`. A parameter whose [`Self::site`] says more has it from there.
    fn parameter_vjp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        match self.site(parameter) {
            ParameterSite::Factored(site) => affine::products(site, saved, parameter, v),
            ParameterSite::Affine(site, _) => affine::products(site, saved, parameter, v),
            ParameterSite::Entrywise(site, _) => site::entrywise_products(site, saved, parameter, v),
            ParameterSite::Products(_) => Err(no_parameter(self.kind(), parameter)),
        }
    }

    /// The Jacobian with respect to a parameter times `v`: `[V, *p]` to `[V, N, *out]`. Scales and shifts
    /// ([`EntrywiseSite`]) have it from their site.
    fn parameter_jvp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        match self.site(parameter) {
            ParameterSite::Entrywise(site, _) => site::entrywise_moved(site, saved, parameter, v),
            _ => Err(no_parameter(self.kind(), parameter)),
        }
    }

    /// How a parameter meets the input, which decides how quantities are made of it.
    fn site(&self, _parameter: usize) -> ParameterSite<'_> {
        ParameterSite::Products("it has no Kronecker factors")
    }

    /// How the output depends on the input to second order. The Hessian's diagonal takes the output as linear in each
    /// parameter, as it is in every built-in layer: one of which that is not true gives [`Curvature::Unrooted`] with that as
    /// the reason.
    fn curvature(&self) -> Curvature<'_> {
        Curvature::General
    }

    /// How its transposed Jacobian products move, for products with the Hessian. A layer without parameters whose
    /// [`Self::curvature`] is zero or elementwise needs none.
    fn tangent(&self) -> Option<&dyn Tangent> {
        None
    }

    /// How parameter and input meet in its second derivative. Without it the Hessian's diagonal leaves out a parameter that an
    /// earlier layer uses too.
    fn mixed(&self) -> Option<&dyn MixedDerivative> {
        None
    }

    /// KFRA's recursion through it, where that is defined.
    fn recursion(&self) -> Option<&dyn Recursion> {
        None
    }

    /// How the Jacobian with respect to the input treats channels. What does not mix them is gone through by sums over
    /// positions, without the largest vectors and matrices.
    fn channels(&self) -> Channels {
        Channels::Mixed
    }

    /// Whether the samples of a batch are independent of each other in this mode; where they are not (BatchNorm while
    /// training) there is nothing but the gradient.
    fn samples_are_independent(&self, _mode: Mode) -> bool {
        true
    }

    // What follows has defaults.

    /// The parameters' gradients, in their order, and where wanted the input's, for the gradient `g` of a loss with
    /// respect to the output: `[N, *out]` to `[*p]` each and `[N, *in]`. This is the path that drives training.
    fn gradient(&self, saved: &Saved, g: &Tensor, want_input: bool) -> Result<(Vec<Tensor>, Option<Tensor>)> {
        gradient_by_parameter(self, saved, g, want_input)
    }

    /// The summed parameter product: `[V, N, *out]` to `[V, *p]`.
    fn parameter_vjp_sum(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        if let ParameterSite::Entrywise(site, _) = self.site(parameter) {
            return site::entrywise_products_sum(site, saved, parameter, v);
        }
        let each = self.parameter_vjp(saved, parameter, v)?;
        Ok(each.sum_dim_intlist(1, false, None::<Kind>))
    }

    /// Which of several exact ways this layer computes something by, chosen by counted cost; a line each, for logs.
    fn choices(&self) -> Vec<String> {
        Vec::new()
    }
}

/// [`Layer::gradient`] by the products with respect to each parameter and to the input.
fn gradient_by_parameter<L: Layer + ?Sized>(
    layer: &L,
    saved: &Saved,
    g: &Tensor,
    want_input: bool,
) -> Result<(Vec<Tensor>, Option<Tensor>)> {
    let v = g.unsqueeze(0);
    let parameters = (0..layer.parameters().len())
        .map(|parameter| Ok(layer.parameter_vjp_sum(saved, parameter, &v)?.squeeze_dim(0)))
        .collect::<Result<Vec<Tensor>>>()?;
    let input = if want_input { Some(layer.vjp(saved, &v)?.squeeze_dim(0)) } else { None };
    Ok((parameters, input))
}

/// Checks that what arrives has the shape that a layer of this type was built for.
fn built_for(kind: &str, own: &[i64], input: &[i64]) -> Result<()> {
    if input == own {
        return Ok(());
    }
    Err(Error::Shape(format!("{kind}: built for an input of {own:?}, got {input:?}")))
}

impl fmt::Debug for dyn Layer + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let parameters = self.parameters().iter().map(|parameter| (parameter.name, parameter.value.size()));
        write!(formatter, "{} {:?}", self.kind(), parameters.collect::<Vec<_>>())
    }
}

fn no_parameter(kind: &str, parameter: usize) -> Error {
    Error::Unsupported(format!("{kind} has no parameter number {parameter}"))
}

/// `[V, N, *rest]` as `[V * N, *rest]`, the batch of a libtorch call.
pub(crate) fn merge(v: &Tensor) -> Tensor {
    v.flatten(0, 1)
}

/// `[V * N, *rest]` as `[V, N, *rest]`.
pub(crate) fn split(merged: &Tensor, samples: i64) -> Tensor {
    let mut shape = merged.size();
    let vectors = shape[0] / samples;
    shape[0] = samples;
    shape.insert(0, vectors);
    merged.reshape(shape.as_slice())
}

/// The mean over samples of the outer products of `[N, *]`, flattened: `[features, features]`.
pub(crate) fn averaged_outer(values: &Tensor) -> Tensor {
    let flat = values.flatten(1, -1);
    flat.tr().mm(&flat) / flat.size()[0] as f64
}

/// `J^T G J` for a Jacobian that is the same for every sample: `back` maps rows `[K, *out]` to `[K, *in]`.
pub(crate) fn both_sides(g: &Tensor, output: &[i64], back: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let once = |matrix: &Tensor| -> Result<Tensor> {
        let rows = matrix.reshape([&[matrix.size()[0]], output].concat().as_slice());
        Ok(back(&rows)?.flatten(1, -1))
    };
    once(&once(g)?.tr())
}

/// An image batch `[N, C, H, W]` with its channels last in memory, the order in which convolutions and pooling run
/// fastest on CPUs; the shape stays the same, and a tensor that lies like this already is not copied.
pub(crate) fn channels_last(x: &Tensor) -> Tensor {
    let Ok((samples, channels, height, width)) = x.size4() else {
        return x.shallow_clone();
    };
    let x = x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
    if channels == 1 {
        // With one channel both orders are the same in memory; only its stride tells libtorch which one is meant.
        return x.as_strided([samples, 1, height, width], [height * width, 1, width, 1], None::<i64>);
    }
    x
}

/// Room for `[*leading, C, H, W]` with channels last in memory.
pub(crate) fn channels_last_room(leading: &[i64], image: [i64; 3], like: &Tensor) -> Tensor {
    let [channels, height, width] = image;
    let shape = [leading, &[height, width, channels]].concat();
    let axes = leading.len() as i64;
    let order: Vec<i64> = (0..axes).chain([axes + 2, axes, axes + 1]).collect();
    Tensor::empty(shape.as_slice(), (like.kind(), like.device())).permute(order.as_slice())
}

impl<'a> dyn Layer + 'a {
    /// [`Tangent::vjp_tangent`], of layers that need not say it too.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where products with the Hessian cannot go through the layer.
    pub fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        if let Some(tangent) = self.tangent() {
            return tangent.vjp_tangent(saved, g, input, parameters);
        }
        match self.curvature() {
            Curvature::Zero if self.parameters().is_empty() => Ok(VjpTangent::default()),
            Curvature::Elementwise(function) if self.parameters().is_empty() => Ok(VjpTangent {
                input: match input {
                    Some(tangent) => Some(function.second_derivative(saved)? * g * tangent),
                    None => None,
                },
                parameters: Vec::new(),
            }),
            _ => Err(Error::Unsupported(format!("products with the Hessian cannot go through {}", self.kind()))),
        }
    }

    /// Why KFRA's recursion cannot go through this layer with inputs of this shape; None where it can.
    pub fn refuses_kfra(&self, input: &[i64]) -> Option<String> {
        match self.recursion() {
            Some(recursion) => recursion.refuses(input),
            None => Some(format!("kfra's recursion is not defined for {}; kfac and kflr may be", self.kind())),
        }
    }

    /// [`Recursion::input`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the recursion is not defined.
    pub fn kfra_input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        match self.recursion() {
            Some(recursion) => recursion.input(saved, g),
            None => Err(Error::Unsupported(format!("KFRA cannot go through {}", self.kind()))),
        }
    }
}
