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
            window.check(kind, axis)?;
        }
        Ok(window)
    }

    /// PyTorch's conditions on the geometry along one axis, and that every window holds a pixel: it takes some that hold
    /// none, and gives minus infinity from no place.
    fn check(&self, kind: &str, axis: usize) -> Result<()> {
        let (kernel, stride, dilation) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
        let (whole, padding) = (self.whole()[axis], self.native[axis]);
        let direction = ["height", "width"][axis];
        let refuse = |reason: String| Err(Error::Shape(format!("{kind}: {reason}")));
        if kernel < 1 || stride < 1 || dilation < 1 {
            return refuse(format!(
                "kernel_size, stride and dilation must be at least 1; along the {direction} they are {kernel}, {stride} \
                 and {dilation}"
            ));
        }
        if !(0..=kernel / 2).contains(&padding) {
            return refuse(format!(
                "padding along the {direction} is {padding}, expected 0 to {}, half the kernel_size of {kernel}",
                kernel / 2
            ));
        }
        if whole < 1 || self.output_size()[axis] < 1 {
            return refuse(format!(
                "a window of {} pixels does not fit the {direction} of the input, which has {} with its padding",
                self.extent(axis),
                whole + 2 * padding
            ));
        }
        // The first pixel that a window reaches within the input; windows begin before its end, so only those that
        // begin in the padding can miss it.
        let misses = |start: i64| {
            let steps = if start < 0 { (-start + dilation - 1) / dilation } else { 0 };
            steps >= kernel || start + steps * dilation >= whole
        };
        if (0..self.output_size()[axis]).any(|place| misses(place * stride - padding)) {
            return refuse(format!(
                "with padding {padding} and dilation {dilation} a window of kernel_size {kernel} holds no pixel of the \
                 {direction}, {whole}"
            ));
        }
        Ok(())
    }

    /// The pixels from a window's first to its last, dilation included.
    fn extent(&self, axis: usize) -> i64 {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
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
            let span = self.whole()[axis] + 2 * self.native[axis] - self.extent(axis);
            let up = if self.ceil_mode { self.stride[axis] - 1 } else { 0 };
            // The quotient is rounded down where the window is larger than the input, too.
            let mut size = (span + up).div_euclid(self.stride[axis]) + 1;
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Every small geometry: what libtorch takes is taken, with its size, but for windows without a pixel.
    #[test]
    fn takes_what_libtorch_takes() {
        let (mut taken, mut refused, mut empty) = (0, 0, 0);
        for number in 0..6 * 4 * 3 * 3 * 3 * 2 {
            let mut rest = number;
            let mut next = |count: i64| {
                let digit = rest % count;
                rest /= count;
                digit
            };
            let (length, kernel, stride) = (next(6) + 1, next(4) + 1, next(3) + 1);
            let (padding, dilation, ceil_mode) = (next(3), next(3) + 1, next(2) == 1);
            let geometry = format!(
                "{length} pixels, kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}, {ceil_mode}"
            );
            let x = Tensor::ones([1, 1, 2, length], (Kind::Float, Device::Cpu));
            let (kernels, strides, native, dilations) = ([1, kernel], [1, stride], [0, padding], [1, dilation]);
            let ours =
                Window::new("", &[1, 2, length], kernels, strides, PoolPadding::Native(native), dilations, ceil_mode);
            let mut theirs = vec![x.f_max_pool2d(kernels, strides, native, dilations, ceil_mode)];
            if dilation == 1 {
                theirs.push(x.f_avg_pool2d(kernels, strides, native, ceil_mode, true, None::<i64>));
            }
            for theirs in theirs {
                match (&ours, theirs) {
                    (Ok(ours), Ok(theirs)) => {
                        assert_eq!(ours.output_shape("", &[1, 2, length]).unwrap(), theirs.size()[1..], "{geometry}");
                        assert!(f64::try_from(theirs.min()).unwrap() > 0.0, "{geometry}: a window without a pixel");
                        taken += 1;
                    }
                    (Err(_), Err(_)) => refused += 1,
                    (Err(error), Ok(theirs)) => {
                        assert!(f64::try_from(theirs.min()).unwrap() == f64::NEG_INFINITY, "{geometry}: {error}");
                        empty += 1;
                    }
                    (Ok(_), Err(error)) => panic!("{geometry} is taken; libtorch: {error}"),
                }
            }
        }
        assert!(taken > 500 && refused > 300 && empty > 5, "{taken} {refused} {empty}");
    }
}
