//! The cases, by layer family, those of layers built from their options in `typed.rs`. A new case is one line; losses,
//! reductions, number types and the number of sampled labels are gone through for each of them.

use super::Case;
use super::spec::Spec::{self, AdaptiveAvgPool, Averaged, Cat, Drop, Flat, FlatAxes, Gained, Of, Padded, Permuted, Product, Reshaped, Scaled, Shifted, Sliced, Sum, Table};
use super::spec::{around, avg_pool, batch_norm, conv, conv_transpose, linear, max_pool, pad};
use super::spec::ActivationKind::*;
use backpack_run::backpack::layers::{
    AvgPool2dOptions, BatchNorm2dOptions, Conv2dOptions, ConvTranspose2dOptions, LinearOptions, MaxPool2dOptions,
    PaddingChoice::{Same, Symmetric},
};

/// What a linear layer with extra dimensions, an output with positions, whatever is no chain, and a parameter that is no
/// matrix refuse.
const EXTRA: &[&str] = &["kfra"];

pub fn linear_cases() -> Vec<Case> {
    let no_bias = LinearOptions { bias: false, ..linear(3) };
    vec![
        case!("logistic regression", 4, [5], [linear(3)]),
        case!("without bias", 4, [5], [no_bias, Tanh, no_bias]),
        case!("two layers", 3, [4], [linear(5), Sigmoid, linear(3)]),
        case!("three layers", 3, [3], [linear(4), Tanh, linear(4), Sigmoid, linear(2)]),
        case!("a batch of one", 1, [4], [linear(5), Sigmoid, linear(3)]),
        case!("one class", 3, [4], [linear(3), Tanh, linear(1)]),
        case!("one class, a batch of one", 1, [4], [linear(1)]),
        case!("layers before the first parameter", 3, [2, 3], [Tanh, Flat, linear(4), Relu, linear(2)]),
        case!("an activation last", 3, [4], [linear(4), Relu, linear(3), Tanh]),
        case!("an extra dimension", 3, [3, 4], [linear(3), Tanh, Flat, linear(2)]).refuses(EXTRA),
        case!("two extra dimensions", 2, [2, 3, 4], [linear(2), Sigmoid, Flat, linear(3)]).refuses(EXTRA),
        case!("extra dimensions all along", 3, [2, 3], [linear(4), Relu, linear(2), Flat, linear(3)]).refuses(EXTRA),
        case!("few positions, wide", 2, [2, 6], [linear(7), Flat, linear(2)]).refuses(EXTRA),
        case!("many positions, narrow", 2, [7, 3], [linear(2), Tanh, Flat, linear(2)]).refuses(EXTRA),
    ]
}

