//! The damped rule in the eigenbasis of Kronecker factors (EKFAC; George et al., 2018).
//!
//! With Q_A and Q_B the eigenvectors of the running factors of `kfac_expand`, S the running mean of the squared gradients
//! of samples and sampled labels in that basis (see `ekfac` among the quantities), and gamma = lambda + l2:
//! W <- W - alpha Q_B [(Q_B^T (G + l2 W) Q_A) / (S + gamma)] Q_A^T, and b <- b - alpha Q_B [(Q_B^T g) / (s + lambda)] for a
//! bias. The basis is renewed every so many steps; S starts anew with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::clip::Clip;
use super::curvature::{AVERAGING, DAMPING_SCHEME, INVERSE_EVERY, MC_SAMPLES, MOMENTUM, OTHERS, eigenbasis_memory};
use super::damping::Damping;
use super::diagonal::Rates;
use super::eigen::decompose;
use super::factors::{Factors, symmetric};
use super::heavy_ball::HeavyBall;
use super::measure::Overall;
use super::others::Others;
use super::registry::{OptimizerInfo, curvature_dampings, curvature_learning_rates};
use super::{
    Averaging, Hyperparameters, Measure, Optimizer, Phase, RunningEstimate, StepClock, StepReport, take, wanted,
};
use crate::backpack::layers::{Basis, Layer, Saved, eigenvalues};
use crate::backpack::native::add_scaled;
use crate::backpack::network::Node;
use crate::backpack::quantities::{Combine, Pieces, Quantity, Site, Source, by_name};
use crate::backpack::{Network, Quantities, Request};
use crate::error::{Error, Result};

/// The quantity whose factors' eigenvectors are the basis.
const FACTORS: &str = "kfac_expand";

pub(super) static EKFAC: OptimizerInfo = OptimizerInfo {
    name: "ekfac",
    title: "EKFAC",
    summary: "damped step in the eigenbasis of kfac_expand's factors, with the sampled curvature along it",
    options: &[AVERAGING, INVERSE_EVERY, MOMENTUM, DAMPING_SCHEME, OTHERS, MC_SAMPLES],
    has_damping: true,
    vectors: Source::SampledSqrtHessian,
    memory: eigenbasis_memory,
    learning_rates: curvature_learning_rates,
    dampings: curvature_dampings,
    build: |hyperparameters, network| Ok(Box::new(EkfacRule::new(hyperparameters, network)?)),
};

/// What a layer's eigenvalues are made of, in whatever basis: its sampled vectors and its input.
struct Arrived {
    name: &'static str,
    source: Source,
}

const VECTORS: Arrived = Arrived { name: "sampled_vectors", source: Source::SampledSqrtHessian };
const INPUTS: Arrived = Arrived { name: "layer_inputs", source: Source::Gradient };

impl Quantity for Arrived {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        "what arrives at each layer with Kronecker factors"
    }

    fn shape(&self) -> &'static str {
        "[M, N, *out], or [N, *in]"
    }

    fn source(&self) -> Source {
        self.source
    }

    fn combine(&self) -> Combine {
        if self.source == Source::Gradient { Combine::Samples } else { Combine::VectorsAndSamples }
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        if site.parameter != 0 || !site.layer.has_positions() {
            return Ok(Pieces::new());
        }
        let tensor = if self.source == Source::Gradient { &site.saved.input } else { site.v };
        Ok(vec![("", tensor.shallow_clone())])
    }
}

/// What is known of one layer.
#[derive(Debug, Default)]
struct Curvature {
    factors: Factors,
    basis: Option<Basis>,
    /// Of the weight and of the bias, in the basis.
    eigenvalues: [RunningEstimate; 2],
}

/// EKFAC's rule.
pub struct EkfacRule {
    request: Request,
    learning_rate: f64,
    damping: Damping,
    heavy_ball: HeavyBall,
    clip: Clip,
    clipped: f64,
    renewed_every: u64,
    averaging: Averaging,
    l2: f64,
    others: Others,
    /// One for each layer with parameters; none where these are among the others.
    layers: Vec<Option<Curvature>>,
    steps: u64,
}

