//! `max_pool2d`.

use tch::Tensor;

use super::channels::image_shape;
use super::{
    Channels, Curvature, Layer, Mode, Padding, PaddingChoice, Saved, channels_last, channels_last_room, merge, split,
};
use crate::error::{Error, Result};

/// Padding of a pooling layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolPadding {
    /// PyTorch's own, (height, width): minus infinity around a maximum, counted zeros around a mean.
    Native([i64; 2]),
    /// Zeros added to the input first, as DeepOBS does for TensorFlow's `same`.
    Zeros(PaddingChoice),
}

impl Default for PoolPadding {
    fn default() -> Self {
        PoolPadding::Native([0, 0])
    }
}

/// The options of max-pooling, named as in PyTorch; pairs are (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool2dOptions {
    /// The window's size.
    pub kernel_size: [i64; 2],
    /// Steps between windows.
    pub stride: [i64; 2],
    /// What lies around the input.
    pub padding: PoolPadding,
    /// Distance between the window's entries.
    pub dilation: [i64; 2],
    /// Whether a last, partial window counts.
    pub ceil_mode: bool,
}

/// The part of a pooling layer's geometry that max- and average-pooling share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The input's shape, `[channels, height, width]`.
    pub input: [i64; 3],
    pub kernel: [i64; 2],
    pub stride: [i64; 2],
    pub dilation: [i64; 2],
    /// Zeros that are added to the input first.
    pub zeros: Padding,
    /// Padding that libtorch's pooling does itself.
    pub native: [i64; 2],
    pub ceil_mode: bool,
}

impl Window {
    pub fn new(
        kind: &str,
        input: &[i64],
        kernel: [i64; 2],
        stride: [i64; 2],
        padding: PoolPadding,
        dilation: [i64; 2],
        ceil_mode: bool,
    ) -> Result<Self> {
        let input = image_shape(kind, input)?;
        let (zeros, native) = match padding {
            PoolPadding::Native(native) => (Padding::default(), native),
            PoolPadding::Zeros(choice) => (choice.resolve([input[1], input[2]], kernel, stride, dilation), [0, 0]),
        };
        let window = Window { input, kernel, stride, dilation, zeros, native, ceil_mode };
        for axis in 0..2 {
            let fits = kernel[axis] >= 1
                && stride[axis] >= 1
                && dilation[axis] >= 1
                && (0..=kernel[axis] / 2).contains(&native[axis])
                && window.whole()[axis] + 2 * native[axis] > dilation[axis] * (kernel[axis] - 1);
            if !fits {
                return Err(Error::Shape(format!(
                    "{kind}: a window of {kernel:?} with stride {stride:?} does not fit an input of {:?}; padding may be \
                     half the window at most",
                    window.whole()
                )));
            }
        }
        Ok(window)
    }

    /// The height and width after the zeros have been added.
    pub fn whole(&self) -> [i64; 2] {
        [self.input[1] + self.zeros.top + self.zeros.bottom, self.input[2] + self.zeros.left + self.zeros.right]
    }

    pub fn output_shape(&self, kind: &str, input: &[i64]) -> Result<Vec<i64>> {
        if input != self.input {
            return Err(Error::Shape(format!("{kind}: built for an input of {:?}, got {input:?}", self.input)));
        }
        let [height, width] = self.output_size();
        Ok(vec![self.input[0], height, width])
    }

