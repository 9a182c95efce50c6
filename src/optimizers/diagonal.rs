//! The damped rule with a diagonal curvature: theta <- theta - alpha (g + l2 theta) / (d + lambda + l2), elementwise,
//! with d the running estimate of the diagonal and l2 zero for biases.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::damping::{AVERAGING, DAMPING_SCHEME, Damping, HeavyBall, MC_SAMPLES, MOMENTUM};
use super::info::{OptimizerInfo, curvature_dampings, curvature_learning_rates, no_more_memory};
use super::measure::Overall;
use super::sgd::Clip;
use super::{
    Averaging, Hyperparameters, Measure, Optimizer, Phase, RunningEstimate, StepClock, StepReport, is_weight, take,
    wanted,
};
use crate::backpack::layers::Parameter;
use crate::backpack::native::{add_quotient, add_scaled};
use crate::backpack::network::Node;
use crate::backpack::quantities::Source;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;

pub(super) static DIAG_GGN: OptimizerInfo = OptimizerInfo {
    name: "diag_ggn",
    title: "DiagGGN",
    summary: "damped step with the exact diagonal of the GGN",
    options: &[AVERAGING, MOMENTUM, DAMPING_SCHEME],
    has_damping: true,
    vectors: Source::SqrtHessian,
    memory: no_more_memory,
    learning_rates: curvature_learning_rates,
    dampings: curvature_dampings,
    build: |hyperparameters, _| Ok(Box::new(DiagonalRule::new(hyperparameters)?)),
};

pub(super) static DIAG_GGN_MC: OptimizerInfo = OptimizerInfo {
    name: "diag_ggn_mc",
    title: "DiagGGN-MC",
    summary: "damped step with a sampled diagonal of the GGN",
    options: &[AVERAGING, MOMENTUM, DAMPING_SCHEME, MC_SAMPLES],
    vectors: Source::SampledSqrtHessian,
    ..DIAG_GGN
};

/// What the steps of all parameters share.
pub(super) struct Rates<'a> {
    pub learning_rate: f64,
    /// What gradients are multiplied by; the steps are linear in them.
    pub clipped: f64,
    pub damping: &'a Damping,
}

/// The damped steps of parameters by their running diagonals.
#[derive(Debug)]
pub(super) struct DiagonalSteps {
    quantity: &'static str,
    averaging: Averaging,
    l2: f64,
    /// By the network's number of the parameter.
    estimates: BTreeMap<usize, RunningEstimate>,
}

impl DiagonalSteps {
    /// No steps yet, with the diagonal of this quantity.
    pub fn new(hyperparameters: &Hyperparameters, quantity: &'static str) -> Self {
        let Hyperparameters { averaging, l2, .. } = *hyperparameters;
        DiagonalSteps { quantity, averaging, l2, estimates: BTreeMap::new() }
    }

    fn l2_of(&self, parameter: &Parameter) -> f64 {
        if is_weight(parameter.name) { self.l2 } else { 0.0 }
    }

    /// The step of the parameter of this number.
    pub fn step(
        &mut self,
        (number, parameter): (usize, &Parameter),
        quantities: &Quantities,
        rates: &Rates,
        heavy_ball: &mut HeavyBall,
        clock: &mut StepClock,
    ) -> Result<()> {
        let l2 = self.l2_of(parameter);
        let gradient = wanted(quantities, "grad", number, "")?;
        if l2 != 0.0 {
            add_scaled(gradient, &parameter.value, l2)?;
        }
        clock.lap(Phase::Update);
        let estimate = self.estimates.entry(number).or_default();
        estimate.observe(wanted(quantities, self.quantity, number, "")?, self.averaging, 1);
        clock.lap(Phase::Average);
        let Some(diagonal) = estimate.value() else { return Ok(()) };
        let damped = diagonal + (rates.damping.of_block(|| mean(diagonal))? + l2);
        if heavy_ball.is_on() {
            let mut step = gradient.f_div(&damped)?;
            if rates.clipped != 1.0 {
                let _ = step.g_mul_scalar_(rates.clipped);
            }
            add_scaled(&parameter.value, &heavy_ball.through(number, step), -rates.learning_rate)
        } else {
            add_quotient(&parameter.value, gradient, &damped, -rates.learning_rate * rates.clipped)
        }
    }

