//! The damped rule with Kronecker factors (KFAC, KFLR, KFRA).
//!
//! Weight, with gamma = lambda + l2 and pi = sqrt((tr A / dim A) / (tr B / dim B)):
//! W <- W - alpha (B + sqrt(gamma) / pi I)^-1 (G + l2 W) (A + pi sqrt(gamma) I)^-1 (Eqs. 28 and 29 of the paper, as its
//! code has them; Martens and Grosse, 2015). Bias: b <- b - alpha (B + lambda I)^-1 g. A and B are running estimates.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::Tensor;

use super::damping::{
    AVERAGING, DAMPING_SCHEME, Damping, INVERSE_EVERY, KFAC_APPROX, KFRA_ALIASING, MC_SAMPLES, MOMENTUM, OTHERS,
    factor_memory,
};
use super::factors::{DampedInverse, Factors, mean_diagonal, symmetric};
use super::info::{OptimizerInfo, curvature_dampings, curvature_learning_rates};
use super::layerwise::{Layerwise, Method, Others, Shared, factored};
use super::measure::{Overall, condition_number};
use super::{Hyperparameters, Measure, Optimizer, Phase, StepClock, wanted};
use crate::backpack::layers::{KroneckerSupport, Layer};
use crate::backpack::native::add_scaled;
use crate::backpack::network::Node;
use crate::backpack::quantities::{Combine, Pieces, Quantity, Site, Source, by_name};
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
    build,
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

/// What is known of one layer.
#[derive(Debug, Default)]
struct Known {
    factors: Factors,
    /// In use where they serve more than one step.
    inverses: Option<Inverses>,
}

/// The damped rule with Kronecker factors.
struct Kronecker {
    quantity: &'static str,
    kfra_aliasing: bool,
}

/// The rule with these hyperparameters for a network.
///
/// # Errors
/// [`Error::Unsupported`] that names a layer, when no parameter has Kronecker factors, or one has none and is not to be
/// preconditioned otherwise.
fn build(hyperparameters: &Hyperparameters, network: &Network) -> Result<Box<dyn Optimizer>> {
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
    let request = match &others {
        Some(others) => others.request(quantities)?,
        None => {
            refuse_without_factors(network, quantity)?;
            Request::new(quantities)?
        }
    };
    let kfra_aliasing = hyperparameters.kfra_aliasing && quantity == "kfra";
    let method = Kronecker { quantity, kfra_aliasing };
    Ok(Box::new(Layerwise::new(hyperparameters, network, method, request, others)))
}

impl Method for Kronecker {
    type Known = Known;

    fn step(
        &self,
        known: &mut Known,
        (node, layer): (&Node, &dyn Layer),
        quantities: &Quantities,
        shared: &mut Shared,
        clock: &mut StepClock,
    ) -> Result<u64> {
        let parameters = layer.parameters();
        let first = node.parameter(0);
        let mut failures = 0;
        let aliased = self.kfra_aliasing && layer.kind() == "linear" && parameters.len() == 2;
        let times = if aliased { 2 } else { 1 };
        known.factors.observe(quantities, self.quantity, first, shared.averaging, times)?;
        clock.lap(Phase::Average);
        let (Some(a), Some(b)) = (known.factors.a.value(), known.factors.b.value()) else {
            return Ok(0);
        };
        let kept = if shared.renews() { None } else { known.inverses.take() };
        let inverses = match kept {
            Some(inverses) => inverses,
            None => {
                let (inverses, failed) = invert(a, b, &shared.damping, shared.l2, parameters.len() > 1)?;
                failures = failed;
                inverses
            }
        };
        clock.lap(Phase::Inverse);
        let weight = &parameters[0].value;
        let step = match (shared.l2 == 0.0).then(|| gradient_factors(quantities, first)).flatten() {
            Some((d, x)) => inverses.b.apply(&d.tr())?.mm(&inverses.a.apply(&x.tr())?.tr()),
            None => {
                let gradient = wanted(quantities, "grad", first, "")?;
                if shared.l2 != 0.0 {
                    add_scaled(gradient, weight, shared.l2)?;
                    clock.lap(Phase::Update);
                }
                let half = inverses.b.apply(&factored(layer)?.matrix(gradient))?;
                inverses.a.apply(&half.transpose(-2, -1))?.transpose(-2, -1)
            }
        };
        clock.lap(Phase::Inverse);
        let step = shared.through(first, step);
        shared.update(weight, &factored(layer)?.weight_of(&step), clock)?;
        if let (Some(bias), Some(inverse)) = (parameters.get(1), &inverses.bias) {
            let number = node.parameter(1);
            let gradient = wanted(quantities, "grad", number, "")?;
            let columns = [&b.size()[..b.dim() - 1], &[1]].concat();
            let step = inverse.apply(&gradient.reshape(columns.as_slice()))?;
            clock.lap(Phase::Inverse);
            let step = shared.through(number, step);
            shared.update(&bias.value, &step.reshape(bias.value.size().as_slice()), clock)?;
        }
        if shared.inverse_every > 1 {
            known.inverses = Some(inverses);
        }
        Ok(failures)
    }

