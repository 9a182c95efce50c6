//! `avg_pool2d`; padding counts as zeros (PyTorch's count_include_pad).

use tch::Tensor;

use super::max_pool2d::{PoolPadding, Window};
use super::{Channels, Curvature, Layer, Mode, Saved, merge, split};
use crate::error::Result;

/// The options of average-pooling, named as in PyTorch; pairs are (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool2dOptions {
    /// The window's size.
    pub kernel_size: [i64; 2],
    /// Steps between windows.
    pub stride: [i64; 2],
    /// Zeros around the input.
    pub padding: PoolPadding,
    /// Whether a last, partial window counts; its mean is over the pixels it covers.
    pub ceil_mode: bool,
}

/// Average-pooling.
pub struct AvgPool2d {
    window: Window,
}

impl AvgPool2d {
    /// A pooling layer for inputs of shape `[channels, height, width]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the input is no image or the window does not fit it.
    pub fn new(input: &[i64], options: &AvgPool2dOptions) -> Result<Self> {
        let AvgPool2dOptions { kernel_size, stride, padding, ceil_mode } = *options;
        Ok(AvgPool2d { window: Window::new("avg_pool2d", input, kernel_size, stride, padding, [1, 1], ceil_mode)? })
    }

    fn pool(&self, padded: &Tensor) -> Result<Tensor> {
        let Window { kernel, stride, native, ceil_mode, .. } = self.window;
        Ok(padded.f_avg_pool2d(kernel, stride, native, ceil_mode, true, None::<i64>)?)
    }

    fn pool_back(&self, v: &Tensor) -> Result<Tensor> {
        let Window { kernel, stride, native, ceil_mode, .. } = self.window;
        let [height, width] = self.window.whole();
        // libtorch reads only the shape of the input here.
        let shape = Tensor::empty([v.size()[0], self.window.input[0], height, width], (v.kind(), v.device()));
        let back = shape.f_avg_pool2d_backward(v, kernel, stride, native, ceil_mode, true, None::<i64>)?;
        Ok(self.window.crop(back))
    }
}

impl Layer for AvgPool2d {
    fn kind(&self) -> &'static str {
        "avg_pool2d"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        self.window.output_shape(self.kind(), input)
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, self.pool(&self.window.pad(input))?))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(split(&self.pool_back(&merge(v))?, saved.samples()))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(split(&self.pool(&self.window.pad(&merge(v)))?, saved.samples()))
    }

    fn curvature(&self) -> Curvature {
        Curvature::Zero
    }

    fn refuses_kfra(&self, _input: &[i64]) -> Option<String> {
        None
    }

    fn channels(&self) -> Channels {
        Channels::Apart { by_sample: false }
    }

    fn kfra_input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        super::both_sides(g, &saved.output.size()[1..], |rows| self.pool_back(rows))
    }
}