impl EkfacRule {
    /// The rule with these hyperparameters for a network.
    ///
    /// # Errors
    /// [`Error::Unsupported`] that names a layer, when no parameter has Kronecker factors, or one has none and is not to be
    /// preconditioned otherwise.
    pub fn new(hyperparameters: &Hyperparameters, network: &Network) -> Result<Self> {
        let missing = || Error::Unsupported(format!("grad or {FACTORS} is not a quantity"));
        let factors = by_name(FACTORS).ok_or_else(missing)?;
        let others = Others::new(hyperparameters, network, factors.as_ref())?;
        let gradient = by_name("grad").ok_or_else(missing)?;
        let mut request = others.request(vec![gradient, factors, Arc::new(VECTORS), Arc::new(INPUTS)]);
        request.mc_samples = hyperparameters.mc_samples;
        request.chunk_bytes = hyperparameters.chunk_bytes;
        request.input_rows = true;
        let layer = |(node, _): (&Node, &dyn Layer)| (!others.include(node)).then(Curvature::default);
        Ok(EkfacRule {
            request,
            layers: network.with_parameters().map(layer).collect(),
            learning_rate: hyperparameters.learning_rate,
            damping: Damping::of(hyperparameters),
            heavy_ball: HeavyBall::new(hyperparameters.number("momentum")),
            clip: Clip::new(hyperparameters),
            clipped: 1.0,
            renewed_every: hyperparameters.count("inverse_every"),
            averaging: hyperparameters.averaging,
            l2: hyperparameters.l2,
            others,
            steps: 0,
        })
    }

    fn rates(&self) -> Rates<'_> {
        Rates { learning_rate: self.learning_rate, clipped: self.clipped, damping: &self.damping }
    }

    /// The step of one layer, which is the one with parameters at this place; gives how many decompositions failed.
    fn step_layer(
        &mut self,
        place: usize,
        (node, layer): (&Node, &dyn Layer),
        quantities: &Quantities,
        clock: &mut StepClock,
    ) -> Result<u64> {
        let Some(Curvature { factors, basis, eigenvalues: estimates }) = &mut self.layers[place] else { return Ok(0) };
        let first = node.parameter(0);
        factors.observe(quantities, FACTORS, first, self.averaging, 1)?;
        clock.lap(Phase::Average);
        let (Some(a), Some(b)) = (factors.a.value(), factors.b.value()) else { return Ok(0) };
        let mut failures = 0;
        if basis.is_none() || self.steps.is_multiple_of(self.renewed_every) {
            *estimates = Default::default();
            let mut eigenvectors = |factor: &Tensor| -> Result<Tensor> {
                if let Some((_, vectors)) = decompose(&symmetric(factor))? {
                    return Ok(vectors);
                }
                failures += 1;
                Ok(factor.zeros_like() + Tensor::eye(factor.size()[factor.dim() - 1], (factor.kind(), factor.device())))
            };
            *basis = Some(Basis { a: eigenvectors(a)?, b: eigenvectors(b)? });
        }
        clock.lap(Phase::Inverse);
        let Some(basis) = basis else { return Ok(failures) };
        let v = wanted(quantities, VECTORS.name, first, "")?;
        let saved = Saved::new(wanted(quantities, INPUTS.name, first, "")?, v.get(0));
        for ((slot, parameter), estimate) in layer.parameters().iter().enumerate().zip(estimates) {
            estimate.observe(&eigenvalues(layer, &saved, slot, v, basis)?, self.averaging, 1);
            clock.lap(Phase::Average);
            let Some(values) = estimate.value() else { continue };
            let number = node.parameter(slot);
            let gradient = wanted(quantities, "grad", number, "")?;
            let damping = self.damping.of_block(|| mean(values))?;
            let step = if slot == 0 {
                if self.l2 != 0.0 {
                    add_scaled(gradient, &parameter.value, self.l2)?;
                }
                let turned =
                    basis.b.transpose(-2, -1).f_matmul(&layer.kronecker_matrix(gradient))?.f_matmul(&basis.a)?;
                let divided = turned.f_div(&(values.f_view_as(&turned)? + (damping + self.l2)))?;
                let step = basis.b.f_matmul(&divided)?.f_matmul(&basis.a.transpose(-2, -1))?;
                layer.kronecker_weight(&step)
            } else {
                let columns = [&basis.b.size()[..basis.b.dim() - 1], &[1]].concat();
                let turned = basis.b.transpose(-2, -1).f_matmul(&gradient.f_reshape(columns.as_slice())?)?;
                let divided = turned.f_div(&(values.f_view_as(&turned)? + damping))?;
                basis.b.f_matmul(&divided)?.f_view_as(gradient)?
            };
            clock.lap(Phase::Inverse);
            let step = self.heavy_ball.through(number, if self.clipped == 1.0 { step } else { step * self.clipped });
            add_scaled(&parameter.value, &step, -self.learning_rate)?;
            clock.lap(Phase::Update);
        }
        Ok(failures)
    }
}

