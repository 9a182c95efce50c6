//! FOOF (Benzing, 2022): the damped rule with the input factor alone, W <- W - alpha (G + l2 W) (A + lambda I)^-1, where A
//! is the running second moment of what the weight meets; a bias follows its gradient, b <- b - alpha g.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::Tensor;

use super::damping::{AVERAGING, DAMPING_SCHEME, INVERSE_EVERY, KFAC_APPROX, MC_SAMPLES, MOMENTUM, OTHERS};
use super::factors::{DampedInverse, mean_diagonal, observe_input, symmetric};
use super::info::{OptimizerInfo, curvature_dampings, curvature_learning_rates, sides};
use super::layerwise::{Layerwise, Method, Others, Shared, factored};
use super::measure::{Overall, condition_number};
use super::options::{OptionInfo, OptionValue, Options};
use super::{Hyperparameters, Measure, Optimizer, Phase, RunningEstimate, StepClock, wanted};
use crate::backpack::layers::{KroneckerSupport, Layer, Reading};
use crate::backpack::native::add_scaled;
use crate::backpack::network::Node;
use crate::backpack::quantities::{Combine, Extent, Pieces, Quantity, Site, Source, TIED, by_name};
use crate::backpack::{Network, Quantities};
use crate::error::{Error, Result};

pub(super) static FOOF: OptimizerInfo = OptimizerInfo {
    name: "foof",
    title: "FOOF",
    summary: "damped step with the second moment of each layer's inputs alone",
    options: &[
        AVERAGING,
        INVERSE_EVERY,
        MOMENTUM,
        DAMPING_SCHEME,
        OptionInfo { default: || OptionValue::Text("expand".to_owned()), ..KFAC_APPROX },
        OTHERS,
        MC_SAMPLES,
    ],
    has_damping: true,
    // Of the parameters without an input factor; all else is made of the gradient's pass.
    vectors: Source::SampledSqrtHessian,
    memory,
    learning_rates: curvature_learning_rates,
    dampings: curvature_dampings,
    build,
};

/// The factor: new, averaged, inverted, and the inversion's own.
const FACTOR_COPIES: u64 = 4;

fn memory(_options: &Options, shape: &[i64]) -> u64 {
    let [_, columns] = sides(shape);
    FACTOR_COPIES * columns * columns
}

/// The input factor of a reading by itself.
struct InputFactor(Reading);

/// Its name.
const NAME: &str = "input_factor";

impl Quantity for InputFactor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "the second moment of what each weight meets"
    }

    fn shape(&self) -> &'static str {
        "weight: A [d, d]"
    }

    fn source(&self) -> Source {
        Source::Gradient
    }

    fn combine(&self) -> Combine {
        Combine::Sum
    }

    fn extract(&self, _site: &Site) -> Result<Pieces> {
        Ok(Pieces::new())
    }

    fn leaves_out(&self, layer: &dyn Layer) -> Option<String> {
        match layer.kronecker() {
            KroneckerSupport::Refuses(reason) => Some(reason.to_owned()),
            KroneckerSupport::Passes => None,
            KroneckerSupport::Factors if self.0 == Reading::Backpack => None,
            KroneckerSupport::Factors if layer.factored().is_some_and(|site| site.ordered_rows().is_some()) => None,
            KroneckerSupport::Factors => {
                Some(format!("{} has the factor of kfac_approx = \"backpack\" alone", layer.kind()))
            }
        }
    }

    fn leaves_out_tied(&self, _later: &[&dyn Layer]) -> Option<&'static str> {
        Some(TIED)
    }

    fn input_factor(&self) -> Option<Reading> {
        Some(self.0)
    }

    fn elements(&self, extent: &Extent) -> u64 {
        if extent.parameter.name != "weight" || self.leaves_out(extent.layer).is_some() {
            return 0;
        }
        let Some(site) = extent.layer.factored() else { return 0 };
        let shape = site.matrix(&extent.parameter.value).size();
        let groups: i64 = shape[..shape.len() - 2].iter().product();
        let columns = shape[shape.len() - 1];
        (groups * columns * columns) as u64
    }
}

