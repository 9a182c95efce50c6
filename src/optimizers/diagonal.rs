//! The damped rule with a diagonal curvature: theta <- theta - alpha (g + l2 theta) / (d + lambda + l2), elementwise,
//! with d the running estimate of the diagonal and l2 zero for biases.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::clip::Clip;
use super::curvature::{AVERAGING, DAMPING_SCHEME, MC_SAMPLES, MOMENTUM};
use super::damping::Damping;
use super::heavy_ball::HeavyBall;
use super::measure::Overall;
use super::registry::{OptimizerInfo, curvature_dampings, curvature_learning_rates, no_more_memory};
use super::{
    Averaging, Hyperparameters, Measure, Optimizer, Phase, RunningEstimate, StepClock, StepReport, is_weight, take,
    wanted,
};
use crate::backpack::native::{add_quotient, add_scaled};
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

/// The damped rule with DiagGGN or DiagGGN-MC.
pub struct DiagonalRule {
    request: Request,
    quantity: &'static str,
    learning_rate: f64,
    damping: Damping,
    heavy_ball: HeavyBall,
    clip: Clip,
    averaging: Averaging,
    l2: f64,
    estimates: Vec<RunningEstimate>,
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
            quantity,
            learning_rate: hyperparameters.learning_rate,
            damping: Damping::of(hyperparameters),
            heavy_ball: HeavyBall::new(hyperparameters.number("momentum")),
            clip: Clip::new(hyperparameters),
            averaging: hyperparameters.averaging,
            l2: hyperparameters.l2,
            estimates: Vec::new(),
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

    fn step(&mut self, network: &Network, quantities: &Quantities, clock: &mut StepClock) -> Result<StepReport> {
        let clipped = self.clip.of_pass(network, quantities, self.l2)?;
        for node in network.nodes() {
            for (number, parameter) in node.numbered() {
                if self.estimates.len() == number {
                    self.estimates.push(RunningEstimate::new());
                }
                let l2 = if is_weight(parameter.name) { self.l2 } else { 0.0 };
                let gradient = wanted(quantities, "grad", number, "")?;
                if l2 != 0.0 {
                    add_scaled(gradient, &parameter.value, l2)?;
                }
                clock.lap(Phase::Update);
                let estimate = &mut self.estimates[number];
                estimate.observe(wanted(quantities, self.quantity, number, "")?, self.averaging, 1);
                clock.lap(Phase::Average);
                if let Some(diagonal) = estimate.value() {
                    let damping = self.damping.of_block(|| mean(diagonal))?;
                    let damped = diagonal + (damping + l2);
                    if self.heavy_ball.is_on() {
                        let mut step = gradient.f_div(&damped)?;
                        if clipped != 1.0 {
                            let _ = step.g_mul_scalar_(clipped);
                        }
                        let step = self.heavy_ball.through(number, step);
                        add_scaled(&parameter.value, &step, -self.learning_rate)?;
                    } else {
                        add_quotient(&parameter.value, gradient, &damped, -self.learning_rate * clipped)?;
                    }
                }
            }
        }
        self.damping.stepped();
        Ok(StepReport::default())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.damping.state();
        state.extend(self.heavy_ball.state());
        for (place, estimate) in self.estimates.iter().enumerate() {
            if let Some(value) = estimate.value() {
                state.push((format!("estimate.{place}"), value.shallow_clone()));
                state.push((format!("observations.{place}"), Tensor::from_slice(&[estimate.observations()])));
            }
        }
        state
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        self.damping.load_state(&mut state)?;
        self.heavy_ball.load_state(&mut state)?;
        self.estimates = (0..state.len() / 2)
            .map(|place| {
                let value = take(&mut state, &format!("estimate.{place}"))?;
                let observations = take(&mut state, &format!("observations.{place}"))?;
                Ok(RunningEstimate::restore(value, observations.to_kind(Kind::Int64).int64_value(&[0])))
            })
            .collect::<Result<_>>()?;
        Ok(())
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
        for (node, _) in network.with_parameters() {
            let (mut layer_largest, mut layer_sum, mut layer_damping, mut layer_entries) =
                (f64::NEG_INFINITY, 0.0, 0.0, 0.0);
            for (number, parameter) in node.numbered() {
                let estimate = self.estimates.get(number);
                let Some(diagonal) = estimate.and_then(RunningEstimate::value) else { continue };
                let count = diagonal.numel() as f64;
                let l2 = if is_weight(parameter.name) { self.l2 } else { 0.0 };
                layer_largest = f64::try_from(diagonal.max())?.max(layer_largest);
                layer_sum += f64::try_from(diagonal.sum(Kind::Double))?;
                layer_damping += count * (self.damping.of_block(|| mean(diagonal))? + l2);
                layer_entries += count;
            }
            if layer_entries == 0.0 {
                continue;
            }
            measures.push(Measure::new("largest_curvature", &node.name, layer_largest));
            measures.push(Measure::new("mean_curvature", &node.name, layer_sum / layer_entries));
            measures.push(Measure::new("damping_share", &node.name, layer_damping / (layer_sum + layer_damping)));
            overall.add(layer_largest, layer_sum, layer_entries);
        }
        measures.extend(overall.measures());
        Ok(measures)
    }
}

fn mean(diagonal: &Tensor) -> Result<f64> {
    Ok(f64::try_from(diagonal.mean(Kind::Double))?)
}
