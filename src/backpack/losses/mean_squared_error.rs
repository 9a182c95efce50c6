//! The squared error. With a mean reduction it is divided by samples times outputs, as in PyTorch.

use tch::{Kind, Tensor};

use super::{Evaluated, Loss, Reduction, check_values, diagonal_vectors, entries, output_size, scale, summed_diagonal};
use crate::backpack::draws::Draws;
use crate::error::{Error, Result};

/// `mse`: output and target `[N, *out]`. Its predictive distribution is normal with variance 1/2.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeanSquaredError {
    reduction: Reduction,
}

impl MeanSquaredError {
    /// The squared error with this reduction.
    pub fn new(reduction: Reduction) -> Self {
        MeanSquaredError { reduction }
    }

    /// The loss is this times the sum of squared differences.
    fn factor(&self, at: &Evaluated, batch: i64) -> f64 {
        scale(self.reduction, batch * entries(&at.predictive))
    }
}

impl Loss for MeanSquaredError {
    fn name(&self) -> &'static str {
        "mse"
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn evaluate(&self, output: &Tensor, target: &Tensor) -> Result<Evaluated> {
        let (samples, outputs) = output_size(self.name(), output)?;
        if target.size() != output.size() {
            return Err(Error::Shape(format!(
                "mse: expected targets of the output's shape {:?}, got {:?}",
                output.size(),
                target.size()
            )));
        }
        let scale = scale(self.reduction, samples * outputs);
        let difference = output - target.to_kind(output.kind());
        let value = difference.square().sum(None::<Kind>) * scale;
        Ok(Evaluated { value, gradient: difference * (2.0 * scale), predictive: output.shallow_clone() })
    }

    fn sqrt_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        let length = (2.0 * self.factor(at, batch)).sqrt();
        Ok(diagonal_vectors(&at.predictive.full_like(length)))
    }

    fn sample(&self, at: &Evaluated, samples: i64, draws: &mut Draws) -> Result<Tensor> {
        let f = &at.predictive;
        let noise = draws.normal(&[&[samples], f.size().as_slice()].concat(), f.device()).to_kind(f.kind());
        Ok(f.unsqueeze(0) + noise * 0.5f64.sqrt())
    }

    fn sqrt_hessian_sampled(&self, at: &Evaluated, targets: &Tensor, batch: i64) -> Result<Tensor> {
        check_values(self.name(), at, targets)?;
        // The gradient of a drawn target has covariance 4 * 1/2 = 2, the Hessian of the squared difference.
        let scale = (self.factor(at, batch) / targets.size()[0] as f64).sqrt();
        Ok((at.predictive.unsqueeze(0) - targets.to_kind(at.predictive.kind())) * (2.0 * scale))
    }

    fn hessian_product(&self, at: &Evaluated, v: &Tensor, batch: i64) -> Result<Tensor> {
        Ok(v * (2.0 * self.factor(at, batch)))
    }

    fn summed_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        Ok(summed_diagonal(&at.predictive.full_like(2.0 * self.factor(at, batch))))
    }

    fn accuracy(&self, _output: &Tensor, _target: &Tensor) -> Result<f64> {
        Ok(f64::NAN)
    }
}
