//! The options of `conv1d`, `conv2d` and `conv3d`, and how they are read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::PaddingChoice;
use super::super::sizes::{self, PerAxis};

/// The options of a convolution over `AXES` axes, named as in PyTorch; for images a pair is (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(bound(serialize = "A: Serialize", deserialize = ""))]
pub struct ConvOptions<A: PerAxis> {
    /// output channels
    #[serde(deserialize_with = "sizes::size")]
    pub out_channels: i64,
    /// the window's size, one for all axes or one each
    #[serde(deserialize_with = "sizes::sizes")]
    pub kernel_size: A,
    /// steps between windows
    #[serde(default = "sizes::ones::<A>", deserialize_with = "sizes::sizes")]
    #[schemars(extend("x-default" = "1"))]
    pub stride: A,
    /// zeros around the input: an integer, one or two per axis (two: last axis first, as in [left, right, top, bottom]),
    /// or "same"
    #[serde(default)]
    #[schemars(extend("x-default" = "0"))]
    pub padding: PaddingChoice<A>,
    /// steps between a window's entries
    #[serde(default = "sizes::ones::<A>", deserialize_with = "sizes::sizes")]
    #[schemars(extend("x-default" = "1"))]
    pub dilation: A,
    /// groups of channels that do not mix
    #[serde(default = "sizes::one", deserialize_with = "sizes::size")]
    pub groups: i64,
    /// whether there is a bias
    #[serde(default = "sizes::yes")]
    pub bias: bool,
}

impl<A: PerAxis> Default for ConvOptions<A> {
    /// PyTorch's defaults; the number of channels and the kernel's size, which have none, are 1.
    fn default() -> Self {
        ConvOptions {
            out_channels: 1,
            kernel_size: sizes::ones(),
            stride: sizes::ones(),
            padding: PaddingChoice::default(),
            dilation: sizes::ones(),
            groups: 1,
            bias: true,
        }
    }
}
