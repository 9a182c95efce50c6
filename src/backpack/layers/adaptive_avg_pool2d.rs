//! `adaptive_avg_pool2d`: average-pooling to a given output size.

use tch::Tensor;

use super::channels::image_shape;
use super::{Channels, Curvature, Layer, Mode, Saved, merge, split};
use crate::error::{Error, Result};

/// Average-pooling whose windows follow from the output's size.
pub struct AdaptiveAvgPool2d {
    input: [i64; 3],
    output: [i64; 2],
}

impl AdaptiveAvgPool2d {
    /// A pooling layer for inputs of shape `[channels, height, width]` with an output of (height, width).
    ///
    /// # Errors
    /// [`Error::Shape`] when the input is no image or a size is not positive.
    pub fn new(input: &[i64], output_size: [i64; 2]) -> Result<Self> {
        if output_size.iter().any(|&size| size < 1) {
            return Err(Error::Shape(format!("adaptive_avg_pool2d: output_size {output_size:?} must be positive")));
        }
        Ok(AdaptiveAvgPool2d { input: image_shape("adaptive_avg_pool2d", input)?, output: output_size })
    }

    fn pool_back(&self, v: &Tensor) -> Result<Tensor> {
        let [channels, height, width] = self.input;
        // libtorch reads only the shape of the input here.
        let shape = Tensor::empty([v.size()[0], channels, height, width], (v.kind(), v.device()));
        Ok(shape.f_internal_adaptive_avg_pool2d_backward(v)?)
    }
}

impl Layer for AdaptiveAvgPool2d {
    fn kind(&self) -> &'static str {
        "adaptive_avg_pool2d"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        if input != self.input {
            return Err(Error::Shape(format!(
                "{}: built for an input of {:?}, got {input:?}",
                self.kind(),
                self.input
            )));
        }
        Ok(vec![self.input[0], self.output[0], self.output[1]])
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, input.f_internal_adaptive_avg_pool2d(self.output)?))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(split(&self.pool_back(&merge(v))?, saved.samples()))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(split(&merge(v).f_internal_adaptive_avg_pool2d(self.output)?, saved.samples()))
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
