//! `batch_norm2d`: with running statistics a fixed scaling of channels; while training a function of the whole batch.

use tch::{Device, Kind, Tensor};

use super::channels::{image_shape, sum_positions};
use super::{Curvature, KroneckerSupport, Layer, Mode, Parameter, Saved, VjpTangent};
use crate::error::{Error, Result};

/// The options of BatchNorm, named as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm2dOptions {
    /// Added to the variance.
    pub eps: f64,
    /// The weight of a new batch in the running statistics.
    pub momentum: f64,
    /// Whether the running statistics are used, and left alone, in training too.
    pub frozen: bool,
}

impl Default for BatchNorm2dOptions {
    fn default() -> Self {
        BatchNorm2dOptions { eps: 1e-5, momentum: 0.1, frozen: false }
    }
}

/// BatchNorm over the channels of an image, with weight and bias `[channels]`.
///
/// The extra tensors of its forward pass are the normalised input and the inverse standard deviation (expanded over
/// samples), and a third marks a pass that used the batch's own statistics.
pub struct BatchNorm2d {
    options: BatchNorm2dOptions,
    input: [i64; 3],
    parameters: Vec<Parameter>,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm2d {
    /// BatchNorm for inputs of shape `[channels, height, width]`: weight and variance one, bias and mean zero.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input is no image.
    pub fn new(input: &[i64], options: &BatchNorm2dOptions) -> Result<Self> {
        let input = image_shape("batch_norm2d", input)?;
        let channels = [input[0]];
        let mut weight = Parameter::zeros("weight", &channels);
        let _ = weight.value.fill_(1.0);
        Ok(BatchNorm2d {
            options: *options,
            input,
            parameters: vec![weight, Parameter::zeros("bias", &channels)],
            running_mean: Tensor::zeros(channels, (Kind::Float, Device::Cpu)),
            running_var: Tensor::ones(channels, (Kind::Float, Device::Cpu)),
        })
    }

    fn uses_batch(&self, mode: Mode) -> bool {
        !self.options.frozen && matches!(mode, Mode::Training { .. })
    }

    /// The weight over the inverse standard deviation, `[N, C, 1, 1]`: the Jacobian's diagonal with fixed statistics.
    fn scale(&self, saved: &Saved) -> Tensor {
        &saved.extra[1] * self.parameters[0].value.view([1, -1, 1, 1])
    }

    fn used_batch(saved: &Saved) -> bool {
        saved.extra.len() == 3
    }
}

impl Layer for BatchNorm2d {
    fn kind(&self) -> &'static str {
        "batch_norm2d"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        if input != self.input {
            return Err(Error::Shape(format!("batch_norm2d: built for an input of {:?}, got {input:?}", self.input)));
        }
        Ok(input.to_vec())
    }

    fn forward(&self, input: &Tensor, mode: Mode) -> Result<Saved> {
        let samples = input.size()[0];
        let batch = self.uses_batch(mode);
        let (mean, variance) = if batch {
            let axes = [0i64, 2, 3];
            let mean = input.mean_dim(axes.as_slice(), false, None::<Kind>);
            let centred = input - mean.view([1, -1, 1, 1]);
            let variance = centred.square().mean_dim(axes.as_slice(), false, None::<Kind>);
            let count = (samples * self.input[1] * self.input[2]) as f64;
            if count < 2.0 {
                return Err(Error::Shape(
                    "batch_norm2d: one value a channel has no variance; use a larger batch".into(),
                ));
            }
            let momentum = self.options.momentum;
            let update = |running: &Tensor, new: &Tensor| {
                running.shallow_clone().copy_(&(running * (1.0 - momentum) + new * momentum));
            };
            update(&self.running_mean, &mean);
            update(&self.running_var, &(&variance * (count / (count - 1.0))));
            (mean, variance)
        } else {
            (self.running_mean.shallow_clone(), self.running_var.shallow_clone())
        };
        let inverse = (variance + self.options.eps).rsqrt();
        let normalised = (input - mean.view([1, -1, 1, 1])) * inverse.view([1, -1, 1, 1]);
        let weight = self.parameters[0].value.view([1, -1, 1, 1]);
        let output = &normalised * weight + self.parameters[1].value.view([1, -1, 1, 1]);
        let inverse = inverse.view([1, -1, 1, 1]).expand([samples, -1, 1, 1], false);
        let mut extra = vec![normalised, inverse];
        if batch {
            extra.push(Tensor::ones([samples], (Kind::Bool, input.device())));
        }
        Ok(Saved::new(input, output).with(extra))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let scaled = v * self.scale(saved);
        if !Self::used_batch(saved) {
            return Ok(scaled);
        }
        // The statistics depend on the batch: take the mean and the part along the normalised input away.
        let axes = [1i64, 3, 4];
        let normalised = saved.extra[0].unsqueeze(0);
        let mean = scaled.mean_dim(axes.as_slice(), true, None::<Kind>);
        let along = (&scaled * &normalised).mean_dim(axes.as_slice(), true, None::<Kind>);
        Ok(scaled - mean - normalised * along)
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        if Self::used_batch(saved) {
            return Err(Error::Unsupported("batch_norm2d: Jacobian products need fixed statistics".into()));
        }
        Ok(v * self.scale(saved))
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("running_mean", &self.running_mean), ("running_var", &self.running_var)]
    }

    fn buffers_mut(&mut self) -> Vec<(&'static str, &mut Tensor)> {
        vec![("running_mean", &mut self.running_mean), ("running_var", &mut self.running_var)]
    }

    fn parameter_vjp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(if parameter == 0 { sum_positions(&(v * &saved.extra[0])) } else { sum_positions(v) })
    }

    fn parameter_jvp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        let tangent = v.view([v.size()[0], 1, -1, 1, 1]);
        Ok(if parameter == 0 {
            tangent * saved.extra[0].unsqueeze(0)
        } else {
            let shape = [&[v.size()[0]], saved.output.size().as_slice()].concat();
            tangent.expand(shape.as_slice(), false)
        })
    }

    fn curvature(&self) -> Curvature {
        Curvature::Zero
    }

    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let weight =
            input.map(|x| (g * x * &saved.extra[1]).sum_dim_intlist([0i64, 2, 3].as_slice(), false, None::<Kind>));
        Ok(VjpTangent {
            input: parameters[0].as_ref().map(|tangent| g * &saved.extra[1] * tangent.view([1, -1, 1, 1])),
            parameters: vec![weight, None],
        })
    }

    fn samples_are_independent(&self, mode: Mode) -> bool {
        !self.uses_batch(mode)
    }

    fn kronecker(&self) -> KroneckerSupport {
        KroneckerSupport::Refuses("its scale acts on each channel by itself and has no Kronecker factors")
    }

    fn refuses_kfra(&self, _input: &[i64]) -> Option<String> {
        None
    }

    fn kfra_input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        let [_, height, width] = self.input;
        let scale = self.scale(saved).get(0).expand([-1, height, width], false).reshape([-1]);
        Ok(g * scale.unsqueeze(1) * scale.unsqueeze(0))
    }
}
