//! Cases of layers for one and three axes, by their options in a problem file and libtorch's own functions.

use super::Case;
use super::activation::ActivationKind::*;
use super::spec::Spec::{Flat, Typed};
use super::spec::linear;
use tch::Tensor;

/// A case: its name, the number of samples, the input's shape, the layers.
macro_rules! case {
    ($name:literal, $samples:literal, [$($size:literal),*], [$($layer:expr),* $(,)?]) => {
        Case::new($name, $samples, &[$($size),*], vec![$($layer.into()),*])
    };
}

const NONE: Option<i64> = None;

/// What a network that normalises refuses.
const NORM: &[&str] = &["kfra"];

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