/// Values that several layers take, and layers that take several values. A number counts values: 0 is the input, 1 what
/// the first layer gives.
pub fn graph_cases() -> Vec<Case> {
    let of = |value, layer: Spec| Of(value, Box::new(layer));
    vec![
        case!("a residual block", 3, [4], [linear(5), Tanh, linear(5), Sum(vec![3, 1]), Sigmoid, linear(3)]).refuses(EXTRA),
        case!("the input is taken twice", 3, [4], [linear(4), Tanh, Sum(vec![2, 0]), linear(3)]).refuses(EXTRA),
        case!("two residual blocks", 2, [3], [linear(4), Tanh, linear(4), Sum(vec![3, 1]), Sigmoid, linear(4), Sum(vec![6, 4]), linear(2)]).refuses(EXTRA),
        case!("a value added to itself", 3, [4], [linear(3), Tanh, Sum(vec![2, 2, 1])]).refuses(EXTRA),
        case!("two branches from the input", 3, [4], [linear(3), Tanh, of(0, linear(3).into()), Sigmoid, Sum(vec![4, 2]), linear(2)]).refuses(EXTRA),
        case!("a branch without parameters", 3, [4], [linear(4), of(0, Sigmoid.into()), Sum(vec![1, 2]), Tanh, linear(3)]).refuses(EXTRA),
        case!("a product", 3, [4], [linear(5), of(0, linear(5).into()), Tanh, Product(vec![1, 3]), linear(3)]).refuses(EXTRA),
        case!("a square", 3, [4], [linear(4), Product(vec![1, 1]), linear(3)]).refuses(EXTRA),
        case!("a gate", 3, [4], [linear(4), Sigmoid, of(1, linear(4).into()), Product(vec![3, 2]), Sum(vec![4, 1]), linear(3)]).refuses(EXTRA),
        case!("a product of three", 2, [3], [linear(3), Tanh, of(0, linear(3).into()), Sigmoid, Product(vec![2, 4, 1]), linear(2)]).refuses(EXTRA),
        case!("a product with the input", 3, [4], [linear(4), Tanh, Product(vec![0, 2]), linear(2)]).refuses(EXTRA),
        case!("squeeze and excitation", 2, [3, 4, 4], [conv(4, [3, 3]), Tanh, AdaptiveAvgPool([1, 1]), conv(4, [1, 1]), Sigmoid, Product(vec![2, 5]), Flat, linear(3)]).refuses(EXTRA),
        case!("a sum that broadcasts", 2, [2, 4, 4], [conv(3, [2, 2]), of(0, conv(3, [4, 4]).into()), Sum(vec![1, 2]), Tanh, Flat, linear(2)]).refuses(EXTRA),
        case!("concatenated", 3, [4], [linear(3), Tanh, of(0, linear(2).into()), Cat(1, vec![2, 3, 0]), Sigmoid, linear(3)]).refuses(EXTRA),
        case!("concatenated channels", 2, [2, 4, 4], [conv(3, [3, 3]), Relu, of(0, conv(2, [3, 3]).into()), Tanh, Cat(1, vec![4, 2]), conv(2, [1, 1]), Flat, linear(3)]).refuses(EXTRA),
        case!("concatenated columns", 2, [2, 3, 4], [conv(2, [1, 2]), Relu, Cat(-1, vec![2, 0]), Flat, linear(2)]).refuses(EXTRA),
        case!("a residual net", 2, [2, 5, 5], [conv(3, [3, 3]), Relu, max_pool([2, 2]), conv(3, [1, 1]), Sum(vec![4, 3]), Relu, Flat, linear(3)]).refuses(EXTRA),
        case!("ones pushed forward beside a branch", 2, [2, 6, 6], [conv(3, [3, 3]), Relu, max_pool([2, 2]), Flat, linear(3), of(0, Flat), linear(3), Sum(vec![5, 7])]).refuses(EXTRA),
        case!("a scale and a pad with a number", 3, [4], [linear(3), Scaled(-0.7), Tanh, Padded(&[1, 2], 0.5), linear(3)]).refuses(EXTRA),
        case!("padded on two axes, cut on one", 2, [3, 4], [linear(4), Tanh, Padded(&[1, -1, 2, 0], -0.3), Flat, linear(2)]).refuses(EXTRA),
        case!("a slice drops its axis", 3, [3, 4], [linear(3), Sigmoid, Sliced("1"), linear(2)]).refuses(EXTRA),
        case!("slices from the end", 3, [3, 5], [linear(5), Sigmoid, Sliced("-1, ::2"), linear(2)]).refuses(EXTRA),
        case!("slices of a branch", 2, [2, 5], [linear(5), Tanh, Sliced(":, 1:-1"), Flat, of(2, Sliced("1")), Cat(1, vec![4, 5]), linear(3)]).refuses(EXTRA),
        case!("tokens mixed by a transpose", 2, [3, 4], [linear(4), Permuted(&[0, 2, 1]), linear(3), Tanh, Permuted(&[0, 2, 1]), Sum(vec![5, 1]), linear(2), Averaged(&[1])]).refuses(EXTRA),
        case!("images and patches", 2, [2, 4, 4], [conv(4, [2, 2]), FlatAxes(2, -1), Permuted(&[0, 2, 1]), linear(3), Tanh, Averaged(&[1]), linear(2)]).refuses(EXTRA),
        case!("reshaped", 3, [6], [linear(6), Tanh, Reshaped(&[2, -1]), linear(2), Reshaped(&[4])]).refuses(EXTRA),
        case!("averaged over rows and columns", 2, [2, 4, 3], [conv(3, [2, 2]), Tanh, Averaged(&[-1, 2]), linear(2)]).refuses(EXTRA),
        case!("embedded integers", 3, [4], [Table(5, 3), Flat, linear(3)]).refuses(EXTRA),
        case!("the same integer at several positions", 2, [6], [Table(2, 3), Tanh, linear(2), Averaged(&[1])]).refuses(EXTRA),
        case!("tokens and positions", 2, [4], [Table(5, 3), Shifted(None), linear(4), Gelu, linear(3), Sum(vec![5, 2]), linear(2), Permuted(&[0, 2, 1])]).refuses(EXTRA),
        case!("one shift for all channels", 2, [2, 3, 4], [conv(3, [2, 2]), Shifted(Some(&[1, 1, 2, 1])), Tanh, Flat, linear(2)]).refuses(EXTRA),
        case!("a gain of the last axis", 3, [2, 4], [linear(3), Gained(None), Tanh, Flat, linear(2)]).refuses(EXTRA),
        case!("a gain of each channel", 2, [2, 3, 4], [conv(3, [2, 2]), Sigmoid, Gained(Some(&[3, 1, 1])), Sum(vec![3, 2]), Flat, linear(2)]).refuses(EXTRA),
        case!("outputs with positions", 2, [3, 4], [linear(3), Tanh, linear(2), Permuted(&[0, 2, 1])]).refuses(EXTRA),
        case!("outputs with rows and columns", 2, [2, 3, 3], [conv(3, [2, 2]), Sigmoid, conv(2, [1, 1])]).refuses(EXTRA),
        case!("an output that is a merge, and dropout", 3, [4], [linear(4), Drop(0.4), linear(4), Sum(vec![3, 2])]).training().refuses(EXTRA),
    ]
}

