//! Cases of layers that are built from their options in a problem file, beside libtorch's own functions: layers for one and
//! three axes, normalisation by sample, attention, class tokens and recurrent layers.

use super::Case;
use super::spec::ActivationKind::*;
use super::spec::Spec::{self, Attend, Averaged, Flat, Of, Permuted, Shifted, Sliced, Sum, Table, Typed};
use super::spec::{attention, conv, linear};
use backpack_run::backpack::layers::LinearOptions;
use tch::Tensor;

const NONE: Option<i64> = None;

/// What a network that normalises or attends refuses.
const NORM: &[&str] = &["kfra"];

/// What a network that recurs refuses.
const RECURRENT: &[&str] = &["diag_hessian", "batch_diag_hessian", "kfra"];

/// The cases, which cannot have these quantities.
fn refusing(refused: &'static [&'static str], cases: Vec<Case>) -> Vec<Case> {
    cases.into_iter().map(|case| case.refuses(refused)).collect()
}

pub fn dimension_cases() -> Vec<Case> {
    let line = Typed("conv1d", "out_channels = 3, kernel_size = 2", |x, p| x.conv1d(&p[0], Some(&p[1]), 1, 0, 1, 1));
    let volume = Typed("conv3d", "out_channels = 2, kernel_size = [1, 2, 2]", |x, p| {
        x.conv3d(&p[0], Some(&p[1]), 1, 0, 1, 1)
    });
    let normal = |x: &Tensor, p: &[Tensor]| {
        x.batch_norm(Some(&p[0]), Some(&p[1]), Some(&p[2]), Some(&p[3]), false, 0.1, 1e-5, false)
    };
    vec![
        case!("1d", 3, [2, 5], [line.clone(), Tanh, line.clone(), Flat, linear(2)]),
        case!("1d, all options", 2, [2, 9], [
            line.clone(),
            Sigmoid,
            Typed("conv1d", "out_channels = 3, kernel_size = 3, stride = 2, padding = 2, dilation = 2, groups = 3, bias = false",
                |x, p| x.conv1d(&p[0], None::<&Tensor>, 2, 2, 2, 3)),
            Tanh, Flat, linear(2),
        ]),
        case!("1d, other zeros", 2, [1, 7], [
            Typed("conv1d", "out_channels = 2, kernel_size = 3, padding = [2, 0]",
                |x, p| x.constant_pad_nd([2, 0]).conv1d(&p[0], Some(&p[1]), 1, 0, 1, 1)),
            Tanh,
            Typed("conv1d", "out_channels = 2, kernel_size = 4, stride = 2, padding = 'same'",
                |x, p| x.constant_pad_nd([1, 2]).conv1d(&p[0], Some(&p[1]), 2, 0, 1, 1)),
            Flat, linear(2),
        ]),
        case!("1d, with positions at the end", 2, [2, 4], [line.clone(), Tanh, line.clone()])
            .refuses(&["kfra"]),
        case!("1d, transposed", 2, [2, 4], [
            line.clone(),
            Tanh,
            Typed("conv_transpose1d", "out_channels = 2, kernel_size = 3, stride = 2, padding = 1, output_padding = 1",
                |x, p| x.conv_transpose1d(&p[0], Some(&p[1]), 2, 1, 1, 1, 1)),
            Sigmoid, Flat, linear(2),
        ]),
        case!("1d, transposed, groups", 2, [4, 3], [
            Typed("conv_transpose1d", "out_channels = 2, kernel_size = 2, groups = 2, bias = false, dilation = 2",
                |x, p| x.conv_transpose1d(&p[0], None::<&Tensor>, 1, 0, 0, 2, 2)),
            Tanh, Flat, linear(2),
        ]),
        case!("1d, pools", 2, [2, 9], [
            line.clone(),
            Tanh,
            Typed("max_pool1d", "kernel_size = 3, stride = 2, padding = 1", |x, _| x.max_pool1d(3, 2, 1, 1, false)),
            line.clone(),
            Typed("avg_pool1d", "kernel_size = 2, padding = 1, count_include_pad = false",
                |x, _| x.avg_pool1d(2, 2, 1, false, false)),
            Flat, linear(2),
        ]),
        case!("1d, adaptive", 2, [2, 7], [
            line.clone(), Tanh, Typed("adaptive_avg_pool1d", "output_size = 4", |x, _| x.adaptive_avg_pool1d(4)),
            Flat, linear(2),
        ]),
        case!("1d, BatchNorm", 3, [2, 5], [line.clone(), Typed("batch_norm1d", "", normal), Tanh, Flat, linear(2)])
            .refuses(NORM),
        case!("BatchNorm of features", 3, [4], [linear(3), Typed("batch_norm1d", "", normal), Tanh, linear(2)])
            .refuses(NORM),
        case!("3d", 2, [1, 2, 3, 3], [volume.clone(), Tanh, volume.clone(), Flat, linear(2)]),
        case!("3d, all options", 2, [2, 3, 4, 3], [
            Typed("conv3d", "out_channels = 4, kernel_size = [2, 3, 1], stride = [1, 2, 1], padding = [1, 0, 1], dilation = [2, 1, 1], groups = 2",
                |x, p| x.conv3d(&p[0], Some(&p[1]), [1, 2, 1], [1, 0, 1], [2, 1, 1], 2)),
            Tanh, Flat, linear(2),
        ]),
        case!("3d, other zeros", 2, [1, 2, 2, 3], [
            Typed("conv3d", "out_channels = 2, kernel_size = 2, padding = [1, 0, 0, 1, 1, 0]",
                |x, p| x.constant_pad_nd([1, 0, 0, 1, 1, 0]).conv3d(&p[0], Some(&p[1]), 1, 0, 1, 1)),
            Tanh, Flat, linear(2),
        ]),
        case!("3d, transposed", 2, [2, 2, 1, 2], [
            Typed("conv_transpose3d", "out_channels = 2, kernel_size = [1, 2, 2], stride = [1, 2, 1], padding = [0, 0, 1], output_padding = [0, 1, 0]",
                |x, p| x.conv_transpose3d(&p[0], Some(&p[1]), [1, 2, 1], [0, 0, 1], [0, 1, 0], 1, 1)),
            Tanh, Flat, linear(2),
        ]),
        case!("3d, pools", 2, [1, 3, 4, 4], [
            volume.clone(),
            Tanh,
            Typed("max_pool3d", "kernel_size = [2, 2, 3], stride = 1, padding = [1, 0, 1], dilation = [2, 1, 1]",
                |x, _| x.max_pool3d([2, 2, 3], 1, [1, 0, 1], [2, 1, 1], false)),
            volume.clone(),
            Typed("avg_pool3d", "kernel_size = [2, 1, 2], stride = [1, 1, 2], padding = [1, 0, 1], ceil_mode = true",
                |x, _| x.avg_pool3d([2, 1, 2], [1, 1, 2], [1, 0, 1], true, true, NONE)),
            Flat, linear(2),
        ]),
        case!("3d, adaptive and BatchNorm", 2, [1, 3, 3, 4], [
            volume,
            Typed("batch_norm3d", "eps = 0.01",
                |x, p| x.batch_norm(Some(&p[0]), Some(&p[1]), Some(&p[2]), Some(&p[3]), false, 0.1, 0.01, false)),
            Tanh,
            Typed("adaptive_avg_pool3d", "output_size = [2, 1, 2]", |x, _| x.adaptive_avg_pool3d([2, 1, 2])),
            Flat, linear(2),
        ])
        .refuses(NORM),
        case!("2d, padding that does not count", 2, [2, 4, 4], [
            Typed("conv2d", "out_channels = 2, kernel_size = 2", |x, p| x.conv2d(&p[0], Some(&p[1]), 1, 0, 1, 1)),
            TanhGelu,
            Typed("avg_pool2d", "kernel_size = 2, padding = 1, count_include_pad = false",
                |x, _| x.avg_pool2d(2, 2, 1, false, false, NONE)),
            Flat, linear(2),
        ]),
    ]
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
    refusing(NORM, vec![
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
    ])
}

