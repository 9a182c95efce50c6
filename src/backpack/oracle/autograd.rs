//! First and second derivatives by libtorch's automatic differentiation.

use tch::Tensor;

use crate::backpack::network::Network;
use crate::error::Result;

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