/// What is known of one layer.
#[derive(Debug, Default)]
struct Curvature {
    a: RunningEstimate,
    /// In use where it serves more than one step.
    inverse: Option<DampedInverse>,
}

/// The rule with these hyperparameters for a network.
///
/// # Errors
/// [`Error::Unsupported`] that names a layer, when no parameter has an input factor, or one has none and is not to be
/// preconditioned otherwise.
fn build(hyperparameters: &Hyperparameters, network: &Network) -> Result<Box<dyn Optimizer>> {
    let reading = match hyperparameters.text("kfac_approx").as_str() {
        "backpack" => Reading::Backpack,
        "reduce" => Reading::Reduce,
        _ => Reading::Expand,
    };
    let factor = Arc::new(InputFactor(reading));
    let others = Others::new(hyperparameters, network, factor.as_ref())?;
    let gradient = by_name("grad").ok_or_else(|| Error::Unsupported("grad is not a quantity".into()))?;
    let request = others.request(vec![gradient, factor])?;
    Ok(Box::new(Layerwise::new(hyperparameters, network, Foof { reading }, request, Some(others))))
}

/// FOOF's rule.
struct Foof {
    reading: Reading,
}

impl Method for Foof {
    type Known = Curvature;

    /// What is A's is no curvature of the loss: only its condition is told.
    const IS_OF_LOSS: bool = false;

    fn step(
        &self,
        known: &mut Curvature,
        (node, layer): (&Node, &dyn Layer),
        quantities: &Quantities,
        shared: &mut Shared,
        clock: &mut StepClock,
    ) -> Result<u64> {
        let Curvature { a: estimate, inverse: slot } = known;
        let first = node.parameter(0);
        observe_input(estimate, quantities, (NAME, self.reading), first, shared.averaging)?;
        clock.lap(Phase::Average);
        let Some(a) = estimate.value() else { return Ok(0) };
        let mut failures = 0;
        let kept = if shared.renews() { None } else { slot.take() };
        let inverse = match kept {
            Some(inverse) => inverse,
            None => {
                let (inverse, failed) = DampedInverse::new(a, shared.damping.of_block(|| mean_diagonal(a))?)?;
                failures = failed;
                inverse
            }
        };
        clock.lap(Phase::Inverse);
        for (slot, parameter) in layer.parameters().iter().enumerate() {
            let number = node.parameter(slot);
            let gradient = wanted(quantities, "grad", number, "")?;
            let mut step = gradient.shallow_clone();
            if slot == 0 {
                if shared.l2 != 0.0 {
                    add_scaled(gradient, &parameter.value, shared.l2)?;
                }
                clock.lap(Phase::Update);
                let matrix = factored(layer)?.matrix(gradient);
                let solved = inverse.apply(&matrix.transpose(-2, -1))?.transpose(-2, -1);
                step = factored(layer)?.weight_of(&solved);
                clock.lap(Phase::Inverse);
            }
            let step = shared.through(number, step);
            shared.update(&parameter.value, &step, clock)?;
        }
        if shared.inverse_every > 1 {
            *slot = Some(inverse);
        }
        Ok(failures)
    }

    fn state(&self, known: &Curvature, place: usize) -> Vec<(String, Tensor)> {
        let mut state = known.a.saved(&format!("a.{place}"), symmetric);
        state.extend(known.inverse.as_ref().map(|inverse| inverse.saved(&format!("inverse.{place}"))));
        state
    }

    fn load_state(&self, known: &mut Curvature, place: usize, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let name = format!("a.{place}");
        if state.contains_key(&name) {
            known.a = RunningEstimate::take(state, &name)?;
            known.inverse = DampedInverse::take(state, &format!("inverse.{place}"));
        }
        Ok(())
    }

    fn measures(
        &self,
        known: &Curvature,
        (node, _): (&Node, &dyn Layer),
        shared: &Shared,
        _overall: &mut Overall,
    ) -> Result<Option<Vec<Measure>>> {
        let Some(a) = known.a.value() else { return Ok(None) };
        let shift = shared.damping.of_block(|| mean_diagonal(a))?;
        Ok(Some(vec![Measure::new("condition_number_a", &node.name, condition_number(&symmetric(a), shift)?)]))
    }
}