pub fn activation_cases() -> Vec<Case> {
    vec![
        case!("relu", 3, [4], [linear(5), Relu, linear(4), Relu, linear(3)]),
        case!("leaky_relu", 3, [4], [linear(5), LeakyRelu { negative_slope: 0.1 }, linear(3)]),
        case!("elu", 3, [4], [linear(5), Elu { alpha: 1.3 }, linear(3)]),
        case!("selu", 3, [4], [linear(5), Selu, linear(3)]),
        case!("sigmoid", 3, [4], [linear(4), Sigmoid, linear(4), Sigmoid, linear(3)]),
        case!("tanh", 3, [4], [linear(4), Tanh, linear(4), Tanh, linear(3)]),
        case!("log_sigmoid", 3, [4], [linear(5), LogSigmoid, linear(3)]),
        case!("gelu", 3, [4], [linear(5), Gelu, linear(3)]),
        case!("silu", 3, [4], [linear(5), Silu, linear(3)]),
        case!("identity", 3, [4], [linear(5), Identity, linear(3)]),
        case!("all of them", 2, [3], [linear(3), Elu { alpha: 0.7 }, linear(3), Gelu, linear(3), Silu, linear(2), LogSigmoid]),
        case!("on images", 2, [2, 3, 4], [Silu, conv(2, [2, 2]), Gelu, Flat, linear(2)]),
        case!("sigmoid, saturated", 3, [4], [linear(5), Sigmoid, linear(3)]).gain(12.0),
        case!("tanh, saturated", 3, [4], [linear(5), Tanh, linear(3)]).gain(12.0),
        case!("elu, saturated", 3, [4], [linear(5), Elu { alpha: 1.0 }, linear(3)]).gain(12.0),
        case!("selu, saturated", 3, [4], [linear(5), Selu, linear(3)]).gain(12.0),
        case!("log_sigmoid, saturated", 3, [4], [linear(5), LogSigmoid, linear(3)]).gain(12.0),
        case!("gelu, saturated", 3, [4], [linear(5), Gelu, linear(3)]).gain(12.0),
        case!("silu, saturated", 3, [4], [linear(5), Silu, linear(3)]).gain(12.0),
    ]
}

/// Losses in their limits: logits of about 100, of both signs, so that one class is certain, rightly or wrongly.
pub fn loss_cases() -> Vec<Case> {
    let (narrow, wide) = (LinearOptions { bias: false, ..linear(4) }, LinearOptions { bias: false, ..linear(5) });
    vec![
        case!("certain", 4, [5], [linear(3)]).certainty(100.0),
        case!("certain, two layers", 4, [4], [wide, Tanh, linear(3)]).certainty(100.0),
        case!("certain, relu", 5, [4], [wide, Relu, narrow, Relu, linear(3)]).certainty(100.0),
        case!("certain, one class", 3, [4], [linear(1)]).certainty(100.0),
        case!("certain, convolution", 3, [2, 4, 4], [Conv2dOptions { bias: false, ..conv(3, [2, 2]) }, Tanh, Flat, linear(3)]).certainty(100.0),
        case!("beyond single precision's exponents", 4, [5], [linear(3)]).certainty(300.0),
    ]
}

