//! The reduction ratio of a step (Martens and Grosse, 2015, section 6.5): the change of the mini-batch's loss over the
//! change that a quadratic model of it predicted.
//!
//! The model is M(d) = g^T d + (d^T G d + lambda |d|^2 + l2 |d_w|^2) / 2, with G the generalised Gauss-Newton matrix
//! of the mini-batch before the step, g the gradient of loss and regulariser, and d_w the step of the weights.

use tch::{Kind, Tensor};

use crate::backpack::layers::Mode;
use crate::backpack::losses::Loss;
use crate::backpack::products::ggn_product;
use crate::backpack::{Network, Quantities};
use crate::error::Result;
use crate::optimizers::{is_weight, regulariser};
use crate::problems::data::Batch;

/// What must be kept of the time before a step.
pub(super) struct Judgement {
    damping: f64,
    l2: f64,
    /// Loss and regulariser.
    value: f64,
    parameters: Vec<Tensor>,
    /// With l2 times the weights.
    gradients: Vec<Tensor>,
}

impl Judgement {
    /// Takes down what the step will change.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn before(network: &Network, quantities: &Quantities, damping: f64, l2: f64) -> Result<Self> {
        let mut parameters = Vec::new();
        let mut gradients = Vec::new();
        for (number, parameter) in network.parameters().iter().enumerate() {
            let mut gradient =
                quantities.get("grad", number).map_or_else(|| parameter.value.zeros_like(), Tensor::copy);
            if l2 != 0.0 && is_weight(parameter.role) {
                gradient += parameter.value * l2;
            }
            parameters.push(parameter.value.copy());
            gradients.push(gradient);
        }
        let value = quantities.loss_value()? + regulariser(network, l2)?;
        Ok(Judgement { damping, l2, value, parameters, gradients })
    }

    /// The ratio after the step; NaN where the loss is not finite or the model predicted no decrease.
    ///
    /// # Errors
    /// Where a layer has no products with the Gauss-Newton matrix.
    pub fn ratio(self, network: &Network, loss: &dyn Loss, batch: &Batch, mode: Mode) -> Result<f64> {
        let trace = network.forward(&batch.x, mode)?;
        let output = trace.output().shallow_clone();
        drop(trace);
        let after = f64::try_from(loss.value(&output, &batch.y)?)? + regulariser(network, self.l2)?;
        let now: Vec<Tensor> = network.parameters().iter().map(|parameter| parameter.value.copy()).collect();
        let steps: Vec<Tensor> = now.iter().zip(&self.parameters).map(|(now, before)| now - before).collect();
        // The product is one at the old parameters; the copies bring both back bit by bit.
        put(network, &self.parameters);
        let curved = ggn_product(network, loss, &batch.x, &batch.y, mode, &steps);
        put(network, &now);
        let mut predicted = 0.0;
        let roles = network.parameters();
        for (((step, curved), gradient), parameter) in steps.iter().zip(&curved?).zip(&self.gradients).zip(&roles) {
            let l2 = if is_weight(parameter.role) { self.l2 } else { 0.0 };
            let squares = dot(step, step)?;
            predicted += dot(gradient, step)? + 0.5 * (dot(step, curved)? + (self.damping + l2) * squares);
        }
        Ok(if predicted < 0.0 && after.is_finite() { (after - self.value) / predicted } else { f64::NAN })
    }
}

fn put(network: &Network, values: &[Tensor]) {
    for (parameter, value) in network.parameters().iter().zip(values) {
        parameter.value.shallow_clone().copy_(value);
    }
}

fn dot(one: &Tensor, other: &Tensor) -> Result<f64> {
    Ok(f64::try_from((one * other).sum(Kind::Double))?)
}
