//! `zero_pad2d`: zeros around an image.

use tch::Tensor;

use super::channels::image_shape;
use super::{Channels, Curvature, Layer, Mode, Padding, Saved};
use crate::error::{Error, Result};

/// Zeros around the two spatial axes.
pub struct ZeroPad2d {
    input: [i64; 3],
    padding: Padding,
}

impl ZeroPad2d {
    /// Padding for inputs of shape `[channels, height, width]`. Negative padding cuts pixels away, as in PyTorch.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input is no image or nothing would be left of it.
    pub fn new(input: &[i64], padding: Padding) -> Result<Self> {
        let input = image_shape("zero_pad2d", input)?;
        let Padding { left, right, top, bottom } = padding;
        if input[1] + top + bottom < 1 || input[2] + left + right < 1 {
            return Err(Error::Shape(format!("zero_pad2d: nothing is left of {input:?} after padding {padding:?}")));
        }
        Ok(ZeroPad2d { input, padding })
    }

    fn pad(&self, x: &Tensor) -> Tensor {
        x.constant_pad_nd(self.padding.list())
    }

    fn crop(&self, x: &Tensor) -> Tensor {
        x.constant_pad_nd(self.padding.list().map(|pixels| -pixels))
    }
}

impl Layer for ZeroPad2d {
    fn kind(&self) -> &'static str {
        "zero_pad2d"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        if input != self.input {
            return Err(Error::Shape(format!("zero_pad2d: built for an input of {:?}, got {input:?}", self.input)));
        }
        let Padding { left, right, top, bottom } = self.padding;
        Ok(vec![self.input[0], self.input[1] + top + bottom, self.input[2] + left + right])
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, self.pad(input)))
    }

    fn vjp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(self.crop(v))
    }

    fn jvp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(self.pad(v))
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
        super::both_sides(g, &saved.output.size()[1..], |rows| Ok(self.crop(rows)))
    }
}
