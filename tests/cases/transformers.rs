//! Cases of normalisation by sample, attention and class tokens.

use super::Case;
use super::activation::ActivationKind::*;
use super::spec::Spec::{self, Attend, Averaged, Flat, Of, Permuted, Shifted, Sliced, Sum, Table, Typed};
use super::spec::{attention, conv, linear};
use backpack_run::backpack::layers::LinearOptions;
use tch::Tensor;

/// A case: its name, the number of samples, the input's shape, the layers.
macro_rules! case {
    ($name:literal, $samples:literal, [$($size:literal),*], [$($layer:expr),* $(,)?]) => {
        Case::new($name, $samples, &[$($size),*], vec![$($layer.into()),*]).refuses(&["kfra"])
    };
}

fn by_heads(x: &Tensor, heads: i64, causal: bool) -> Tensor {
    let parts: Vec<Tensor> = x
        .chunk(3, -1)
        .iter()
        .map(|part| {
            let size = part.size();
            part.reshape([size[0], size[1], heads, size[2] / heads]).transpose(1, 2)
        })
        .collect();
    attention(&parts[0], &parts[1], &parts[2], causal).transpose(1, 2).flatten(2, 3)
}

fn layer_norm() -> Spec {
    Typed("layer_norm", "", |x, p| x.layer_norm([*x.size().last().unwrap()], Some(&p[0]), Some(&p[1]), 1e-5, false))
}

fn tanh_attention() -> Spec {
    Typed("self_attention", "num_heads = 1", |x, _| by_heads(x, 1, false))
}

pub fn norm_cases() -> Vec<Case> {
    vec![
        case!("layer_norm", 3, [4], [linear(5), layer_norm(), Tanh, linear(2)]),
        case!("layer_norm of positions, last", 2, [2, 4], [linear(3), layer_norm(), Permuted(&[0, 2, 1])]),
        case!("layer_norm over two axes, without shift", 2, [3, 2, 3], [
            linear(3),
            Typed("layer_norm", "normalized_shape = [2, 3], bias = false, eps = 0.1",
                |x, p| x.layer_norm([2, 3], Some(&p[0]), None::<&Tensor>, 0.1, false)),
            Sigmoid, Flat, linear(2),
        ]),
        case!("layer_norm without parameters, at the start and twice", 3, [5], [
            Typed("layer_norm", "elementwise_affine = false", |x, _| x.layer_norm([5], None::<&Tensor>, None::<&Tensor>, 1e-5, false)),
            linear(4), layer_norm(), Relu, layer_norm(), linear(2),
        ]),
        case!("rms_norm", 3, [4], [
            linear(5), Typed("rms_norm", "", |x, p| x.rms_norm([5], Some(&p[0]), 1e-6)), Tanh, linear(3),
        ]),
        case!("rms_norm of positions, without scale", 2, [2, 4], [
            linear(3), Typed("rms_norm", "elementwise_affine = false, eps = 0.01", |x, _| x.rms_norm([3], None::<&Tensor>, 0.01)),
            Silu, Flat, linear(2),
        ]),
        case!("group_norm", 2, [2, 3, 3], [
            conv(4, [2, 2]), Typed("group_norm", "num_groups = 2", |x, p| x.group_norm(2, Some(&p[0]), Some(&p[1]), 1e-5, false)),
            Tanh, conv(2, [2, 1]), Flat, linear(2),
        ]),
        case!("group_norm of one channel", 2, [2, 3, 3], [
            conv(1, [2, 2]), Typed("group_norm", "num_groups = 1", |x, p| x.group_norm(1, Some(&p[0]), Some(&p[1]), 1e-5, false)),
            Tanh, Flat, linear(2),
        ]),
        case!("group_norm of features and of single channels", 3, [4], [
            linear(6), Typed("group_norm", "num_groups = 2, affine = false", |x, _| x.group_norm(2, None::<&Tensor>, None::<&Tensor>, 1e-5, false)),
            linear(4), Typed("group_norm", "num_groups = 1, eps = 0.1", |x, p| x.group_norm(1, Some(&p[0]), Some(&p[1]), 0.1, false)),
            Tanh, linear(2),
        ]),
        case!("a residual block that normalises first", 2, [2, 4], [
            linear(3), layer_norm(), linear(3), Gelu, linear(3), Sum(vec![5, 1]), layer_norm(), Averaged(&[1]), linear(2),
        ]),
    ]
}

pub fn attention_cases() -> Vec<Case> {
    // What is the same for all keys changes nothing: its gradient would be nothing but rounding.
    let keys = LinearOptions { bias: false, ..linear(2) };
    vec![
        case!("self-attention", 2, [3, 2], [linear(6), tanh_attention(), linear(2), Flat, linear(2)]),
        case!("two heads, causal, last", 2, [3, 2], [
            linear(12), Typed("self_attention", "num_heads = 2, causal = true", |x, _| by_heads(x, 2, true)),
        ]),
        case!("a sequence of one", 3, [1, 2], [linear(3), tanh_attention(), linear(2)]),
        case!("attention of three values", 2, [3, 2], [
            linear(2), Of(0, Box::new(keys.into())), Tanh, Of(0, Box::new(linear(3).into())), Attend(false, [1, 3, 4]), Tanh,
            Flat, linear(2),
        ]),
        case!("causal attention that uses one value three times", 2, [3, 2], [
            linear(2), Tanh, Attend(true, [2, 2, 2]), Averaged(&[1]), linear(2),
        ]),
        case!("more keys than queries", 2, [4, 2], [
            linear(3), Of(1, Box::new(Sliced(":2"))), Attend(false, [2, 1, 1]), Flat, linear(2),
        ]),
        case!("class token", 2, [2, 3], [
            linear(2), Typed("class_token", "", |x, p| Tensor::cat(&[&p[0].expand([x.size()[0], 1, -1], false), x], 1)),
            linear(3), Tanh, Sliced("0"), linear(2),
        ]),
        case!("a transformer's block on tokens", 2, [3], [
            Table(5, 4), Shifted(None), layer_norm(), linear(12),
            Typed("self_attention", "num_heads = 2, causal = true", |x, _| by_heads(x, 2, true)),
            linear(4), Sum(vec![6, 2]), layer_norm(), linear(5), Gelu, linear(4), Sum(vec![11, 7]), Averaged(&[1]), linear(2),
        ]),
    ]
}