fn mean(values: &Tensor) -> Result<f64> {
    Ok(f64::try_from(values.mean(Kind::Double))?)
}

impl Optimizer for EkfacRule {
    fn request(&self) -> &Request {
        &self.request
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn step(&mut self, network: &Network, quantities: &Quantities, clock: &mut StepClock) -> Result<StepReport> {
        let mut report = StepReport::default();
        self.clipped = self.clip.of_pass(network, quantities, self.l2)?;
        for (place, (node, layer)) in network.with_parameters().enumerate() {
            if self.others.include(node) {
                let rates = Rates { learning_rate: self.learning_rate, clipped: self.clipped, damping: &self.damping };
                self.others.step(node, quantities, &rates, &mut self.heavy_ball, clock)?;
            } else {
                report.failed_inverses += self.step_layer(place, (node, layer), quantities, clock)?;
            }
        }
        self.steps += 1;
        self.damping.stepped();
        Ok(report)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.damping.state();
        state.extend(self.heavy_ball.state());
        state.extend(self.others.state());
        state.push(("inverse.steps".to_owned(), Tensor::from_slice(&[self.steps as i64])));
        for (place, layer) in self.layers.iter().enumerate() {
            let Some((layer, basis)) = layer.as_ref().and_then(|layer| Some((layer, layer.basis.as_ref()?))) else {
                continue;
            };
            state.extend(layer.factors.state(place));
            state.push((format!("basis.{place}.a"), basis.a.shallow_clone()));
            state.push((format!("basis.{place}.b"), basis.b.shallow_clone()));
            for (slot, estimate) in layer.eigenvalues.iter().enumerate() {
                let Some(value) = estimate.value() else { continue };
                let name = format!("eigenvalues.{place}.{slot}");
                state.push((format!("{name}.observations"), Tensor::from_slice(&[estimate.observations()])));
                state.push((name, value.shallow_clone()));
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
        self.others.load_state(&mut state)?;
        let count = |tensor: Tensor| tensor.to_kind(Kind::Int64).int64_value(&[0]);
        self.steps = count(take(&mut state, "inverse.steps")?) as u64;
        for (place, layer) in self.layers.iter_mut().enumerate() {
            let Some(layer) = layer else { continue };
            let mut basis = |name: &str| take(&mut state, &format!("basis.{place}.{name}"));
            layer.basis = Some(Basis { a: basis("a")?, b: basis("b")? });
            layer.factors.load_state(place, &mut state)?;
            for (slot, estimate) in layer.eigenvalues.iter_mut().enumerate() {
                let name = format!("eigenvalues.{place}.{slot}");
                let Some(value) = state.remove(&name) else { continue };
                let observations = count(take(&mut state, &format!("{name}.observations"))?);
                *estimate = RunningEstimate::restore(value, observations);
            }
        }
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
        for ((node, _), layer) in network.with_parameters().zip(&self.layers) {
            if self.others.include(node) {
                measures.extend(self.others.measures(node, &self.rates(), &mut overall)?);
                continue;
            }
            let Some(values) = layer.as_ref().and_then(|layer| layer.eigenvalues[0].value()) else { continue };
            let (largest, mean) = (f64::try_from(values.max())?, mean(values)?);
            let shift = self.damping.of_block(|| Ok(mean))? + self.l2;
            measures.push(Measure::new("largest_curvature", &node.name, largest));
            measures.push(Measure::new("mean_curvature", &node.name, mean));
            measures.push(Measure::new("damping_share", &node.name, shift / (mean + shift)));
            let count = values.numel() as f64;
            overall.add(largest, count * mean, count);
        }
        measures.extend(overall.measures());
        Ok(measures)
    }
}
