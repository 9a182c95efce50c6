//! The damped rule in the eigenbasis of Kronecker factors (EKFAC; George et al., 2018).
//!
//! With Q_A and Q_B the eigenvectors of the running factors of `kfac_expand`, S the running mean of the squared gradients
//! of samples and sampled labels in that basis (see `ekfac` among the quantities), and gamma = lambda + l2:
//! W <- W - alpha Q_B [(Q_B^T (G + l2 W) Q_A) / (S + gamma)] Q_A^T, and b <- b - alpha Q_B [(Q_B^T g) / (s + lambda)] for a
//! bias. The basis is renewed every so many steps; S starts anew with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::damping::{AVERAGING, DAMPING_SCHEME, INVERSE_EVERY, MC_SAMPLES, MOMENTUM, OTHERS, eigenbasis_memory};
use super::factors::{Factors, symmetric};
use super::info::{OptimizerInfo, curvature_dampings, curvature_learning_rates};
use super::layerwise::{Layerwise, Method, Others, Shared, factored};
use super::measure::Overall;
use super::{Hyperparameters, Measure, Optimizer, Phase, RunningEstimate, StepClock, take, wanted};
use crate::backpack::eigen::decompose;
use crate::backpack::layers::{Basis, BatchFactors, Layer, Saved};
use crate::backpack::native::add_scaled;
use crate::backpack::native::product::matmul;
use crate::backpack::network::Node;
use crate::backpack::quantities::{Combine, Pieces, Quantity, Site, Source, by_name};
use crate::backpack::{Network, Quantities};
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
    build,
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
        if site.parameter != 0 || site.layer.factored().is_none_or(|site| site.ordered_rows().is_none()) {
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

/// The rule with these hyperparameters for a network.
///
/// # Errors
/// [`Error::Unsupported`] that names a layer, when no parameter has Kronecker factors, or one has none and is not to be
/// preconditioned otherwise.
fn build(hyperparameters: &Hyperparameters, network: &Network) -> Result<Box<dyn Optimizer>> {
    let missing = || Error::Unsupported(format!("grad or {FACTORS} is not a quantity"));
    let factors = by_name(FACTORS).ok_or_else(missing)?;
    let others = Others::new(hyperparameters, network, factors.as_ref())?;
    let gradient = by_name("grad").ok_or_else(missing)?;
    let request = others.request(vec![gradient, factors, Arc::new(VECTORS), Arc::new(INPUTS)])?;
    Ok(Box::new(Layerwise::new(hyperparameters, network, Ekfac, request, Some(others))))
}

/// EKFAC's rule.
struct Ekfac;

impl Method for Ekfac {
    type Known = Curvature;

    fn step(
        &self,
        known: &mut Curvature,
        (node, layer): (&Node, &dyn Layer),
        quantities: &Quantities,
        shared: &mut Shared,
        clock: &mut StepClock,
    ) -> Result<u64> {
        let Curvature { factors, basis, eigenvalues: estimates } = known;
        let first = node.parameter(0);
        factors.observe(quantities, FACTORS, first, shared.averaging, 1)?;
        clock.lap(Phase::Average);
        let (Some(a), Some(b)) = (factors.a.value(), factors.b.value()) else { return Ok(0) };
        let mut failures = 0;
        if basis.is_none() || shared.renews() {
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
        let batch = BatchFactors::of(layer, &saved)?;
        for ((slot, parameter), estimate) in layer.parameters().iter().enumerate().zip(estimates) {
            estimate.observe(&batch.eigenvalues(slot, v, basis)?, shared.averaging, 1);
            clock.lap(Phase::Average);
            let Some(values) = estimate.value() else { continue };
            let number = node.parameter(slot);
            let gradient = wanted(quantities, "grad", number, "")?;
            let damping = shared.damping.of_block(|| mean(values))?;
            let step = if slot == 0 {
                if shared.l2 != 0.0 {
                    add_scaled(gradient, &parameter.value, shared.l2)?;
                }
                let turned =
                    matmul(&matmul(&basis.b.transpose(-2, -1), &factored(layer)?.matrix(gradient))?, &basis.a)?;
                let divided = turned.f_div(&(values.f_view_as(&turned)? + (damping + shared.l2)))?;
                let step = matmul(&matmul(&basis.b, &divided)?, &basis.a.transpose(-2, -1))?;
                factored(layer)?.weight_of(&step)
            } else {
                let columns = [&basis.b.size()[..basis.b.dim() - 1], &[1]].concat();
                let turned = matmul(&basis.b.transpose(-2, -1), &gradient.f_reshape(columns.as_slice())?)?;
                let divided = turned.f_div(&(values.f_view_as(&turned)? + damping))?;
                matmul(&basis.b, &divided)?.f_view_as(gradient)?
            };
            clock.lap(Phase::Inverse);
            let step = shared.through(number, step);
            shared.update(&parameter.value, &step, clock)?;
        }
        Ok(failures)
    }

    fn state(&self, known: &Curvature, place: usize) -> Vec<(String, Tensor)> {
        let Some(basis) = &known.basis else { return Vec::new() };
        let mut state = known.factors.state(place);
        state.push((format!("basis.{place}.a"), basis.a.shallow_clone()));
        state.push((format!("basis.{place}.b"), basis.b.shallow_clone()));
        for (slot, estimate) in known.eigenvalues.iter().enumerate() {
            state.extend(estimate.saved(&format!("eigenvalues.{place}.{slot}"), Tensor::shallow_clone));
        }
        state
    }

    fn load_state(&self, known: &mut Curvature, place: usize, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let mut basis = |name: &str| take(state, &format!("basis.{place}.{name}"));
        known.basis = Some(Basis { a: basis("a")?, b: basis("b")? });
        known.factors.load_state(place, state)?;
        for (slot, estimate) in known.eigenvalues.iter_mut().enumerate() {
            let name = format!("eigenvalues.{place}.{slot}");
            if state.contains_key(&name) {
                *estimate = RunningEstimate::take(state, &name)?;
            }
        }
        Ok(())
    }

    fn measures(
        &self,
        known: &Curvature,
        (node, _): (&Node, &dyn Layer),
        shared: &Shared,
        overall: &mut Overall,
    ) -> Result<Option<Vec<Measure>>> {
        let Some(values) = known.eigenvalues[0].value() else { return Ok(None) };
        let (largest, mean) = (f64::try_from(values.max())?, mean(values)?);
        let shift = shared.damping.of_block(|| Ok(mean))? + shared.l2;
        let count = values.numel() as f64;
        overall.add(largest, count * mean, count);
        Ok(Some(vec![
            Measure::new("largest_curvature", &node.name, largest),
            Measure::new("mean_curvature", &node.name, mean),
            Measure::new("damping_share", &node.name, shift / (mean + shift)),
        ]))
    }
}

fn mean(values: &Tensor) -> Result<f64> {
    Ok(f64::try_from(values.mean(Kind::Double))?)
}
