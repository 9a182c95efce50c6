//! Max-pooling over one to three axes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::axes::Lift;
use super::super::layer_type::{LayerType, Site, Specimen, layer};
use super::super::sizes::{self, PerAxis};
use super::super::{Channels, Curvature, Layer, Mode, PaddingChoice, Recursion, Saved, channels_last, merge, split};
use super::Window;
use crate::backpack::network::Operation;
use crate::error::Result;

/// The options of max-pooling, named as in PyTorch; for images a pair is (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(bound(serialize = "A: Serialize", deserialize = ""))]
pub struct MaxPoolOptions<A: PerAxis> {
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
    /// steps between a window's entries
    #[serde(default = "sizes::ones::<A>", deserialize_with = "sizes::sizes")]
    #[schemars(extend("x-default" = "1"))]
    pub dilation: A,
    /// whether the output's size is rounded up
    #[serde(default)]
    pub ceil_mode: bool,
}

impl<A: PerAxis> Default for MaxPoolOptions<A> {
    /// PyTorch's defaults; the window, which has none, is 1.
    fn default() -> Self {
        MaxPoolOptions {
            kernel_size: sizes::ones(),
            stride: None,
            padding: PaddingChoice::default(),
            dilation: sizes::ones(),
            ceil_mode: false,
        }
    }
}

macro_rules! room {
    ($axes:literal, $name:literal, $summary:literal, $options:literal, $input:expr) => {
        impl LayerType for MaxPoolOptions<[i64; $axes]> {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;
            const SPECIMENS: &'static [Specimen] = &[Specimen::new($options, $input)];

            fn settle(self) -> Self {
                MaxPoolOptions { stride: Some(self.stride.unwrap_or(self.kernel_size)), ..self }
            }

            fn build(&self, site: &Site) -> Result<Operation> {
                layer(MaxPool::<$axes>::new(site.input()?, self)?)
            }
        }
    };
}

room!(1, "max_pool1d", "largest value of each window of a sequence", "kernel_size = 3, stride = 2", &[4, 6]);
room!(2, "max_pool2d", "largest value of each window", "kernel_size = [2, 3], stride = 2", &[4, 5, 6]);
room!(
    3,
    "max_pool3d",
    "largest value of each window of a volume",
    "kernel_size = [2, 1, 3], stride = 2",
    &[4, 3, 4, 5]
);

/// Max-pooling of sequences.
pub type MaxPool1d = MaxPool<1>;
/// The options of [`MaxPool1d`].
pub type MaxPool1dOptions = MaxPoolOptions<[i64; 1]>;
/// Max-pooling of images.
pub type MaxPool2d = MaxPool<2>;
/// The options of [`MaxPool2d`].
pub type MaxPool2dOptions = MaxPoolOptions<[i64; 2]>;
/// Max-pooling of volumes.
pub type MaxPool3d = MaxPool<3>;
/// The options of [`MaxPool3d`].
pub type MaxPool3dOptions = MaxPoolOptions<[i64; 3]>;

/// Max-pooling. Of equal entries in a window the first one counts, as in libtorch.
#[derive(Debug)]
pub struct MaxPool<const AXES: usize> {
    window: Window<AXES>,
    /// The cheaper window of [`Window::without_zeros`].
    bare: Option<Window<AXES>>,
}

impl<const AXES: usize> MaxPool<AXES>
where
    MaxPoolOptions<[i64; AXES]>: LayerType,
{
    const KIND: &'static str = <MaxPoolOptions<[i64; AXES]> as LayerType>::NAME;

    /// A pooling layer for inputs of shape `[channels, *axes]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the input has another number of axes or the window does not fit it.
    pub fn new(input: &[i64], options: &MaxPoolOptions<[i64; AXES]>) -> Result<Self> {
        let MaxPoolOptions { kernel_size, padding, dilation, ceil_mode, .. } = *options;
        let stride = options.stride.unwrap_or(kernel_size);
        let window = Window::new(Self::KIND, input, kernel_size, stride, padding, dilation, ceil_mode)?;
        let bare = window.without_zeros();
        Ok(MaxPool { window, bare })
    }

    /// The window that a forward pass used: the (lifted) input it kept has zeros around it or not.
    fn used(&self, saved: &Saved) -> &Window<AXES> {
        match &self.bare {
            Some(bare) if saved.input.size()[2..] == bare.whole() => bare,
            _ => &self.window,
        }
    }
}

/// Maxima and their places in each (padded) channel.
fn pool<const AXES: usize>(window: &Window<AXES>, padded: &Tensor) -> Result<(Tensor, Tensor)> {
    let Window { kernel, stride, native, dilation, ceil_mode, .. } = window;
    let (kernel, stride) = (kernel.as_slice(), stride.as_slice());
    let (native, dilation) = (native.as_slice(), dilation.as_slice());
    Ok(match AXES {
        3 => padded.f_max_pool3d_with_indices(kernel, stride, native, dilation, *ceil_mode)?,
        _ => padded.f_max_pool2d_with_indices(kernel, stride, native, dilation, *ceil_mode)?,
    })
}

