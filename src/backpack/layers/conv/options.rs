//! The options of `conv1d`, `conv2d` and `conv3d`, and how they are read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::layer_type::{LayerType, Site, Specimen, layer};
use super::super::sizes::{self, PerAxis};
use super::super::{PaddingChoice, WEIGHT_AND_BIAS};
use super::Conv;
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::Result;

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

macro_rules! room {
    ($axes:literal, $name:literal, $summary:literal, $kernel:literal, $input:expr) => {
        impl LayerType for ConvOptions<[i64; $axes]> {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;
            const INITS: &'static [(&'static str, Init)] = WEIGHT_AND_BIAS;
            const SPECIMENS: &'static [Specimen] = &[
                Specimen::new(concat!("out_channels = 2, kernel_size = ", $kernel), $input),
                Specimen::new(concat!("out_channels = 2, groups = 2, kernel_size = ", $kernel), $input)
                    .when("with groups"),
            ];

            fn settle(self) -> Self {
                ConvOptions { padding: self.padding.in_pairs(), ..self }
            }

            fn build(&self, site: &Site) -> Result<Operation> {
                layer(Conv::<$axes>::made_of(site.input()?, self, site.parameters)?)
            }
        }
    };
}

room!(1, "conv1d", "convolution of sequences", "2", &[4, 6]);
room!(2, "conv2d", "convolution", "[2, 3]", &[4, 5, 6]);
room!(3, "conv3d", "convolution of volumes", "[2, 1, 3]", &[4, 3, 4, 5]);
