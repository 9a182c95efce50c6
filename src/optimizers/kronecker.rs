//! The damped rule with Kronecker factors (KFAC, KFLR, KFRA).
//!
//! Weight, with gamma = lambda + l2 and pi = sqrt((tr A / dim A) / (tr B / dim B)):
//! W <- W - alpha (B + sqrt(gamma) / pi I)^-1 (G + l2 W) (A + pi sqrt(gamma) I)^-1 (Eqs. 28 and 29 of the paper, as its
//! code has them; Martens and Grosse, 2015). Bias: b <- b - alpha (B + lambda I)^-1 g. A and B are running estimates.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::clip::Clip;
use super::curvature::{
    AVERAGING, DAMPING_SCHEME, INVERSE_EVERY, KFAC_APPROX, KFRA_ALIASING, MC_SAMPLES, MOMENTUM, OTHERS, factor_memory,
};
use super::damping::Damping;
use super::diagonal::Rates;
use super::factors::{Factors, mean_diagonal, symmetric};
use super::heavy_ball::HeavyBall;
use super::inverse::DampedInverse;
use super::linear_factors::{self, LinearFactors};
use super::measure::Overall;
use super::measure::condition_number;
use super::others::Others;
use super::registry::{OptimizerInfo, curvature_dampings, curvature_learning_rates};
use super::{Averaging, Hyperparameters, Measure, Optimizer, Phase, StepClock, StepReport, take, wanted};
use crate::backpack::layers::{KroneckerSupport, Layer};
use crate::backpack::native::add_scaled;
use crate::backpack::network::Node;
use crate::backpack::quantities::{Source, by_name};
use crate::backpack::{Network, Quantities, Request};
use crate::error::{Error, Result};

pub(super) static KFAC: OptimizerInfo = OptimizerInfo {
    name: "kfac",
    title: "KFAC",
    summary: "damped step with Kronecker factors from sampled labels",
    options: &[AVERAGING, INVERSE_EVERY, MOMENTUM, DAMPING_SCHEME, KFAC_APPROX, OTHERS, MC_SAMPLES],
    has_damping: true,
    vectors: Source::SampledSqrtHessian,
    memory: factor_memory,
    learning_rates: curvature_learning_rates,
    dampings: curvature_dampings,
    build: |hyperparameters, network| Ok(Box::new(KroneckerRule::new(hyperparameters, network)?)),
};

pub(super) static KFLR: OptimizerInfo = OptimizerInfo {
    name: "kflr",
    title: "KFLR",
    summary: "damped step with Kronecker factors from the exact square root",
    options: &[AVERAGING, INVERSE_EVERY, MOMENTUM, DAMPING_SCHEME, KFAC_APPROX, OTHERS],
    vectors: Source::SqrtHessian,
    ..KFAC
};

pub(super) static KFRA: OptimizerInfo = OptimizerInfo {
    name: "kfra",
    title: "KFRA",
    summary: "damped step with Kronecker factors of the averaged recursion",
    options: &[AVERAGING, KFRA_ALIASING, INVERSE_EVERY, MOMENTUM, DAMPING_SCHEME],
    vectors: Source::AveragedMatrix,
    ..KFAC
};

/// The inverses of one layer's damped factors.
#[derive(Debug)]
struct Inverses {
    a: DampedInverse,
    b: DampedInverse,
    /// B with the bias's damping, where the layer has a bias.
    bias: Option<DampedInverse>,
}

/// The damped rule with Kronecker factors.
pub struct KroneckerRule {
    request: Request,
    quantity: &'static str,
    learning_rate: f64,
    damping: Damping,
    heavy_ball: HeavyBall,
    clip: Clip,
    /// What the gradients of the present step are multiplied by; the steps are linear in them.
    clipped: f64,
    inverse_every: u64,
    averaging: Averaging,
    kfra_aliasing: bool,
    l2: f64,
    /// The parameters that have no factors; those of KFRA's networks all have.
    others: Option<Others>,
    /// One for each layer with parameters; none where these are among the others.
    factors: Vec<Option<Factors>>,
    /// The inverses in use, one for each layer with parameters; kept only where they serve more than one step.
    inverses: Vec<Option<Inverses>>,
    /// Steps taken; counted only where inverses are kept.
    steps: u64,
}

