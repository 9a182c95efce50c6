//! Muon (Jordan et al., 2024) as torch.optim.Muon: the momentum of a matrix, orthogonalised by Newton and Schulz's
//! iteration, in the precision of the parameters. Kernels are matrices `[out, rest]`; vectors, embeddings and the last layer
//! go by AdamW with the same learning rate and weight decay and PyTorch's other defaults.

use std::collections::BTreeMap;

use tch::Tensor;

use super::adam::{AdamMoments, BETAS, EPSILON, decay, eps, weight_decay};
use super::info::{OptimizerInfo, no_dampings, sides};
use super::matrices::Form;
use super::options::{FROM_0_BELOW_1, OptionInfo, OptionKind, OptionValue, STEPS, YES_OR_NO, from_0_below_1};
use super::sgd::Gradients;
use super::{Hyperparameters, Optimizer, Phase, StepClock, StepReport};
use crate::backpack::layers::{add_second_moment, second_moment};
use crate::backpack::native::{add_scaled, product::matmul_into, symmetric::mirror};
use crate::backpack::quantities::Source;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;
use crate::numbers::logspace;

/// Layers whose matrices look things up, or stretch and shift, rather than map vectors to vectors.
const NOT_BY_MUON: [&str; 6] = ["embedding", "position_embedding", "class_token", "gain", "layer_norm", "rms_norm"];

/// Jordan's coefficients of the iteration.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];

pub(super) static INFO: OptimizerInfo = OptimizerInfo {
    name: "muon",
    title: "Muon",
    summary: "orthogonalised momentum for matrices, AdamW for the rest",
    options: &[
        weight_decay(|| OptionValue::Number(0.1)),
        OptionInfo::new(
            "momentum",
            OptionKind::Number(from_0_below_1),
            FROM_0_BELOW_1,
            || OptionValue::Number(0.95),
            "the weight of the old momentum",
        ),
        OptionInfo::new("nesterov", OptionKind::Flag, YES_OR_NO, || OptionValue::Flag(true), "Nesterov's momentum"),
        OptionInfo::new(
            "ns_coefficients",
            OptionKind::Numbers(3, f64::is_finite),
            "three numbers",
            || OptionValue::Numbers(COEFFICIENTS.to_vec()),
            "a, b and c of an iteration, X <- a X + (b X X^T + c (X X^T)^2) X",
        ),
        eps(|| OptionValue::Number(1e-7), "the least norm that a matrix is divided by before the iteration"),
        OptionInfo::new("ns_steps", OptionKind::Count, STEPS, || OptionValue::Count(5), "steps of the iteration"),
        OptionInfo::new(
            "adjust_lr_fn",
            OptionKind::Choice(&["original", "match_rms_adamw"]),
            "original, match_rms_adamw",
            || OptionValue::Text("original".to_owned()),
            "the learning rate of an [o, r] matrix: times sqrt(max(1, o / r)), or 0.2 sqrt(max(o, r))",
        ),
    ],
    has_damping: false,
    vectors: Source::Gradient,
    // X X^T and its polynomial, and X.
    memory: |_, shape| {
        let [rows, columns] = sides(shape);
        2 * rows.min(columns).pow(2) + 2 * rows * columns
    },
    learning_rates: || logspace(-4.0, 0.0, 9),
    dampings: no_dampings,
    build: |hyperparameters, network| Ok(Box::new(Muon::new(hyperparameters, network)?)),
};

/// The iteration and what it is made with.
#[derive(Clone, Copy, Debug)]
struct NewtonSchulz {
    coefficients: [f64; 3],
    epsilon: f64,
    steps: u64,
}

/// Muon.
#[derive(Debug)]
pub struct Muon {
    gradients: Gradients,
    learning_rate: f64,
    weight_decay: f64,
    momentum: f64,
    nesterov: bool,
    iteration: NewtonSchulz,
    match_rms: bool,
    /// Of each parameter, the form of the matrix that Muon takes it as; nothing where AdamW takes it.
    forms: Vec<Option<Form>>,
    momenta: BTreeMap<usize, Tensor>,
    others: AdamMoments,
}

