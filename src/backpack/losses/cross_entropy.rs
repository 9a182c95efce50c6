//! Cross-entropy of softmax probabilities with class labels.
//!
//! With p the softmax of the output f: gradient p - e_y, Hessian diag(p) - p p^T.

use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::{Evaluated, Loss, Reduction, output_size, scale};
use crate::error::{Error, Result};
use crate::random::uniform;

/// `cross_entropy`: output `[N, C]`, target `[N]` of int64 classes.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropy {
    reduction: Reduction,
}

impl CrossEntropy {
    /// Cross-entropy with this reduction.
    pub fn new(reduction: Reduction) -> Self {
        CrossEntropy { reduction }
    }
}

impl Loss for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn evaluate(&self, output: &Tensor, target: &Tensor) -> Result<Evaluated> {
        let (samples, _) = output_size(self.name(), output)?;
        if target.size() != [samples] || target.kind() != Kind::Int64 {
            return Err(Error::Shape(format!(
                "cross_entropy: expected int64 classes of shape [{samples}], got {:?} of shape {:?}",
                target.kind(),
                target.size()
            )));
        }
        let scale = scale(self.reduction, samples);
        let log_probabilities = output.log_softmax(1, None::<Kind>);
        let places = target.unsqueeze(1);
        let value = log_probabilities.f_gather(1, &places, false)?.sum(None::<Kind>) * -scale;
        let predictive = log_probabilities.exp();
        let mut gradient = &predictive * scale;
        let shift = Tensor::full([samples, 1], -scale, (output.kind(), output.device()));
        let _ = gradient.scatter_add_(1, &places, &shift);
        Ok(Evaluated { value, gradient, predictive })
    }

    fn value(&self, output: &Tensor, target: &Tensor) -> Result<Tensor> {
        let scale = scale(self.reduction, output.size()[0]);
        let log_probabilities = output.log_softmax(1, None::<Kind>);
        Ok(log_probabilities.f_gather(1, &target.unsqueeze(1), false)?.sum(None::<Kind>) * -scale)
    }

    fn sqrt_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        // Column c is sqrt(p_c) (e_c - p).
        let p = &at.predictive;
        let roots = (p * scale(self.reduction, batch)).sqrt();
        // diag_embed puts (n, c) at (n, c, c); with the samples second this is the [C, N, C] of the diagonal part.
        let diagonal = roots.diag_embed(0, 1, 2).transpose(0, 1);
        let along = roots.tr().unsqueeze(2) * p.unsqueeze(0);
        Ok(diagonal - along)
    }

    fn sample(&self, at: &Evaluated, samples: i64, generator: &mut ChaCha8Rng) -> Result<Tensor> {
        let p = &at.predictive;
        let (count, classes) = p.size2()?;
        // Inverse transform: the class is the number of cumulated probabilities at or below the draw.
        let cumulated = p.to_kind(Kind::Double).cumsum(1, None::<Kind>);
        let draws = uniform(generator, &[samples, count], p.device()).to_kind(Kind::Double);
        let total = cumulated.narrow(1, classes - 1, 1).transpose(0, 1);
        let below = cumulated.unsqueeze(0).le_tensor(&(draws * total).unsqueeze(2));
        Ok(below.sum_dim_intlist(2, false, Kind::Int64).clamp(0, classes - 1))
    }

    fn sqrt_hessian_sampled(&self, at: &Evaluated, targets: &Tensor, batch: i64) -> Result<Tensor> {
        let p = &at.predictive;
        let (count, classes) = p.size2()?;
        if targets.dim() != 2 || targets.size()[1] != count || targets.kind() != Kind::Int64 {
            return Err(Error::Shape(format!(
                "cross_entropy: sampled labels of shape {:?} and type {:?}, expected int64 [M, {count}]",
                targets.size(),
                targets.kind()
            )));
        }
        let samples = targets.size()[0];
        let scale = (scale(self.reduction, batch) / samples as f64).sqrt();
        let vectors = (p * scale).unsqueeze(0).expand([samples, count, classes], false).contiguous();
        let shift = Tensor::full([samples, count, 1], -scale, (p.kind(), p.device()));
        Ok(vectors.f_scatter_add(2, &targets.unsqueeze(2), &shift)?)
    }

    fn hessian_product(&self, at: &Evaluated, v: &Tensor, batch: i64) -> Result<Tensor> {
        let p = at.predictive.unsqueeze(0);
        let weighted = v * &p;
        let sum = weighted.sum_dim_intlist(2, true, None::<Kind>);
        Ok((weighted - p * sum) * scale(self.reduction, batch))
    }

    fn summed_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        let p = &at.predictive;
        let diagonal = p.sum_dim_intlist(0, false, None::<Kind>).diag(0);
        Ok((diagonal - p.tr().mm(p)) * scale(self.reduction, batch))
    }

    fn accuracy(&self, output: &Tensor, target: &Tensor) -> Result<f64> {
        let correct = output.argmax(1, false).f_eq_tensor(target)?;
        Ok(f64::try_from(correct.to_kind(Kind::Double).mean(Kind::Double))?)
    }
}
