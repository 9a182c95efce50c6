//! Average-pooling to a given output size, over one to three axes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::axes::Lift;
use super::super::layer_type::{LayerType, Site, Specimen, layer};
use super::super::sizes::{self, PerAxis};
use super::super::{LinearMap, built_for};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The options of adaptive average-pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(bound(serialize = "A: Serialize", deserialize = ""))]
pub struct AdaptiveAvgPoolOptions<A: PerAxis> {
    /// the output's size, one for all axes or one each
    #[serde(deserialize_with = "sizes::sizes")]
    pub output_size: A,
}

macro_rules! room {
    ($axes:literal, $name:literal, $summary:literal, $options:literal, $input:expr) => {
        impl LayerType for AdaptiveAvgPoolOptions<[i64; $axes]> {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;
            const SPECIMENS: &'static [Specimen] = &[Specimen::new($options, $input)];

            fn build(&self, site: &Site) -> Result<Operation> {
                layer(AdaptiveAvgPool::<$axes>::new(site.input()?, self.output_size)?)
            }
        }
    };
}

room!(1, "adaptive_avg_pool1d", "means over windows that give a sequence of this length", "output_size = 4", &[4, 6]);
room!(
    2,
    "adaptive_avg_pool2d",
    "means over windows that give an output of this size",
    "output_size = [2, 3]",
    &[4, 5, 6]
);
room!(
    3,
    "adaptive_avg_pool3d",
    "means over windows that give a volume of this size",
    "output_size = [2, 1, 3]",
    &[4, 3, 4, 5]
);

/// Adaptive average-pooling of sequences.
pub type AdaptiveAvgPool1d = AdaptiveAvgPool<1>;
/// Adaptive average-pooling of images.
pub type AdaptiveAvgPool2d = AdaptiveAvgPool<2>;
/// Adaptive average-pooling of volumes.
pub type AdaptiveAvgPool3d = AdaptiveAvgPool<3>;

/// Average-pooling whose windows follow from the output's size.
#[derive(Debug)]
pub struct AdaptiveAvgPool<const AXES: usize> {
    channels: i64,
    /// The sizes of the input's axes, lifted.
    input: Vec<i64>,
    /// The sizes of the output's axes, lifted.
    output: Vec<i64>,
}

impl<const AXES: usize> AdaptiveAvgPool<AXES>
where
    AdaptiveAvgPoolOptions<[i64; AXES]>: LayerType,
{
    const KIND: &'static str = <AdaptiveAvgPoolOptions<[i64; AXES]> as LayerType>::NAME;

    /// A pooling layer for inputs of shape `[channels, *axes]` with outputs of this size.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input has another number of axes or a size is not positive.
    pub fn new(input: &[i64], output_size: [i64; AXES]) -> Result<Self> {
        if output_size.iter().any(|&size| size < 1) {
            return Err(Error::Shape(format!("{}: output_size {output_size:?} must be positive", Self::KIND)));
        }
        let (channels, input) = Lift::<AXES>::shape(Self::KIND, input)?;
        Ok(AdaptiveAvgPool { channels, input, output: Lift::<AXES>::numbers(output_size, 1) })
    }

    /// `[K, C, *axes]` to `[K, C, *output]`.
    fn pool(&self, x: &Tensor) -> Result<Tensor> {
        let x = Lift::<AXES>::up(x);
        let output = self.output.as_slice();
        Ok(Lift::<AXES>::down(match AXES {
            3 => x.f_internal_adaptive_avg_pool3d(output)?,
            _ => x.f_internal_adaptive_avg_pool2d(output)?,
        }))
    }

    fn pool_back(&self, v: &Tensor) -> Result<Tensor> {
        let v = Lift::<AXES>::up(v);
        // libtorch reads only the shape of the input here.
        let whole = [&[v.size()[0], self.channels], self.input.as_slice()].concat();
        let shape = Tensor::empty(whole.as_slice(), (v.kind(), v.device()));
        Ok(Lift::<AXES>::down(match AXES {
            3 => shape.f_internal_adaptive_avg_pool3d_backward(&v)?,
            _ => shape.f_internal_adaptive_avg_pool2d_backward(&v)?,
        }))
    }
}

impl<const AXES: usize> LinearMap for AdaptiveAvgPool<AXES>
where
    AdaptiveAvgPoolOptions<[i64; AXES]>: LayerType,
{
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        built_for(Self::KIND, &[&[self.channels], Lift::<AXES>::lower(&self.input)].concat(), input)?;
        Ok([&[self.channels], Lift::<AXES>::lower(&self.output)].concat())
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.pool(x)
    }

    fn transpose(&self, v: &Tensor, _input: &[i64]) -> Result<Tensor> {
        self.pool_back(v)
    }

    fn keeps_channels(&self) -> bool {
        true
    }
}