    /// What later steps depend on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for (number, estimate) in &self.estimates {
            if let Some(value) = estimate.value() {
                state.push((format!("estimate.{number}"), value.shallow_clone()));
                state.push((format!("observations.{number}"), Tensor::from_slice(&[estimate.observations()])));
            }
        }
        state
    }

    /// Takes its part out of a saved state.
    pub fn load_state(&mut self, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let number = |name: &String| name.strip_prefix("estimate.").and_then(|number| number.parse::<usize>().ok());
        let numbers: Vec<usize> = state.keys().filter_map(number).collect();
        self.estimates.clear();
        for number in numbers {
            let value = take(state, &format!("estimate.{number}"))?;
            let observations = take(state, &format!("observations.{number}"))?.to_kind(Kind::Int64).int64_value(&[0]);
            self.estimates.insert(number, RunningEstimate::restore(value, observations));
        }
        Ok(())
    }

    /// What can be told of a node's curvature; nothing where it has none here.
    pub fn measures(&self, node: &Node, rates: &Rates, overall: &mut Overall) -> Result<Vec<Measure>> {
        let (mut largest, mut sum, mut damped, mut entries) = (f64::NEG_INFINITY, 0.0, 0.0, 0.0);
        for (number, parameter) in node.numbered() {
            let estimate = self.estimates.get(&number);
            let Some(diagonal) = estimate.and_then(RunningEstimate::value) else { continue };
            let count = diagonal.numel() as f64;
            largest = f64::try_from(diagonal.max())?.max(largest);
            sum += f64::try_from(diagonal.sum(Kind::Double))?;
            damped += count * (rates.damping.of_block(|| mean(diagonal))? + self.l2_of(parameter));
            entries += count;
        }
        if entries == 0.0 {
            return Ok(Vec::new());
        }
        overall.add(largest, sum, entries);
        Ok(vec![
            Measure::new("largest_curvature", &node.name, largest),
            Measure::new("mean_curvature", &node.name, sum / entries),
            Measure::new("damping_share", &node.name, damped / (sum + damped)),
        ])
    }
}

/// The damped rule with DiagGGN or DiagGGN-MC.
#[derive(Debug)]
pub struct DiagonalRule {
    request: Request,
    learning_rate: f64,
    damping: Damping,
    heavy_ball: HeavyBall,
    clip: Clip,
    l2: f64,
    steps: DiagonalSteps,
}

impl DiagonalRule {
    /// The rule with these hyperparameters.
    ///
    /// # Errors
    /// None that input can reach.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        let quantity = hyperparameters.name.as_str();
        let mut request = Request::new(["grad", quantity])?;
        request.mc_samples = hyperparameters.mc_samples;
        request.chunk_bytes = hyperparameters.chunk_bytes;
        Ok(DiagonalRule {
            request,
            learning_rate: hyperparameters.learning_rate,
            damping: Damping::of(hyperparameters),
            heavy_ball: HeavyBall::new(hyperparameters.number("momentum")),
            clip: Clip::new(hyperparameters),
            l2: hyperparameters.l2,
            steps: DiagonalSteps::new(hyperparameters, quantity),
        })
    }
}

impl Optimizer for DiagonalRule {
    fn request(&self) -> &Request {
        &self.request
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
        let clipped = self.clip.of_pass(network, quantities, self.l2)?;
        let rates = Rates { learning_rate: self.learning_rate, clipped, damping: &self.damping };
        for numbered in network.nodes().iter().flat_map(Node::numbered) {
            self.steps.step(numbered, quantities, &rates, &mut self.heavy_ball, clock)?;
        }
        self.damping.stepped();
        Ok(StepReport::default())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.damping.state();
        state.extend(self.heavy_ball.state());
        state.extend(self.steps.state());
        state
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        self.damping.load_state(&mut state)?;
        self.heavy_ball.load_state(&mut state)?;
        self.steps.load_state(&mut state)
    }

    fn wants_reduction_ratio(&self) -> Option<f64> {
        self.damping.wants_ratio().then(|| self.damping.value())
    }

    fn take_reduction_ratio(&mut self, ratio: f64) {
        self.damping.adapt(ratio);
    }

    fn measures(&self, network: &Network) -> Result<Vec<Measure>> {
        let mut measures = vec![Measure::new("damping", "all", self.damping.value())];
        let mut overall = Overall::new();
        let rates = Rates { learning_rate: self.learning_rate, clipped: 1.0, damping: &self.damping };
        for (node, _) in network.with_parameters() {
            measures.extend(self.steps.measures(node, &rates, &mut overall)?);
        }
        measures.extend(overall.measures());
        Ok(measures)
    }
}

fn mean(diagonal: &Tensor) -> Result<f64> {
    Ok(f64::try_from(diagonal.mean(Kind::Double))?)
}
