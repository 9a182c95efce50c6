//! Binary cross-entropy of each output's sigmoid. With a mean reduction it is divided by samples times outputs.

use tch::{Kind, Tensor};

use super::{Evaluated, Loss, Reduction, check_values, diagonal_vectors, entries, output_size, scale, summed_diagonal};
use crate::backpack::draws::Draws;
use crate::error::{Error, Result};

/// `bce_with_logits`: output and target `[N, *out]`, targets from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct BceWithLogits {
    reduction: Reduction,
}

impl BceWithLogits {
    /// Binary cross-entropy with this reduction.
    pub fn new(reduction: Reduction) -> Self {
        BceWithLogits { reduction }
    }

    fn factor(&self, at: &Evaluated, batch: i64) -> f64 {
        scale(self.reduction, batch * entries(&at.predictive))
    }

    /// p (1 - p), `[N, *out]`.
    fn variance(at: &Evaluated) -> Tensor {
        at.predictive.sigmoid() * at.predictive.neg().sigmoid()
    }

    /// p - y at these logits, without the cancellation of a p that is nearly y = 1.
    fn difference(logits: &Tensor, target: &Tensor) -> Tensor {
        logits.sigmoid() * (1.0 - target) - logits.neg().sigmoid() * target
    }
}

impl Loss for BceWithLogits {
    fn name(&self) -> &'static str {
        "bce_with_logits"
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn evaluate(&self, output: &Tensor, target: &Tensor) -> Result<Evaluated> {
        let (samples, outputs) = output_size(self.name(), output)?;
        if target.size() != output.size() {
            return Err(Error::Shape(format!(
                "bce_with_logits: expected targets of the output's shape {:?}, got {:?}",
                output.size(),
                target.size()
            )));
        }
        let scale = scale(self.reduction, samples * outputs);
        let target = target.to_kind(output.kind());
        // log(1 + exp(f)) - y f, without overflow.
        let value = (output.relu() - output * &target + (-output.abs()).exp().log1p()).sum(None::<Kind>) * scale;
        let gradient = Self::difference(output, &target) * scale;
        Ok(Evaluated { value, gradient, predictive: output.shallow_clone() })
    }

    fn sqrt_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        Ok(diagonal_vectors(&(Self::variance(at) * self.factor(at, batch)).sqrt()))
    }

    fn sample(&self, at: &Evaluated, samples: i64, draws: &mut Draws) -> Result<Tensor> {
        let p = at.predictive.sigmoid();
        let draws = draws.uniform(&[&[samples], p.size().as_slice()].concat(), p.device()).to_kind(p.kind());
        Ok(draws.lt_tensor(&p.unsqueeze(0)).to_kind(p.kind()))
    }

    fn sqrt_hessian_sampled(&self, at: &Evaluated, targets: &Tensor, batch: i64) -> Result<Tensor> {
        check_values(self.name(), at, targets)?;
        let scale = (self.factor(at, batch) / targets.size()[0] as f64).sqrt();
        Ok(Self::difference(&at.predictive.unsqueeze(0), &targets.to_kind(at.predictive.kind())) * scale)
    }

    fn hessian_product(&self, at: &Evaluated, v: &Tensor, batch: i64) -> Result<Tensor> {
        Ok(v * (Self::variance(at) * self.factor(at, batch)).unsqueeze(0))
    }

    fn summed_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        Ok(summed_diagonal(&(Self::variance(at) * self.factor(at, batch))))
    }

    fn accuracy(&self, output: &Tensor, target: &Tensor) -> Result<f64> {
        let correct = output.gt(0.0).f_eq_tensor(&target.gt(0.5))?;
        Ok(f64::try_from(correct.to_kind(Kind::Double).mean(Kind::Double))?)
    }
}