    fn output_size(&self) -> [i64; 2] {
        std::array::from_fn(|axis| {
            let span = self.whole()[axis] + 2 * self.native[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1;
            let up = if self.ceil_mode { self.stride[axis] - 1 } else { 0 };
            let mut size = (span + up) / self.stride[axis] + 1;
            // A window must begin inside the input or its padding before the first pixel.
            if self.ceil_mode && (size - 1) * self.stride[axis] >= self.whole()[axis] + self.native[axis] {
                size -= 1;
            }
            size
        })
    }

    pub fn pad(&self, x: &Tensor) -> Tensor {
        if self.zeros.is_zero() { x.shallow_clone() } else { x.constant_pad_nd(self.zeros.list()) }
    }

    pub fn crop(&self, x: Tensor) -> Tensor {
        if self.zeros.is_zero() {
            return x;
        }
        x.narrow(-2, self.zeros.top, self.input[1]).narrow(-1, self.zeros.left, self.input[2])
    }

    /// Maxima and their places in each (padded) channel.
    fn pool(&self, padded: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(padded.f_max_pool2d_with_indices(self.kernel, self.stride, self.native, self.dilation, self.ceil_mode)?)
    }

    /// Whether no maximum of the last row and column is negative, so that zeros behind them would change nothing.
    fn border_is_not_negative(&self, output: &Tensor) -> Result<bool> {
        let smallest = |axis: i64| -> Result<f64> {
            Ok(f64::try_from(output.select(axis, output.size()[axis as usize] - 1).min())?)
        };
        Ok(smallest(2)? >= 0.0 && smallest(3)? >= 0.0)
    }

    /// `[V, N, C, *whole]`: room for vectors at the padded input.
    pub fn room(&self, v: &Tensor) -> Tensor {
        let [height, width] = self.whole();
        channels_last_room(&v.size()[..2], [self.input[0], height, width], v)
    }

    /// The same window without the zeros, where a last partial window of libtorch's ceil mode covers what they would:
    /// zeros to the right and below only. Its maxima are those over the zeros too as long as the border's are not
    /// negative.
    pub fn without_zeros(&self) -> Option<Window> {
        let other = Window { zeros: Padding::default(), ceil_mode: true, ..*self };
        let behind_only = !self.zeros.is_zero() && self.zeros.left == 0 && self.zeros.top == 0 && !self.ceil_mode;
        let same = behind_only && other.output_size() == self.output_size();
        same.then_some(other)
    }
}

/// Max-pooling. Of equal entries in a window the first one counts, as in libtorch.
pub struct MaxPool2d {
    window: Window,
    /// The cheaper window of [`Window::without_zeros`].
    bare: Option<Window>,
}

impl MaxPool2d {
    /// A pooling layer for inputs of shape `[channels, height, width]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input is no image or the window does not fit it.
    pub fn new(input: &[i64], options: &MaxPool2dOptions) -> Result<Self> {
        let MaxPool2dOptions { kernel_size, stride, padding, dilation, ceil_mode } = *options;
        let window = Window::new("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)?;
        Ok(MaxPool2d { window, bare: window.without_zeros() })
    }

    /// The window that a forward pass used: the input it kept has zeros around it or not.
    fn used(&self, saved: &Saved) -> &Window {
        match &self.bare {
            Some(bare) if saved.input.size()[2..] == bare.whole() => bare,
            _ => &self.window,
        }
    }
}

impl Layer for MaxPool2d {
    fn kind(&self) -> &'static str {
        "max_pool2d"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        self.window.output_shape(self.kind(), input)
    }

    /// What is saved as the input is the input after the zeros have been added, where they had to be; the extra tensor
    /// holds the places of the maxima.
    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        if let Some(bare) = &self.bare {
            let (output, places) = bare.pool(input)?;
            if bare.border_is_not_negative(&output)? {
                return Ok(Saved::new(input, output).with(vec![places]));
            }
        }
        let padded = self.window.pad(input);
        let (output, places) = self.window.pool(&padded)?;
        Ok(Saved::new(&padded, output).with(vec![places]))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let window = self.used(saved);
        let Window { kernel, stride, native, dilation, ceil_mode, .. } = *window;
        // Vectors from a flattened layer have their channels first, and would be reordered one by one.
        let v = split(&channels_last(&merge(v)), saved.samples());
        let room = window.room(&v);
        for vector in 0..v.size()[0] {
            let _ = saved.input.f_max_pool2d_with_indices_backward_grad_input(
                &room.get(vector),
                &v.get(vector),
                kernel,
                stride,
                native,
                dilation,
                ceil_mode,
                &saved.extra[0],
            )?;
        }
        Ok(window.crop(room))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let places = saved.extra[0].flatten(2, 3).unsqueeze(0);
        let shape = [&[v.size()[0]], saved.output.size().as_slice()].concat();
        let expanded = [&[v.size()[0]], &places.size()[1..]].concat();
        let padded = self.used(saved).pad(v).flatten(3, 4);
        Ok(padded.f_gather(3, &places.expand(expanded.as_slice(), false), false)?.view(shape.as_slice()))
    }

    fn curvature(&self) -> Curvature {
        Curvature::Zero
    }

    fn refuses_kfra(&self, _input: &[i64]) -> Option<String> {
        None
    }

    fn channels(&self) -> Channels {
        Channels::Apart { by_sample: true }
    }

    fn kfra_input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        // Each sample has its own places: scatter G's rows and columns for each sample and take the mean.
        let window = self.used(saved);
        let channels = window.input[0];
        let [height, width] = window.whole();
        let (samples, outputs) = (saved.samples(), g.size()[0]);
        let offsets =
            Tensor::arange(channels, (tch::Kind::Int64, g.device())).view([1, channels, 1]) * (height * width);
        let places = (saved.extra[0].flatten(2, 3) + offsets).flatten(1, 2);
        let inputs = channels * height * width;
        let sum = Tensor::zeros([inputs, inputs], (g.kind(), g.device()));
        for sample in 0..samples {
            let place = places.get(sample);
            let flat = (place.unsqueeze(1) * inputs + place.unsqueeze(0)).view([outputs * outputs]);
            let _ = sum.view([-1]).f_index_add_(0, &flat, &g.reshape([-1]))?;
        }
        let mean = sum / samples as f64;
        let whole = mean.view([channels, height, width, channels, height, width]);
        let (zeros, [_, rows, columns]) = (window.zeros, window.input);
        let cropped = whole
            .narrow(1, zeros.top, rows)
            .narrow(2, zeros.left, columns)
            .narrow(4, zeros.top, rows)
            .narrow(5, zeros.left, columns);
        let size = channels * rows * columns;
        Ok(cropped.reshape([size, size]))
    }
}
