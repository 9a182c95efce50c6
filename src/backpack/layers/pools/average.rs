//! Average-pooling over one to three axes, by windows or to a given output size.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::axes::Lift;
use super::super::layer_type::{LayerType, Site, Specimen, layer};
use super::super::sizes::{self, PerAxis};
use super::super::{LinearMap, PaddingChoice, built_for};
use super::Window;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

// By windows; padding counts unless told otherwise.

/// The options of average-pooling, named as in PyTorch; for images a pair is (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(bound(serialize = "A: Serialize", deserialize = ""))]
pub struct AvgPoolOptions<A: PerAxis> {
    /// the window's size, one for all axes or one each
    #[serde(deserialize_with = "sizes::sizes")]
    pub kernel_size: A,
    /// steps between windows
    #[serde(default, deserialize_with = "sizes::sizes_if")]
    #[schemars(extend("x-default" = "kernel_size"))]
    pub stride: Option<A>,
    /// an integer or one per axis as in PyTorch; or zeros, two per axis as in [left, right, top, bottom], or "same"
    #[serde(default)]
    #[schemars(extend("x-default" = "0"))]
    pub padding: PaddingChoice<A>,
    /// whether the output's size is rounded up; the mean of a last, partial window is over what it covers
    #[serde(default)]
    pub ceil_mode: bool,
    /// whether PyTorch's padding counts in the mean
    #[serde(default = "sizes::yes", skip_serializing_if = "sizes::is_yes")]
    #[schemars(extend("x-default" = "true"))]
    pub count_include_pad: bool,
}

impl<A: PerAxis> Default for AvgPoolOptions<A> {
    /// PyTorch's defaults; the window, which has none, is 1.
    fn default() -> Self {
        AvgPoolOptions {
            kernel_size: sizes::ones(),
            stride: None,
            padding: PaddingChoice::default(),
            ceil_mode: false,
            count_include_pad: true,
        }
    }
}

macro_rules! room {
    ($axes:literal, $name:literal, $summary:literal, $options:literal, $input:expr) => {
        impl LayerType for AvgPoolOptions<[i64; $axes]> {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;
            const SPECIMENS: &'static [Specimen] = &[Specimen::new($options, $input)];

            fn settle(self) -> Self {
                AvgPoolOptions { stride: Some(self.stride.unwrap_or(self.kernel_size)), ..self }
            }

            fn build(&self, site: &Site) -> Result<Operation> {
                layer(AvgPool::<$axes>::new(site.input()?, self)?)
            }
        }
    };
}

room!(1, "avg_pool1d", "mean of each window of a sequence", "kernel_size = 3, stride = 2", &[4, 6]);
room!(2, "avg_pool2d", "mean of each window", "kernel_size = [2, 3], stride = 2", &[4, 5, 6]);
room!(3, "avg_pool3d", "mean of each window of a volume", "kernel_size = [2, 1, 3], stride = 2", &[4, 3, 4, 5]);

/// Average-pooling of sequences.
pub type AvgPool1d = AvgPool<1>;
/// The options of [`AvgPool1d`].
pub type AvgPool1dOptions = AvgPoolOptions<[i64; 1]>;
/// Average-pooling of images.
pub type AvgPool2d = AvgPool<2>;
/// The options of [`AvgPool2d`].
pub type AvgPool2dOptions = AvgPoolOptions<[i64; 2]>;
/// Average-pooling of volumes.
pub type AvgPool3d = AvgPool<3>;
/// The options of [`AvgPool3d`].
pub type AvgPool3dOptions = AvgPoolOptions<[i64; 3]>;

/// Average-pooling.
#[derive(Debug)]
pub struct AvgPool<const AXES: usize> {
    window: Window<AXES>,
    count_include_pad: bool,
}

impl<const AXES: usize> AvgPool<AXES>
where
    AvgPoolOptions<[i64; AXES]>: LayerType,
{
    const KIND: &'static str = <AvgPoolOptions<[i64; AXES]> as LayerType>::NAME;

    /// A pooling layer for inputs of shape `[channels, *axes]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the input has another number of axes or the window does not fit it.
    pub fn new(input: &[i64], options: &AvgPoolOptions<[i64; AXES]>) -> Result<Self> {
        let AvgPoolOptions { kernel_size, padding, ceil_mode, count_include_pad, .. } = *options;
        let stride = options.stride.unwrap_or(kernel_size);
        let window = Window::new(Self::KIND, input, kernel_size, stride, padding, sizes::ones(), ceil_mode)?;
        // libtorch takes a window that is larger than the input for images only.
        let whole = window.whole();
        if AXES == 3 && whole.iter().zip(&window.kernel).any(|(size, kernel)| size < kernel) {
            return Err(Error::Shape(format!(
                "{}: a window of {kernel_size:?} is larger than a volume of {whole:?}, padding apart",
                Self::KIND
            )));
        }
        Ok(AvgPool { window, count_include_pad })
    }

    /// `[K, C, *axes]` to `[K, C, *positions]`.
    fn pool(&self, x: &Tensor) -> Result<Tensor> {
        let Window { kernel, stride, native, ceil_mode, .. } = &self.window;
        let (kernel, stride, native) = (kernel.as_slice(), stride.as_slice(), native.as_slice());
        let (padded, counted) = (self.window.pad(&Lift::<AXES>::up(x)), self.count_include_pad);
        let none = None::<i64>;
        Ok(Lift::<AXES>::down(match AXES {
            3 => padded.f_avg_pool3d(kernel, stride, native, *ceil_mode, counted, none)?,
            _ => padded.f_avg_pool2d(kernel, stride, native, *ceil_mode, counted, none)?,
        }))
    }

    fn pool_back(&self, v: &Tensor) -> Result<Tensor> {
        let Window { kernel, stride, native, ceil_mode, .. } = &self.window;
        let (kernel, stride, native) = (kernel.as_slice(), stride.as_slice(), native.as_slice());
        let v = Lift::<AXES>::up(v);
        // libtorch reads only the shape of the input here.
        let whole = [&[v.size()[0], self.window.channels], self.window.whole().as_slice()].concat();
        let shape = Tensor::empty(whole.as_slice(), (v.kind(), v.device()));
        let (counted, none) = (self.count_include_pad, None::<i64>);
        let back = match AXES {
            3 => shape.f_avg_pool3d_backward(&v, kernel, stride, native, *ceil_mode, counted, none)?,
            _ => shape.f_avg_pool2d_backward(&v, kernel, stride, native, *ceil_mode, counted, none)?,
        };
        Ok(Lift::<AXES>::down(self.window.crop(back)))
    }
}

impl<const AXES: usize> LinearMap for AvgPool<AXES>
where
    AvgPoolOptions<[i64; AXES]>: LayerType,
{
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        self.window.output_shape(Self::KIND, input)
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

// To a given output size.

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