    fn state(&self, known: &Known, place: usize) -> Vec<(String, Tensor)> {
        let mut state = known.factors.state(place);
        if let Some(Inverses { a, b, bias }) = &known.inverses {
            let named = [("a", Some(a)), ("b", Some(b)), ("bias", bias.as_ref())];
            state.extend(
                named
                    .into_iter()
                    .filter_map(|(name, inverse)| Some(inverse?.saved(&format!("inverse.{place}.{name}")))),
            );
        }
        state
    }

    fn load_state(&self, known: &mut Known, place: usize, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let mut saved = |name: &str| DampedInverse::take(state, &format!("inverse.{place}.{name}"));
        known.inverses = match (saved("a"), saved("b"), saved("bias")) {
            (Some(a), Some(b), bias) => Some(Inverses { a, b, bias }),
            _ => None,
        };
        known.factors.load_state(place, state)
    }

    fn measures(
        &self,
        known: &Known,
        (node, layer): (&Node, &dyn Layer),
        shared: &Shared,
        overall: &mut Overall,
    ) -> Result<Option<Vec<Measure>>> {
        let Some((a, b)) = known.factors.a.value().zip(known.factors.b.value()) else { return Ok(None) };
        let (a, b) = (&symmetric(a), &symmetric(b));
        let shifts = shifts(a, b, &shared.damping, shared.l2)?;
        // The diagonal of a Kronecker product is that of the diagonals, which are not negative.
        let most = |factor: &Tensor| factor.diagonal(0, -2, -1).amax([-1i64].as_slice(), false);
        let layer_largest = f64::try_from((most(a) * most(b)).max())?;
        let (a_mean, b_mean) = (mean_diagonal(a)?, mean_diagonal(b)?);
        let mean = a_mean * b_mean;
        let damped = (a_mean + shifts.a) * (b_mean + shifts.b);
        let count = layer.parameters()[0].value.numel() as f64;
        overall.add(layer_largest, count * mean, count);
        let measures = [
            ("largest_curvature", layer_largest),
            ("mean_curvature", mean),
            ("damping_share", 1.0 - mean / damped),
            ("condition_number_a", condition_number(a, shifts.a)?),
            ("condition_number_b", condition_number(b, shifts.b)?),
        ];
        Ok(Some(measures.into_iter().map(|(name, value)| Measure::new(name, &node.name, value)).collect()))
    }
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
    let d = quantities.find(LINEAR_FACTORS, parameter, "D")?;
    let x = quantities.find(LINEAR_FACTORS, parameter, "X")?;
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

const LINEAR_FACTORS: &str = "linear_factors";

/// The two factors of a linear layer's gradient, D (gradient with respect to the output) and X (input): the weight's
/// gradient is D^T X. Preconditioning the factors takes as many right-hand sides as there are samples, where the
/// gradient itself takes as many as the layer is wide.
struct LinearFactors;

impl Quantity for LinearFactors {
    fn name(&self) -> &'static str {
        LINEAR_FACTORS
    }

    fn about(&self) -> &'static str {
        "the factors D and X of each linear weight's gradient D^T X"
    }

    fn shape(&self) -> &'static str {
        "D [N, out], X [N, in]"
    }

    fn source(&self) -> Source {
        Source::Gradient
    }

    fn combine(&self) -> Combine {
        Combine::Samples
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        if site.layer.kind() != "linear" || site.parameter != 0 || site.saved.input.dim() != 2 {
            return Ok(Vec::new());
        }
        Ok(vec![("D", site.v.squeeze_dim(0)), ("X", site.saved.input.shallow_clone())])
    }
}
