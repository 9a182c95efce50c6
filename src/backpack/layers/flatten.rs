//! `flatten`: `[N, *shape]` to `[N, features]`.

use tch::Tensor;

use super::{Channels, Curvature, Layer, Mode, Saved};
use crate::error::Result;

/// Makes one axis of all axes but the samples.
#[derive(Default)]
pub struct Flatten;

impl Flatten {
    /// A flattening layer.
    pub fn new() -> Self {
        Flatten
    }
}

impl Layer for Flatten {
    fn kind(&self) -> &'static str {
        "flatten"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(vec![input.iter().product()])
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let features: i64 = input.size()[1..].iter().product();
        Ok(Saved::new(input, input.reshape([input.size()[0], features])))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.reshape([&v.size()[..2], &saved.input.size()[1..]].concat().as_slice()))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.reshape([&v.size()[..2], &saved.output.size()[1..]].concat().as_slice()))
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

    fn kfra_input(&self, _saved: &Saved, g: &Tensor) -> Result<Tensor> {
        Ok(g.shallow_clone())
    }
}