impl KroneckerRule {
    /// The rule with these hyperparameters for a network.
    ///
    /// # Errors
    /// [`Error::Unsupported`] that names a layer, when no parameter has Kronecker factors, or one has none and is not to be
    /// preconditioned otherwise.
    pub fn new(hyperparameters: &Hyperparameters, network: &Network) -> Result<Self> {
        let name = hyperparameters.name;
        let averaged = name.as_str() == "kfra";
        let reading = if averaged { "backpack".to_owned() } else { hyperparameters.text("kfac_approx") };
        let quantity = if reading == "backpack" { name.as_str().to_owned() } else { format!("{name}_{reading}") };
        let Some(factors) = by_name(&quantity) else {
            return Err(Error::Unsupported(format!("{quantity} is not a quantity")));
        };
        let Some(gradient) = by_name("grad") else {
            return Err(Error::Unsupported("grad is not a quantity".into()));
        };
        let quantity = factors.name();
        let others = if averaged { None } else { Some(Others::new(hyperparameters, network, factors.as_ref())?) };
        let mut quantities = vec![gradient, factors];
        // With an l2 term the full gradient has to be preconditioned, and its factors are of no use.
        if hyperparameters.l2 == 0.0 {
            quantities.push(Arc::new(LinearFactors));
        }
        let mut request = match &others {
            Some(others) => others.request(quantities),
            None => {
                refuse_without_factors(network, quantity)?;
                Request::of(quantities)
            }
        };
        request.mc_samples = hyperparameters.mc_samples;
        request.chunk_bytes = hyperparameters.chunk_bytes;
        request.input_rows = true;
        let has_factors = |node: &Node| !others.as_ref().is_some_and(|others| others.include(node));
        let factors: Vec<Option<Factors>> =
            network.with_parameters().map(|(node, _)| has_factors(node).then(Factors::default)).collect();
        Ok(KroneckerRule {
            request,
            quantity,
            learning_rate: hyperparameters.learning_rate,
            damping: Damping::of(hyperparameters),
            heavy_ball: HeavyBall::new(hyperparameters.number("momentum")),
            clip: Clip::new(hyperparameters),
            clipped: 1.0,
            inverse_every: hyperparameters.count("inverse_every"),
            averaging: hyperparameters.averaging,
            kfra_aliasing: hyperparameters.kfra_aliasing && quantity == "kfra",
            l2: hyperparameters.l2,
            others,
            inverses: factors.iter().map(|_| None).collect(),
            factors,
            steps: 0,
        })
    }

    /// The step of one layer, which is the one with parameters at this place.
    fn step_layer(
        &mut self,
        place: usize,
        (node, layer): (&Node, &dyn Layer),
        quantities: &Quantities,
        clock: &mut StepClock,
    ) -> Result<u64> {
        let parameters = layer.parameters();
        let first = node.parameter(0);
        let Some(factors) = &mut self.factors[place] else { return Ok(0) };
        let mut failures = 0;
        let aliased = self.kfra_aliasing && layer.kind() == "linear" && parameters.len() == 2;
        let times = if aliased { 2 } else { 1 };
        factors.observe(quantities, self.quantity, first, self.averaging, times)?;
        clock.lap(Phase::Average);
        let (Some(a), Some(b)) = (factors.a.value(), factors.b.value()) else {
            return Ok(0);
        };
        let kept = if self.steps.is_multiple_of(self.inverse_every) { None } else { self.inverses[place].take() };
        let inverses = match kept {
            Some(inverses) => inverses,
            None => {
                let (inverses, failed) = invert(a, b, &self.damping, self.l2, parameters.len() > 1)?;
                failures = failed;
                inverses
            }
        };
        clock.lap(Phase::Inverse);
        let weight = &parameters[0].value;
        let step = match (self.l2 == 0.0).then(|| gradient_factors(quantities, first)).flatten() {
            Some((d, x)) => inverses.b.apply(&d.tr())?.mm(&inverses.a.apply(&x.tr())?.tr()),
            None => {
                let gradient = wanted(quantities, "grad", first, "")?;
                if self.l2 != 0.0 {
                    add_scaled(gradient, weight, self.l2)?;
                    clock.lap(Phase::Update);
                }
                let half = inverses.b.apply(&layer.kronecker_matrix(gradient))?;
                inverses.a.apply(&half.transpose(-2, -1))?.transpose(-2, -1)
            }
        };
        clock.lap(Phase::Inverse);
        let step = self.heavy_ball.through(first, scaled(step, self.clipped));
        add_scaled(weight, &layer.kronecker_weight(&step), -self.learning_rate)?;
        clock.lap(Phase::Update);
        if let (Some(bias), Some(inverse)) = (parameters.get(1), &inverses.bias) {
            let number = node.parameter(1);
            let gradient = wanted(quantities, "grad", number, "")?;
            let columns = [&b.size()[..b.dim() - 1], &[1]].concat();
            let step = inverse.apply(&gradient.reshape(columns.as_slice()))?;
            clock.lap(Phase::Inverse);
            let step = self.heavy_ball.through(number, scaled(step, self.clipped));
            add_scaled(&bias.value, &step.reshape(bias.value.size().as_slice()), -self.learning_rate)?;
            clock.lap(Phase::Update);
        }
        if self.inverse_every > 1 {
            self.inverses[place] = Some(inverses);
        }
        Ok(failures)
    }
}