pub fn conv_cases() -> Vec<Case> {
    let c = Conv2dOptions { padding: around(1, 1, 1, 1), ..conv(2, [3, 3]) };
    vec![
        case!("odd sizes", 3, [3, 4, 5], [conv(2, [3, 2]), Tanh, Flat, linear(2)]),
        case!("without bias", 2, [2, 4, 3], [Conv2dOptions { bias: false, ..conv(2, [2, 2]) }, Sigmoid, Flat, linear(2)]),
        case!("stride that leaves pixels over", 2, [2, 6, 5], [Conv2dOptions { stride: [2, 3], ..conv(3, [3, 2]) }, Relu, Flat, linear(2)]),
        case!("padding", 2, [2, 3, 4], [Conv2dOptions { padding: around(2, 2, 1, 1), ..conv(2, [3, 2]) }, Tanh, Flat, linear(2)]),
        case!("padding beyond the kernel, stride", 2, [2, 3, 4], [Conv2dOptions { padding: around(1, 1, 1, 1), stride: [2, 2], ..conv(2, [1, 1]) }, Tanh, Flat, linear(2)]),
        case!("asymmetric padding", 2, [2, 3, 4], [Conv2dOptions { padding: around(1, 0, 2, 1), ..conv(2, [3, 2]) }, Tanh, Flat, linear(2)]),
        case!("asymmetric padding, stride", 2, [2, 5, 4], [Conv2dOptions { padding: around(0, 3, 1, 2), stride: [3, 2], ..conv(2, [3, 3]) }, Tanh, Flat, linear(2)]),
        case!("same", 2, [2, 4, 5], [Conv2dOptions { padding: Same, ..conv(2, [2, 3]) }, Tanh, Conv2dOptions { padding: Same, stride: [2, 2], ..conv(2, [3, 3]) }, Flat, linear(2)]),
        case!("dilation", 2, [2, 5, 6], [Conv2dOptions { dilation: [2, 3], ..conv(2, [2, 2]) }, Tanh, Flat, linear(2)]),
        case!("dilation, stride, padding", 2, [2, 5, 6], [Conv2dOptions { dilation: [2, 1], stride: [2, 2], padding: around(1, 1, 2, 2), ..conv(2, [2, 3]) }, Flat, linear(2)]),
        case!("groups", 2, [4, 3, 4], [Conv2dOptions { groups: 2, ..conv(6, [2, 2]) }, Sigmoid, Flat, linear(2)]),
        case!("depthwise", 2, [3, 4, 4], [Conv2dOptions { groups: 3, padding: around(1, 1, 1, 1), ..conv(3, [3, 3]) }, Tanh, conv(2, [1, 1]), Flat, linear(2)]),
        case!("groups, stride, dilation, asymmetric", 2, [4, 6, 5], [Conv2dOptions { groups: 2, stride: [2, 1], dilation: [1, 2], padding: around(2, 1, 0, 1), ..conv(2, [3, 2]) }, Relu, Flat, linear(2)]),
        case!("pointwise", 2, [3, 2, 3], [conv(4, [1, 1]), Sigmoid, Conv2dOptions { stride: [2, 2], ..conv(2, [1, 1]) }, Flat, linear(2)]),
        case!("one position", 2, [2, 3, 2], [conv(4, [3, 2]), Tanh, Flat, linear(3)]),
        case!("deep", 2, [1, 5, 5], [c, Tanh, c, Sigmoid, c, Relu, Flat, linear(2)]),
        case!("behind another, asymmetric padding, stride", 2, [1, 4, 5], [c, Tanh, Conv2dOptions { padding: around(0, 3, 1, 2), stride: [3, 2], ..conv(2, [3, 2]) }, Flat, linear(2)]),
        case!("behind another, stride that leaves pixels over", 2, [1, 5, 6], [c, Sigmoid, Conv2dOptions { stride: [3, 4], ..conv(2, [2, 1]) }, Flat, linear(2)]),
        case!("behind another, dilation, groups, padding", 2, [1, 4, 5], [c, Tanh, Conv2dOptions { dilation: [2, 3], groups: 2, padding: around(1, 1, 2, 2), ..conv(4, [2, 2]) }, Flat, linear(2)]),
        case!("a batch of one", 1, [2, 4, 3], [conv(3, [2, 2]), Tanh, Flat, linear(2)]),
        case!("convolution last", 2, [2, 3, 3], [conv(3, [2, 2]), Relu, conv(3, [2, 2]), Flat]),
        case!("few positions, wide", 2, [4, 2, 3], [conv(9, [2, 2]), Flat, linear(2)]),
    ]
}

