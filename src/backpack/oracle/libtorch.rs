//! libtorch's automatic differentiation, the losses as libtorch has them, and the square roots of their Hessians written out.

use tch::{Kind, Reduction as Libtorch, Tensor};

use crate::backpack::losses::{Loss, Reduction};
use crate::backpack::network::Network;
use crate::error::{Error, Result};

/// One of this crate's losses, computed by libtorch.
pub(super) struct LibtorchLoss {
    name: &'static str,
    reduction: Reduction,
    /// The reduced loss is this times the sum over samples and outputs.
    pub factor: f64,
}

impl LibtorchLoss {
    /// The loss of a batch with this output, `[N, *out]`.
    pub fn new(loss: &dyn Loss, output: &Tensor) -> Result<Self> {
        Self::of_batch(loss, output.size()[0], output)
    }

    /// The loss of a batch of this many samples with outputs like these, of which there may be fewer.
    pub fn of_batch(loss: &dyn Loss, samples: i64, output: &Tensor) -> Result<Self> {
        let name = loss.name();
        let size = output.size();
        let terms = match name {
            "cross_entropy" => samples * size[2..].iter().product::<i64>(),
            "mse" | "bce_with_logits" => samples * size[1..].iter().product::<i64>(),
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

    /// The documented columns of the exact square root at one sample's output `[1, *out]`: `[D, D]`, a column a row, the
    /// entries of the output in row-major order.
    pub fn root(&self, output: &Tensor) -> Tensor {
        let output = output.squeeze_dim(0);
        let options = (output.kind(), output.device());
        if self.name == "cross_entropy" && output.dim() > 1 {
            // Each position by itself: entry (c, t) of the output is at c times positions plus t.
            let (classes, flat) = (output.size()[0], output.flatten(1, -1));
            let positions = flat.size()[1];
            let whole = Tensor::zeros([classes, positions, classes, positions], options);
            for position in 0..positions {
                let own = self.root(&flat.select(1, position).unsqueeze(0));
                whole.select(3, position).select(1, position).copy_(&own);
            }
            return whole.view([classes * positions, -1]);
        }
        let output = output.flatten(0, -1);
        let identity = Tensor::eye(output.size()[0], options);
        let factor = self.factor.sqrt();
        match self.name {
            "cross_entropy" => {
                let p = output.softmax(0, None::<Kind>);
                (identity - &p) * p.sqrt().unsqueeze(1) * factor
            }
            "mse" => identity * (2f64.sqrt() * factor),
            _ => {
                // 1 - p is the sigmoid of the opposite; the difference would be lost where p is nearly one.
                let variance = output.sigmoid() * output.neg().sigmoid();
                identity * variance.sqrt().unsqueeze(1) * factor
            }
        }
    }

    /// The square root that sampled labels of one sample give (`[M, ..]` or `[M, *out]`), at its output `[1, *out]`: the
    /// gradients of the unreduced loss at these labels, so scaled that the outer products have the reduced loss's
    /// Hessian as their expectation: `[M, D]`.
    pub fn sampled_root(&self, output: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let count = labels.size()[0];
        let output = [output.detach().set_requires_grad(true)];
        let each: Result<Vec<Tensor>> = (0..count)
            .map(|draw| {
                let value = self.value(&output[0], &labels.narrow(0, draw, 1), Libtorch::Sum)?;
                Ok(gradients(&value, &output, false)?.remove(0).flatten(1, -1))
            })
            .collect();
        Ok(Tensor::cat(&each?, 0) * (self.factor / count as f64).sqrt())
    }
}

// First and second derivatives by libtorch's automatic differentiation.

/// The network's parameters, recorded by automatic differentiation for as long as this lives.
pub(super) struct Tracked {
    /// The parameters, in the network's order.
    pub parameters: Vec<Tensor>,
}

impl Tracked {
    pub fn new(network: &Network) -> Result<Self> {
        let mut tracked = Tracked { parameters: Vec::new() };
        for parameter in network.parameters() {
            // The flag belongs to the tensor that the network holds too, not to the handle.
            tracked.parameters.push(parameter.value.f_set_requires_grad(true)?);
        }
        Ok(tracked)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        for parameter in &self.parameters {
            let _ = parameter.set_requires_grad(false);
        }
    }
}

/// The gradients of the sum of a tensor's entries; zero where they do not depend on something. `again` keeps them
/// differentiable.
pub(super) fn gradients(of: &Tensor, with_respect_to: &[Tensor], again: bool) -> Result<Vec<Tensor>> {
    if !of.requires_grad() {
        return Ok(with_respect_to.iter().map(Tensor::zeros_like).collect());
    }
    let found = Tensor::f_run_backward(&[of], with_respect_to, true, again)?;
    Ok(found
        .into_iter()
        .zip(with_respect_to)
        .map(|(gradient, at)| if gradient.defined() { gradient } else { at.zeros_like() })
        .collect())
}

/// The second derivatives with respect to single entries of `parameter`, from the gradient with respect to it: the
/// entries of this flat index, or all of them.
pub(super) fn second_derivatives(gradient: &Tensor, parameter: &Tensor, entries: Option<&Tensor>) -> Result<Tensor> {
    let flat = gradient.reshape([-1]);
    let entries: Vec<i64> = match entries {
        Some(entries) => Vec::<i64>::try_from(entries)?,
        None => (0..parameter.numel() as i64).collect(),
    };
    let parameter = [parameter.shallow_clone()];
    let each: Result<Vec<Tensor>> = entries
        .into_iter()
        .map(|entry| Ok(gradients(&flat.get(entry), &parameter, false)?.remove(0).reshape([-1]).get(entry)))
        .collect();
    Ok(Tensor::stack(&each?, 0))
}

/// The matrix of second derivatives of a number with respect to all entries of a tensor.
pub(super) fn hessian(of: &Tensor, at: &Tensor) -> Result<Tensor> {
    let at = [at.shallow_clone()];
    let gradient = gradients(of, &at, true)?.remove(0).reshape([-1]);
    let rows: Result<Vec<Tensor>> = (0..gradient.size()[0])
        .map(|entry| Ok(gradients(&gradient.get(entry), &at, false)?.remove(0).reshape([-1])))
        .collect();
    Ok(Tensor::stack(&rows?, 0))
}
