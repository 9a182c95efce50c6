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
#[derive(Debug)]
pub struct Judgement {
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
                quantities.find("grad", number, "").map_or_else(|| parameter.value.zeros_like(), Tensor::copy);
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
    pub fn ratio(self, network: &mut Network, loss: &dyn Loss, batch: &Batch, mode: Mode) -> Result<f64> {
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

fn put(network: &mut Network, values: &[Tensor]) {
    for (parameter, value) in network.parameters_mut().zip(values) {
        parameter.copy_(value);
    }
}

fn dot(one: &Tensor, other: &Tensor) -> Result<f64> {
    Ok(f64::try_from((one * other).sum(Kind::Double))?)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::backpack::layers::{Layer, Linear};
    use crate::backpack::losses::{CrossEntropy, MeanSquaredError, Reduction};
    use crate::backpack::{BuiltIn::Grad, Pass};

    const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);

    /// The change of loss and regulariser by a step of `size` times the gradient, the sum of its squares, the ratio, and
    /// whether the parameters are those of the step.
    fn judged(damping: f64, l2: f64, size: f64) -> (f64, f64, f64, bool) {
        tch::manual_seed(6);
        let weight = Tensor::randn([2, 3], OPTIONS);
        let layer: Box<dyn Layer> = Box::new(Linear::from_tensors(weight, Some(Tensor::randn([2], OPTIONS))));
        let mut network = Network::sequential(vec![layer]);
        let batch = Batch { x: Tensor::randn([5, 3], OPTIONS), y: Tensor::randn([5, 2], OPTIONS) };
        let loss = MeanSquaredError::new(Reduction::Mean);
        let mode = Mode::Evaluation;
        let quantities = Pass::new(&network, &loss).take([Grad]).unwrap().run(&batch.x, &batch.y).unwrap();
        let value = |network: &Network| {
            let [weight, bias] = [0, 1].map(|place| network.parameters()[place].value.shallow_clone());
            let error = batch.x.mm(&weight.tr()) + bias - &batch.y;
            f64::try_from(error.square().mean(Kind::Double) + weight.square().sum(Kind::Double) * (l2 / 2.0)).unwrap()
        };
        let before = value(&network);
        let judgement = Judgement::before(&network, &quantities, damping, l2).unwrap();
        let mut squares = 0.0;
        let mut moved = Vec::new();
        for (place, parameter) in network.parameters().iter().enumerate() {
            let step = quantities.get(Grad, place).unwrap() * size;
            squares += dot(&step, &step).unwrap();
            moved.push(parameter.value + &step);
        }
        put(&mut network, &moved);
        let change = value(&network) - before;
        let ratio = judgement.ratio(&mut network, &loss, &batch, mode).unwrap();
        let kept = network.parameters().iter().zip(&moved).all(|(parameter, moved)| parameter.value == moved);
        (change, squares, ratio, kept)
    }

    /// Of a linear network with a squared error the quadratic model is exact, its damping apart.
    #[test]
    fn the_model_of_a_quadratic_loss_lacks_the_damping_alone() {
        for (damping, l2) in [(0.0, 0.0), (0.0, 0.3), (0.7, 0.0), (0.7, 0.3)] {
            let (change, squares, ratio, kept) = judged(damping, l2, -0.2);
            let expected = change / (change + 0.5 * damping * squares);
            assert!((ratio - expected).abs() < 1e-12, "damping {damping}, l2 {l2}: {ratio}, expected {expected}");
            assert!(kept, "the step was not brought back");
        }
    }

    /// Other than a squared error's, the curvature of this loss is another behind the step.
    #[test]
    fn the_model_is_that_of_the_parameters_before_the_step() {
        tch::manual_seed(7);
        let layer: Box<dyn Layer> = Box::new(Linear::from_tensors(Tensor::randn([3, 4], OPTIONS), None));
        let mut network = Network::sequential(vec![layer]);
        let batch = Batch { x: Tensor::randn([6, 4], OPTIONS), y: Tensor::randint(3, [6], (Kind::Int64, Device::Cpu)) };
        let (loss, mode) = (CrossEntropy::new(Reduction::Mean), Mode::Evaluation);
        let quantities = Pass::new(&network, &loss).take([Grad]).unwrap().run(&batch.x, &batch.y).unwrap();
        let judgement = Judgement::before(&network, &quantities, 0.0, 0.0).unwrap();
        let gradient = quantities.get(Grad, 0).unwrap();
        let step = gradient * -2.0;
        let model = |network: &Network| {
            let curved =
                ggn_product(network, &loss, &batch.x, &batch.y, mode, &[step.shallow_clone()]).unwrap().remove(0);
            dot(gradient, &step).unwrap() + 0.5 * dot(&step, &curved).unwrap()
        };
        let value = |weight: &Tensor| {
            f64::try_from(batch.x.mm(&weight.tr()).cross_entropy_loss::<Tensor>(
                &batch.y,
                None,
                tch::Reduction::Mean,
                -100,
                0.0,
            ))
            .unwrap()
        };
        let before = network.parameters()[0].value.copy();
        let predicted = model(&network);
        let moved = &before + &step;
        put(&mut network, std::slice::from_ref(&moved));
        assert!((model(&network) / predicted - 1.0).abs() > 0.01, "the curvatures are told apart");
        let ratio = judgement.ratio(&mut network, &loss, &batch, mode).unwrap();
        let expected = (value(&moved) - value(&before)) / predicted;
        assert!((ratio - expected).abs() < 1e-10, "{ratio}, expected {expected}");
    }

    #[test]
    fn there_is_no_ratio_where_the_model_predicts_no_decrease() {
        for size in [0.2, 1e-4] {
            let (change, _, ratio, kept) = judged(0.1, 0.3, size);
            assert!(change > 0.0 && ratio.is_nan() && kept, "{change} {ratio}");
        }
    }
}