pub fn conv_transpose_cases() -> Vec<Case> {
    let t = conv_transpose(2, [3, 2]);
    vec![
        case!("plain", 2, [3, 2, 3], [t, Tanh, Flat, linear(2)]),
        case!("without bias", 2, [2, 2, 3], [ConvTranspose2dOptions { bias: false, ..t }, Sigmoid, Flat, linear(2)]),
        case!("stride", 2, [2, 2, 3], [ConvTranspose2dOptions { stride: [2, 3], ..t }, Tanh, Flat, linear(2)]),
        case!("padding", 2, [2, 3, 3], [ConvTranspose2dOptions { padding: [2, 1], ..t }, Tanh, Flat, linear(2)]),
        case!("output padding", 2, [2, 2, 3], [ConvTranspose2dOptions { stride: [2, 3], output_padding: [1, 2], padding: [1, 0], ..t }, Tanh, Flat, linear(2)]),
        case!("output padding beyond the stride", 2, [2, 2, 3], [ConvTranspose2dOptions { dilation: [3, 2], output_padding: [2, 1], ..t }, Tanh, Flat, linear(2)]),
        case!("dilation", 2, [2, 3, 2], [ConvTranspose2dOptions { dilation: [2, 3], stride: [1, 2], ..t }, Relu, Flat, linear(2)]),
        case!("groups", 2, [4, 2, 3], [ConvTranspose2dOptions { groups: 2, out_channels: 6, kernel_size: [2, 2], ..t }, Tanh, Flat, linear(2)]),
        case!("groups, stride, padding, dilation", 2, [4, 3, 2], [ConvTranspose2dOptions { groups: 2, stride: [2, 1], padding: [1, 1], output_padding: [1, 0], dilation: [1, 2], ..t }, Tanh, Flat, linear(2)]),
        case!("after a convolution", 2, [2, 4, 4], [Conv2dOptions { stride: [2, 2], ..conv(3, [2, 2]) }, Tanh, ConvTranspose2dOptions { stride: [2, 2], ..conv_transpose(2, [2, 2]) }, Sigmoid, Flat, linear(2)]),
        case!("behind another, stride, padding, output padding", 2, [1, 2, 2], [t, Tanh, ConvTranspose2dOptions { stride: [2, 3], padding: [1, 0], output_padding: [1, 2], ..conv_transpose(1, [2, 2]) }, Flat, linear(2)]),
        case!("behind another, dilation, output padding beyond the stride", 2, [1, 2, 2], [t, Sigmoid, ConvTranspose2dOptions { dilation: [3, 2], output_padding: [2, 1], ..conv_transpose(1, [2, 2]) }, Flat, linear(2)]),
        case!("behind another, groups", 2, [1, 2, 2], [t, Tanh, ConvTranspose2dOptions { groups: 2, ..conv_transpose(4, [2, 1]) }, Flat, linear(2)]),
        case!("a batch of one", 1, [2, 2, 2], [t, Tanh, Flat, linear(2)]),
    ]
}