impl Muon {
    /// Muon with this learning rate, l2 and options.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters, network: &Network) -> Result<Self> {
        let last = network.with_parameters().last().map(|(node, _)| node.name.clone());
        let mut forms: Vec<Option<Form>> = network.parameters().iter().map(|_| None).collect();
        for (node, _) in network.with_parameters() {
            if last.as_ref() == Some(&node.name) || NOT_BY_MUON.contains(&node.kind()) {
                continue;
            }
            for (number, parameter) in node.numbered() {
                forms[number] = Some(Form::of(node, &parameter.value)).filter(|form| *form != Form::Vector);
            }
        }
        Ok(Muon {
            gradients: Gradients::new(hyperparameters)?,
            learning_rate: hyperparameters.learning_rate,
            weight_decay: hyperparameters.number("weight_decay"),
            momentum: hyperparameters.number("momentum"),
            nesterov: hyperparameters.flag("nesterov"),
            iteration: NewtonSchulz {
                coefficients: hyperparameters.numbers("ns_coefficients"),
                epsilon: hyperparameters.number("eps"),
                steps: hyperparameters.count("ns_steps"),
            },
            match_rms: hyperparameters.text("adjust_lr_fn") == "match_rms_adamw",
            forms,
            momenta: BTreeMap::new(),
            others: AdamMoments::new(BETAS, EPSILON),
        })
    }

    /// The learning rate of a matrix of this shape.
    fn adjusted(&self, matrix: &Tensor) -> f64 {
        let (rows, columns) = (matrix.size()[0] as f64, matrix.size()[1] as f64);
        let factor = if self.match_rms { 0.2 * rows.max(columns).sqrt() } else { (rows / columns).max(1.0).sqrt() };
        self.learning_rate * factor
    }
}

impl NewtonSchulz {
    /// A matrix near the orthogonal one next to `matrix`: with the same singular vectors, and singular values about 1.
    fn orthogonalise(&self, matrix: &Tensor) -> Result<Tensor> {
        let [a, b, c] = self.coefficients;
        let tall = matrix.size()[0] > matrix.size()[1];
        let matrix = if tall { matrix.tr() } else { matrix.shallow_clone() };
        // In the order of its rows, as products write them.
        let mut x = matrix.f_div(&matrix.norm().clamp_min(self.epsilon))?.contiguous();
        for _ in 0..self.steps {
            // Both products are symmetric: one half is computed, and the other is its mirror.
            let gram = second_moment(&x.tr(), 1.0)?;
            let polynomial = gram.copy();
            add_second_moment(&polynomial, &gram, b, c)?;
            mirror(&polynomial)?;
            let next = x.f_mul_scalar(a)?;
            matmul_into(&next, &polynomial, &x, 1.0, 1.0)?;
            x = next;
        }
        Ok(if tall { x.tr() } else { x })
    }
}

impl Optimizer for Muon {
    fn request(&self) -> &Request {
        &self.gradients.request
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn step(
        &mut self,
        network: &mut Network,
        quantities: &mut Quantities,
        clock: &mut StepClock,
    ) -> Result<StepReport> {
        self.others.begin();
        for (number, (parameter, gradient)) in self.gradients.take(network, quantities)?.into_iter().enumerate() {
            let Some(form) = self.forms[number] else {
                decay(parameter, self.learning_rate, self.weight_decay);
                self.others.step(number, parameter, &gradient, self.learning_rate)?;
                continue;
            };
            let momentum = self.momenta.entry(number).or_insert_with(|| gradient.zeros_like());
            let _ = momentum.lerp_(&gradient, 1.0 - self.momentum);
            let update = if self.nesterov { gradient.lerp(momentum, self.momentum) } else { momentum.shallow_clone() };
            let matrix = form.matrix(&update);
            clock.lap(Phase::Update);
            let orthogonal = self.iteration.orthogonalise(&matrix)?;
            clock.lap(Phase::Inverse);
            decay(parameter, self.learning_rate, self.weight_decay);
            add_scaled(parameter, &form.back(&orthogonal, parameter), -self.adjusted(&matrix))?;
            clock.lap(Phase::Update);
        }
        Ok(StepReport::default())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let momentum = |(number, momentum): (&usize, &Tensor)| (format!("momentum.{number}"), momentum.shallow_clone());
        self.others.state().into_iter().chain(self.momenta.iter().map(momentum)).collect()
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        self.others.load_state(&mut state)?;
        let number = |(name, tensor): (String, Tensor)| Some((name.strip_prefix("momentum.")?.parse().ok()?, tensor));
        self.momenta = state.into_iter().filter_map(number).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn the_iteration_brings_singular_values_near_one_and_keeps_the_vectors() {
        tch::manual_seed(3);
        let iteration = NewtonSchulz { coefficients: COEFFICIENTS, epsilon: 1e-7, steps: 5 };
        for shape in [[4i64, 7], [7, 4], [5, 5]] {
            let matrix = Tensor::randn(shape, (Kind::Double, Device::Cpu));
            let orthogonal = iteration.orthogonalise(&matrix).unwrap();
            let (u, _, v) = matrix.svd(true, true);
            let inside = u.tr().mm(&orthogonal).mm(&v);
            let values = inside.diagonal(0, 0, 1);
            let largest = f64::try_from((&inside - values.diag(0)).abs().max()).unwrap();
            assert!(largest < 1e-10, "not the same singular vectors: {largest}");
            let (least, most) = (f64::try_from(values.min()).unwrap(), f64::try_from(values.max()).unwrap());
            assert!((0.5..1.3).contains(&least) && (0.5..1.3).contains(&most), "{least} to {most}");
        }
    }
}