pub fn attention_cases() -> Vec<Case> {
    // What is the same for all keys changes nothing: its gradient would be nothing but rounding.
    let keys = LinearOptions { bias: false, ..linear(2) };
    refusing(NORM, vec![
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
    ])
}

fn start(x: &Tensor, p: &[Tensor]) -> Tensor {
    Tensor::zeros([1, x.size()[0], p[1].size()[1]], (x.kind(), x.device()))
}

fn lstm(x: &Tensor, p: &[Tensor]) -> Tensor {
    x.lstm(&[start(x, p), start(x, p)], p, p.len() == 4, 1, 0.0, false, false, true).0
}

fn rnn(x: &Tensor, p: &[Tensor]) -> Tensor {
    x.rnn_tanh(&start(x, p), p, p.len() == 4, 1, 0.0, false, false, true).0
}

fn rnn_relu(x: &Tensor, p: &[Tensor]) -> Tensor {
    x.rnn_relu(&start(x, p), p, p.len() == 4, 1, 0.0, false, false, true).0
}

const RNN: fn(&'static str) -> Spec = |options| Typed("rnn", options, rnn);
const LSTM: fn(&'static str) -> Spec = |options| Typed("lstm", options, lstm);

pub fn recurrent_cases() -> Vec<Case> {
    let relu = |options| Typed("rnn", options, rnn_relu);
    refusing(RECURRENT, vec![
        case!("rnn", 3, [4, 3], [RNN("hidden_size = 4"), Flat, linear(2)]),
        case!("rnn with relu", 3, [4, 3], [relu("hidden_size = 4, nonlinearity = 'relu'"), Flat, linear(2)]),
        case!("rnn without biases", 2, [3, 2], [RNN("hidden_size = 3, bias = false"), Sliced("1"), linear(3)]),
        case!("rnn, one step", 3, [1, 4], [RNN("hidden_size = 3"), Flat, linear(2)]),
        case!("rnn, many narrow steps", 2, [7, 1], [RNN("hidden_size = 1"), Flat, linear(2)]),
        case!("lstm", 3, [4, 3], [LSTM("hidden_size = 3"), Flat, linear(2)]),
        case!("lstm without biases", 3, [3, 2], [LSTM("hidden_size = 2, bias = false"), Averaged(&[1]), linear(3)]),
        case!("lstm, one step", 2, [1, 3], [LSTM("hidden_size = 2"), Flat, linear(2)]),
        case!("lstm, a batch of one", 1, [5, 2], [LSTM("hidden_size = 2"), Averaged(&[1]), linear(2)]),
        case!("lstm, few wide steps", 2, [2, 5], [LSTM("hidden_size = 5"), Flat, linear(2)]),
        case!("lstm, one unit", 2, [6, 1], [LSTM("hidden_size = 1"), Averaged(&[1]), linear(2)]),
        case!("lstm, saturated", 3, [3, 2], [linear(2), LSTM("hidden_size = 2"), Flat, linear(2)]).gain(12.0),
        case!("two lstm", 2, [3, 2], [LSTM("hidden_size = 3"), LSTM("hidden_size = 2"), Sliced("1"), linear(2)]),
        case!("lstm behind rnn", 2, [3, 3], [linear(2), Sigmoid, RNN("hidden_size = 3"), LSTM("hidden_size = 2"), Averaged(&[1]), linear(3)]),
        case!("rnn behind lstm, residual", 2, [3, 2], [LSTM("hidden_size = 2"), relu("hidden_size = 2, nonlinearity = 'relu'"), Sum(vec![2, 1]), linear(3), Flat, linear(2)]),
        case!("lstm last, with positions", 2, [3, 2], [linear(3), Tanh, LSTM("hidden_size = 2"), Permuted(&[0, 2, 1])]),
        case!("a tagger", 2, [4], [Table(5, 2), LSTM("hidden_size = 2"), linear(3), Permuted(&[0, 2, 1])]),
    ])
}