pub fn pool_cases() -> Vec<Case> {
    let (m, a) = (max_pool([2, 2]), avg_pool([2, 2]));
    let c = conv(2, [2, 2]);
    vec![
        case!("max", 2, [2, 5, 5], [c, Tanh, m, Flat, linear(2)]),
        case!("max, overlapping", 2, [2, 4, 5], [c, Tanh, MaxPool2dOptions { stride: Some([1, 2]), kernel_size: [2, 3], ..m }, Flat, linear(2)]),
        case!("max, gaps", 2, [2, 6, 6], [c, Tanh, MaxPool2dOptions { stride: Some([3, 2]), ..m }, Flat, linear(2)]),
        case!("max, padding", 2, [2, 4, 4], [c, Tanh, MaxPool2dOptions { kernel_size: [3, 2], padding: Symmetric([1, 1]), ..m }, Flat, linear(2)]),
        case!("max, zeros around", 2, [2, 4, 4], [c, Tanh, MaxPool2dOptions { padding: around(1, 0, 0, 2), stride: Some([2, 1]), ..m }, Flat, linear(2)]),
        case!("max, same", 2, [2, 5, 4], [c, Tanh, MaxPool2dOptions { kernel_size: [3, 3], stride: Some([2, 2]), padding: Same, ..m }, Flat, linear(2)]),
        case!("max, same, zeros behind negative numbers", 2, [2, 5, 5], [c, LogSigmoid, MaxPool2dOptions { kernel_size: [3, 3], stride: Some([2, 2]), padding: Same, ..m }, Flat, linear(2)]),
        case!("max, same, zeros on both sides", 2, [2, 5, 5], [c, Sigmoid, MaxPool2dOptions { kernel_size: [3, 3], stride: Some([3, 3]), padding: Same, ..m }, Flat, linear(2)]),
        case!("max, dilation", 2, [2, 5, 6], [c, Tanh, MaxPool2dOptions { dilation: [2, 3], stride: Some([1, 1]), ..m }, Flat, linear(2)]),
        case!("max, ceil_mode", 2, [2, 6, 6], [c, Tanh, MaxPool2dOptions { ceil_mode: true, ..m }, Flat, linear(2)]),
        case!("max, ceil_mode, a window larger than the input", 2, [2, 4, 4], [c, Tanh, MaxPool2dOptions { ceil_mode: true, stride: Some([2, 2]), ..max_pool([4, 4]) }, Flat, linear(2)]),
        case!("max, ceil_mode, the last window in the padding", 2, [2, 5, 4], [c, Tanh, MaxPool2dOptions { ceil_mode: true, kernel_size: [2, 3], stride: Some([3, 3]), padding: Symmetric([1, 1]), ..m }, Flat, linear(2)]),
        case!("max, ceil_mode, dilated windows larger than the input", 2, [2, 5, 4], [c, Tanh, MaxPool2dOptions { ceil_mode: true, dilation: [3, 2], kernel_size: [3, 2], stride: Some([3, 2]), padding: Symmetric([1, 0]) }, Flat, linear(2)]),
        case!("max of equal entries", 2, [2, 5, 5], [c, Relu, MaxPool2dOptions { padding: Same, kernel_size: [3, 3], stride: Some([2, 2]), ..m }, Flat, linear(2)]),
        case!("avg", 2, [2, 5, 5], [c, Tanh, a, Flat, linear(2)]),
        case!("avg, overlapping", 2, [2, 4, 5], [c, Tanh, AvgPool2dOptions { stride: Some([1, 2]), kernel_size: [2, 3], ..a }, Flat, linear(2)]),
        case!("avg, padding", 2, [2, 4, 4], [c, Tanh, AvgPool2dOptions { kernel_size: [3, 2], padding: Symmetric([1, 1]), ..a }, Flat, linear(2)]),
        case!("avg, same", 2, [2, 5, 4], [c, Tanh, AvgPool2dOptions { kernel_size: [3, 3], stride: Some([2, 2]), padding: Same, ..a }, Flat, linear(2)]),
        case!("avg, ceil_mode", 2, [2, 6, 6], [c, Tanh, AvgPool2dOptions { ceil_mode: true, ..a }, Flat, linear(2)]),
        case!("avg, ceil_mode, padding", 2, [2, 5, 6], [c, Tanh, AvgPool2dOptions { ceil_mode: true, padding: Symmetric([1, 1]), kernel_size: [3, 3], stride: Some([2, 2]), ..a }, Flat, linear(2)]),
        case!("avg, ceil_mode, a window larger than the input", 2, [2, 4, 4], [c, Tanh, AvgPool2dOptions { ceil_mode: true, stride: Some([2, 2]), ..avg_pool([4, 4]) }, Flat, linear(2)]),
        case!("avg, ceil_mode, a window larger than the padded input", 2, [2, 3, 2], [c, Tanh, AvgPool2dOptions { ceil_mode: true, kernel_size: [5, 4], stride: Some([4, 3]), padding: Symmetric([1, 1]), ..a }, Flat, linear(2)]),
        case!("adaptive", 2, [2, 6, 8], [c, Tanh, AdaptiveAvgPool([2, 3]), Flat, linear(2)]),
        case!("adaptive to one", 2, [2, 4, 5], [c, Tanh, AdaptiveAvgPool([1, 1]), Flat, linear(2)]),
        case!("adaptive to more", 2, [2, 3, 4], [c, Tanh, AdaptiveAvgPool([3, 4]), Flat, linear(2)]),
        case!("pooling before the first parameter", 2, [2, 5, 5], [m, conv(2, [2, 2]), Tanh, Flat, linear(2)]),
    ]
}