/// The step from gradients that are multiplied by a number; it is linear in them.
fn scaled(mut step: Tensor, factor: f64) -> Tensor {
    if factor != 1.0 {
        let _ = step.g_mul_scalar_(factor);
    }
    step
}

/// What is added to A and to B for the weight, and to B for the bias.
struct Shifts {
    a: f64,
    b: f64,
    bias: f64,
    /// Whether pi had to be replaced by one.
    pi_failed: bool,
}

fn shifts(a: &Tensor, b: &Tensor, damping: &Damping, l2: f64) -> Result<Shifts> {
    let root = (damping.of_block(|| Ok(mean_diagonal(a)? * mean_diagonal(b)?))? + l2).sqrt();
    let pi = trace_norm_pi(a, b)?;
    let bias = damping.of_block(|| mean_diagonal(b))?;
    let ratio = pi.unwrap_or(1.0);
    Ok(Shifts { a: ratio * root, b: root / ratio, bias, pi_failed: pi.is_none() })
}

/// The inverses of a layer's damped factors, and how many attempts failed.
fn invert(a: &Tensor, b: &Tensor, damping: &Damping, l2: f64, has_bias: bool) -> Result<(Inverses, u64)> {
    let shifts = shifts(a, b, damping, l2)?;
    let (a, a_failures) = DampedInverse::new(a, shifts.a)?;
    let (b_inverse, b_failures) = DampedInverse::new(b, shifts.b)?;
    let bias = has_bias.then(|| DampedInverse::new(b, shifts.bias)).transpose()?;
    let (bias, bias_failures) = bias.map_or((None, 0), |(inverse, failures)| (Some(inverse), failures));
    let failures = u64::from(shifts.pi_failed) + a_failures + b_failures + bias_failures;
    Ok((Inverses { a, b: b_inverse, bias }, failures))
}

/// D and X of a linear weight's gradient, where they are there and narrower than the gradient.
fn gradient_factors(quantities: &Quantities, parameter: usize) -> Option<(&Tensor, &Tensor)> {
    let d = quantities.factor(linear_factors::NAME, parameter, "D")?;
    let x = quantities.factor(linear_factors::NAME, parameter, "X")?;
    (d.size()[0] < d.size()[1]).then_some((d, x))
}

/// sqrt((tr A / dim A) / (tr B / dim B)); None where that is no positive number.
fn trace_norm_pi(a: &Tensor, b: &Tensor) -> Result<Option<f64>> {
    let pi = (mean_diagonal(a)? / mean_diagonal(b)?).sqrt();
    Ok((pi.is_finite() && pi > 0.0).then_some(pi))
}

/// KFRA's recursion goes through no layer whose parameters have no factors.
fn refuse_without_factors(network: &Network, quantity: &str) -> Result<()> {
    let refusal = |(node, layer): (&Node, &dyn Layer)| match layer.kronecker() {
        KroneckerSupport::Refuses(reason) => Some(format!("{}: {quantity} is not possible: {reason}", node.title())),
        _ => None,
    };
    network.with_parameters().find_map(refusal).map_or(Ok(()), |refusal| Err(Error::Unsupported(refusal)))
}

