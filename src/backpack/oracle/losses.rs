//! The losses as libtorch has them, and the square roots of their Hessians written out.

use tch::{Kind, Reduction as Libtorch, Tensor};

use super::autograd::gradients;
use crate::backpack::losses::{Loss, Reduction};
use crate::error::{Error, Result};

/// One of this crate's losses, computed by libtorch.
pub(super) struct LibtorchLoss {
    name: &'static str,
    reduction: Reduction,
    /// The reduced loss is this times the sum over samples and outputs.
    pub factor: f64,
}

impl LibtorchLoss {
    /// The loss of a batch with this output, `[N, D]`.
    pub fn new(loss: &dyn Loss, output: &Tensor) -> Result<Self> {
        let (samples, outputs) = output.size2()?;
        Self::of_size(loss, samples, outputs)
    }

    /// The loss of a batch of this many samples and outputs.
    pub fn of_size(loss: &dyn Loss, samples: i64, outputs: i64) -> Result<Self> {
        let name = loss.name();
        let terms = match name {
            "cross_entropy" => samples,
            "mse" | "bce_with_logits" => samples * outputs,
            _ => return Err(Error::Unsupported(format!("the oracle does not know the loss `{name}`"))),
        };
        let reduction = loss.reduction();
        let factor = if reduction == Reduction::Mean { 1.0 / terms as f64 } else { 1.0 };
        Ok(LibtorchLoss { name, reduction, factor })
    }

    /// The reduced loss of the whole batch, by libtorch's own reduction.
    pub fn reduced(&self, output: &Tensor, target: &Tensor) -> Result<Tensor> {
        match self.reduction {
            Reduction::Mean => self.value(output, target, Libtorch::Mean),
            Reduction::Sum => self.value(output, target, Libtorch::Sum),
        }
    }

    /// What these samples contribute to the reduced loss of the batch.
    pub fn share(&self, output: &Tensor, target: &Tensor) -> Result<Tensor> {
        Ok(self.value(output, target, Libtorch::Sum)? * self.factor)
    }

    fn value(&self, output: &Tensor, target: &Tensor, reduction: Libtorch) -> Result<Tensor> {
        let none = None::<&Tensor>;
        Ok(match self.name {
            "cross_entropy" => output.f_cross_entropy_loss(target, none, reduction, -100, 0.0)?,
            "mse" => output.f_mse_loss(&target.to_kind(output.kind()), reduction)?,
            _ => {
                let target = target.to_kind(output.kind());
                output.f_binary_cross_entropy_with_logits(&target, none, none, reduction)?
            }
        })
    }

    /// The documented columns of the exact square root at one sample's output `[1, D]`: `[D, D]`, a column a row.
    pub fn root(&self, output: &Tensor) -> Tensor {
        let output = output.squeeze_dim(0);
        let identity = Tensor::eye(output.size()[0], (output.kind(), output.device()));
        let factor = self.factor.sqrt();
        match self.name {
            "cross_entropy" => {
                let p = output.softmax(0, None::<Kind>);
                (identity - &p) * p.sqrt().unsqueeze(1) * factor
            }
            "mse" => identity * (2f64.sqrt() * factor),
            _ => {
                let p = output.sigmoid();
                let variance: Tensor = &p * (1.0 - &p);
                identity * variance.sqrt().unsqueeze(1) * factor
            }
        }
    }

    /// The square root that sampled labels of one sample give (`[M]` or `[M, D]`), at its output `[1, D]`: the
    /// gradients of the unreduced loss at these labels, so scaled that the outer products have the reduced loss's
    /// Hessian as their expectation: `[M, D]`.
    pub fn sampled_root(&self, output: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let count = labels.size()[0];
        let output = [output.detach().set_requires_grad(true)];
        let each: Result<Vec<Tensor>> = (0..count)
            .map(|draw| {
                let value = self.value(&output[0], &labels.narrow(0, draw, 1), Libtorch::Sum)?;
                Ok(gradients(&value, &output, false)?.remove(0))
            })
            .collect();
        Ok(Tensor::cat(&each?, 0) * (self.factor / count as f64).sqrt())
    }
}