pub fn other_cases() -> Vec<Case> {
    let c = conv(2, [2, 2]);
    let frozen = BatchNorm2dOptions { frozen: true, ..batch_norm() };
    vec![
        case!("batch_norm2d", 3, [2, 4, 3], [c, batch_norm(), Tanh, Flat, linear(2)]).refuses(EXTRA),
        case!("batch_norm2d first", 3, [2, 3, 3], [BatchNorm2dOptions { eps: 0.1, ..batch_norm() }, c, Sigmoid, batch_norm(), Flat, linear(2)]).refuses(EXTRA),
        case!("batch_norm2d, frozen", 3, [2, 4, 3], [c, frozen, Tanh, c, frozen, Flat]).training().refuses(EXTRA),
        case!("zero_pad2d", 2, [2, 3, 3], [pad(1, 0, 2, 3), c, Tanh, pad(0, 2, 1, 0), Flat, linear(2)]),
        case!("zero_pad2d, cutting", 2, [2, 5, 5], [c, Tanh, pad(-1, 1, 0, -2), Flat, linear(2)]),
        case!("dropout", 4, [5], [linear(6), Tanh, Drop(0.4), linear(3)]).training(),
        case!("dropout on images", 3, [2, 4, 4], [Drop(0.2), c, Sigmoid, Drop(0.5), Flat, linear(3)]).training(),
        case!("dropout in evaluation", 3, [4], [linear(4), Tanh, Drop(0.4), linear(3)]),
        case!("flatten twice", 2, [2, 3], [Flat, linear(3), Flat, Tanh, linear(2)]),
    ]
}

/// The four networks of the paper, small.
pub fn network_cases() -> Vec<Case> {
    let same = |out, kernel| Conv2dOptions { padding: Same, ..conv(out, kernel) };
    let down = |out| Conv2dOptions { padding: around(1, 1, 1, 1), stride: [2, 2], ..conv(out, [3, 3]) };
    let pool = MaxPool2dOptions { kernel_size: [3, 3], stride: Some([2, 2]), padding: Same, ..max_pool([3, 3]) };
    vec![
        case!("small 2c2d", 2, [1, 8, 8], [same(2, [3, 3]), Relu, pool, same(2, [3, 3]), Relu, pool, Flat, linear(3), Relu, linear(2)]),
        case!("small 3c3d with a sigmoid", 2, [2, 9, 9], [conv(2, [3, 3]), Relu, pool, same(2, [2, 2]), Relu, pool, Flat, linear(4), Sigmoid, linear(2)]),
        case!("small All-CNN-C", 2, [2, 6, 6], [Drop(0.2), same(3, [2, 2]), Relu, down(3), Relu, Drop(0.5), conv(3, [1, 1]), Relu, AdaptiveAvgPool([1, 1]), Flat])
        .training(),
    ]
}

/// Every case there is.
pub fn all_cases() -> Vec<Case> {
    let families = [
        linear_cases, graph_cases, super::typed::dimension_cases, super::typed::recurrent_cases, super::typed::norm_cases, super::typed::attention_cases, activation_cases, loss_cases, conv_cases, conv_transpose_cases, pool_cases, other_cases, network_cases,
    ];
    families.into_iter().flat_map(|family| family()).collect()
}