/// Whether no maximum at the far end of any axis is negative, so that zeros behind them would change nothing.
fn border_is_not_negative(output: &Tensor) -> Result<bool> {
    let size = output.size();
    for (axis, &size) in size.iter().enumerate().skip(2) {
        if f64::try_from(output.select(axis as i64, size - 1).min())? < 0.0 {
            return Ok(false);
        }
    }
    Ok(true)
}

impl<const AXES: usize> Layer for MaxPool<AXES>
where
    MaxPoolOptions<[i64; AXES]>: LayerType,
{
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        self.window.output_shape(self.kind(), input)
    }

    /// What is saved as the input is the lifted input after the zeros have been added, where they had to be; the extra
    /// tensor holds the places of the maxima.
    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let input = Lift::<AXES>::up(input);
        if let Some(bare) = &self.bare {
            let (output, places) = pool(bare, &input)?;
            if border_is_not_negative(&output)? {
                return Ok(Saved::new(&input, Lift::<AXES>::down(output)).with(vec![places]));
            }
        }
        let padded = self.window.pad(&input);
        let (output, places) = pool(&self.window, &padded)?;
        Ok(Saved::new(&padded, Lift::<AXES>::down(output)).with(vec![places]))
    }

    fn library(&self, input: &Tensor, _mode: Mode) -> Result<Tensor> {
        let (output, _) = pool(&self.window, &self.window.pad(&Lift::<AXES>::up(input)))?;
        Ok(Lift::<AXES>::down(output))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let window = self.used(saved);
        let Window { kernel, stride, native, dilation, ceil_mode, .. } = window;
        let (kernel, stride) = (kernel.as_slice(), stride.as_slice());
        let (native, dilation) = (native.as_slice(), dilation.as_slice());
        // Vectors from a flattened layer have their channels first, and would be reordered one by one.
        let v = split(&channels_last(&Lift::<AXES>::up(&merge(v))), saved.samples());
        let room = window.room(&v);
        for vector in 0..v.size()[0] {
            let (room, v, places) = (&room.get(vector), &v.get(vector), &saved.extra[0]);
            let _ = match AXES {
                3 => saved.input.f_max_pool3d_with_indices_backward_grad_input(
                    room, v, kernel, stride, native, dilation, *ceil_mode, places,
                )?,
                _ => saved.input.f_max_pool2d_with_indices_backward_grad_input(
                    room, v, kernel, stride, native, dilation, *ceil_mode, places,
                )?,
            };
        }
        Ok(Lift::<AXES>::down(window.crop(room)))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let places = saved.extra[0].flatten(2, -1).unsqueeze(0);
        let shape = [&[v.size()[0]], saved.output.size().as_slice()].concat();
        let expanded = [&[v.size()[0]], &places.size()[1..]].concat();
        let padded = self.used(saved).pad(&Lift::<AXES>::up(v)).flatten(3, -1);
        Ok(padded.f_gather(3, &places.expand(expanded.as_slice(), false), false)?.view(shape.as_slice()))
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn recursion(&self) -> Option<&dyn Recursion> {
        Some(self)
    }

    fn channels(&self) -> Channels {
        Channels::Apart { by_sample: true }
    }
}

impl<const AXES: usize> Recursion for MaxPool<AXES>
where
    MaxPoolOptions<[i64; AXES]>: LayerType,
{
    fn input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        // Each sample has its own places: scatter G's rows and columns for each sample and take the mean.
        let window = self.used(saved);
        let channels = window.channels;
        let whole_sizes = window.whole();
        let entries: i64 = whole_sizes.iter().product();
        let (samples, outputs) = (saved.samples(), g.size()[0]);
        let offsets = Tensor::arange(channels, (tch::Kind::Int64, g.device())).view([1, channels, 1]) * entries;
        let places = (saved.extra[0].flatten(2, -1) + offsets).flatten(1, 2);
        let inputs = channels * entries;
        let sum = Tensor::zeros([inputs, inputs], (g.kind(), g.device()));
        for sample in 0..samples {
            let place = places.get(sample);
            let flat = (place.unsqueeze(1) * inputs + place.unsqueeze(0)).view([outputs * outputs]);
            let _ = sum.view([-1]).f_index_add_(0, &flat, &g.reshape([-1]))?;
        }
        let mean = sum / samples as f64;
        // The zeros' rows go, then their columns.
        let size = channels * window.input.iter().product::<i64>();
        let crop = |matrix: &Tensor| {
            let lines = matrix.view([&[-1, channels], whole_sizes.as_slice()].concat().as_slice());
            window.crop(lines).reshape([-1, size])
        };
        Ok(crop(&crop(&mean).tr().contiguous()).tr().contiguous())
    }
}