impl Optimizer for KroneckerRule {
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
            match self.others.as_mut().filter(|others| others.include(node)) {
                Some(others) => {
                    let rates =
                        Rates { learning_rate: self.learning_rate, clipped: self.clipped, damping: &self.damping };
                    others.step(node, quantities, &rates, &mut self.heavy_ball, clock)?;
                }
                None => report.failed_inverses += self.step_layer(place, (node, layer), quantities, clock)?,
            }
        }
        self.steps += 1;
        self.damping.stepped();
        Ok(report)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.damping.state();
        state.extend(self.heavy_ball.state());
        if self.inverse_every > 1 {
            state.push(("inverse.steps".to_owned(), Tensor::from_slice(&[self.steps as i64])));
            for (place, inverses) in self.inverses.iter().enumerate() {
                let Some(Inverses { a, b, bias }) = inverses else { continue };
                for (name, inverse) in [("a", Some(a)), ("b", Some(b)), ("bias", bias.as_ref())] {
                    if let Some((form, tensor)) = inverse.map(DampedInverse::parts) {
                        state.push((format!("inverse.{place}.{name}.{form}"), tensor));
                    }
                }
            }
        }
        for (place, factors) in self.factors.iter().enumerate() {
            state.extend(factors.iter().flat_map(|factors| factors.state(place)));
        }
        state.extend(self.others.iter().flat_map(Others::state));
        state
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        self.damping.load_state(&mut state)?;
        self.heavy_ball.load_state(&mut state)?;
        if self.inverse_every > 1 {
            self.steps = take(&mut state, "inverse.steps")?.to_kind(Kind::Int64).int64_value(&[0]) as u64;
            for (place, inverses) in self.inverses.iter_mut().enumerate() {
                let mut saved = |name: &str| {
                    ["cholesky", "diagonal"].into_iter().find_map(|form| {
                        let tensor = state.remove(&format!("inverse.{place}.{name}.{form}"))?;
                        Some(DampedInverse::from_parts(form, tensor))
                    })
                };
                *inverses = match (saved("a"), saved("b"), saved("bias")) {
                    (Some(a), Some(b), bias) => Some(Inverses { a, b, bias }),
                    _ => None,
                };
            }
        }
        for (place, factors) in self.factors.iter_mut().enumerate() {
            if let Some(factors) = factors {
                factors.load_state(place, &mut state)?;
            }
        }
        if let Some(others) = &mut self.others {
            others.load_state(&mut state)?;
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
        for ((node, layer), factors) in network.with_parameters().zip(&self.factors) {
            let Some((a, b)) = factors.as_ref().and_then(|factors| factors.a.value().zip(factors.b.value())) else {
                let rates = Rates { learning_rate: self.learning_rate, clipped: 1.0, damping: &self.damping };
                if let Some(others) = &self.others {
                    measures.extend(others.measures(node, &rates, &mut overall)?);
                }
                continue;
            };
            let (a, b) = (&symmetric(a), &symmetric(b));
            let shifts = shifts(a, b, &self.damping, self.l2)?;
            // The diagonal of a Kronecker product is that of the diagonals, which are not negative.
            let most = |factor: &Tensor| factor.diagonal(0, -2, -1).amax([-1i64].as_slice(), false);
            let layer_largest = f64::try_from((most(a) * most(b)).max())?;
            let (a_mean, b_mean) = (mean_diagonal(a)?, mean_diagonal(b)?);
            let mean = a_mean * b_mean;
            let damped = (a_mean + shifts.a) * (b_mean + shifts.b);
            let count = layer.parameters()[0].value.numel() as f64;
            for (name, value) in [
                ("largest_curvature", layer_largest),
                ("mean_curvature", mean),
                ("damping_share", 1.0 - mean / damped),
                ("condition_number_a", condition_number(a, shifts.a)?),
                ("condition_number_b", condition_number(b, shifts.b)?),
            ] {
                measures.push(Measure::new(name, &node.name, value));
            }
            overall.add(layer_largest, count * mean, count);
        }
        measures.extend(overall.measures());
        Ok(measures)
    }
}
