//! `max_pool2d`.

use tch::Tensor;

use super::conv2d::image_shape;
use super::{Curvature, Layer, Mode, Padding, PaddingChoice, Saved};
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
        let size = |axis: usize| {
            let span = self.whole()[axis] + 2 * self.native[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1;
            let up = if self.ceil_mode { self.stride[axis] - 1 } else { 0 };
            let mut size = (span + up) / self.stride[axis] + 1;
            // A window must begin inside the input or its padding before the first pixel.
            if self.ceil_mode && (size - 1) * self.stride[axis] >= self.whole()[axis] + self.native[axis] {
                size -= 1;
            }
            size
        };
        Ok(vec![self.input[0], size(0), size(1)])
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

    /// `[V, N, C, *whole]`: room for vectors at the padded input.
    pub fn room(&self, v: &Tensor) -> Tensor {
        let [height, width] = self.whole();
        Tensor::empty([v.size()[0], v.size()[1], self.input[0], height, width], (v.kind(), v.device()))
    }
}

/// Max-pooling. Of equal entries in a window the first one counts, as in libtorch.
pub struct MaxPool2d {
    window: Window,
}

impl MaxPool2d {
    /// A pooling layer for inputs of shape `[channels, height, width]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input is no image or the window does not fit it.
    pub fn new(input: &[i64], options: &MaxPool2dOptions) -> Result<Self> {
        let MaxPool2dOptions { kernel_size, stride, padding, dilation, ceil_mode } = *options;
        Ok(MaxPool2d { window: Window::new("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)? })
    }
}

impl Layer for MaxPool2d {
    fn kind(&self) -> &'static str {
        "max_pool2d"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        self.window.output_shape(self.kind(), input)
    }

    /// What is saved as the input is the input after the zeros have been added; the extra tensor holds the places of
    /// the maxima.
    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let Window { kernel, stride, native, dilation, ceil_mode, .. } = self.window;
        let padded = self.window.pad(input);
        let (output, places) = padded.f_max_pool2d_with_indices(kernel, stride, native, dilation, ceil_mode)?;
        Ok(Saved { input: padded, output, extra: vec![places] })
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let Window { kernel, stride, native, dilation, ceil_mode, .. } = self.window;
        let room = self.window.room(v);
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
        Ok(self.window.crop(room))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let places = saved.extra[0].flatten(2, 3).unsqueeze(0);
        let shape = [&[v.size()[0]], saved.output.size().as_slice()].concat();
        let expanded = [&[v.size()[0]], &places.size()[1..]].concat();
        let padded = self.window.pad(v).flatten(3, 4);
        Ok(padded.f_gather(3, &places.expand(expanded.as_slice(), false), false)?.view(shape.as_slice()))
    }

    fn curvature(&self) -> Curvature {
        Curvature::Zero
    }

    fn refuses_kfra(&self, _input: &[i64]) -> Option<String> {
        None
    }

    fn kfra_input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        // Each sample has its own places: scatter G's rows and columns for each sample and take the mean.
        let channels = self.window.input[0];
        let [height, width] = self.window.whole();
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
        let (zeros, [_, rows, columns]) = (self.window.zeros, self.window.input);
        let cropped = whole
            .narrow(1, zeros.top, rows)
            .narrow(2, zeros.left, columns)
            .narrow(4, zeros.top, rows)
            .narrow(5, zeros.left, columns);
        let size = channels * rows * columns;
        Ok(cropped.reshape([size, size]))
    }
}
