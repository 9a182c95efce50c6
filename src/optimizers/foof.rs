//! FOOF (Benzing, 2022): the damped rule with the input factor alone, W <- W - alpha (G + l2 W) (A + lambda I)^-1, where A
//! is the running second moment of what the weight meets; a bias follows its gradient, b <- b - alpha g.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::clip::Clip;
use super::curvature::{AVERAGING, DAMPING_SCHEME, INVERSE_EVERY, KFAC_APPROX, MC_SAMPLES, MOMENTUM, OTHERS};
use super::damping::Damping;
use super::diagonal::Rates;
use super::factors::{mean_diagonal, observe_input, symmetric};
use super::heavy_ball::HeavyBall;
use super::inverse::DampedInverse;
use super::measure::condition_number;
use super::options::{OptionInfo, OptionValue, Options};
use super::others::Others;
use super::registry::{OptimizerInfo, curvature_dampings, curvature_learning_rates, sides};
use super::{
    Averaging, Hyperparameters, Measure, Optimizer, Phase, RunningEstimate, StepClock, StepReport, take, wanted,
};
use crate::backpack::layers::{KroneckerSupport, Layer, Reading};
use crate::backpack::native::add_scaled;
use crate::backpack::network::Node;
use crate::backpack::quantities::{Combine, Extent, Pieces, Quantity, Site, Source, by_name};
use crate::backpack::{Network, Quantities, Request};
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
    build: |hyperparameters, network| Ok(Box::new(FoofRule::new(hyperparameters, network)?)),
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
            KroneckerSupport::Factors if self.0 == Reading::Backpack || layer.has_positions() => None,
            KroneckerSupport::Factors => {
                Some(format!("{} has the factor of kfac_approx = \"backpack\" alone", layer.kind()))
            }
        }
    }

    fn input_factor(&self) -> Option<Reading> {
        Some(self.0)
    }

    fn elements(&self, extent: &Extent) -> u64 {
        if extent.parameter.name != "weight" || self.leaves_out(extent.layer).is_some() {
            return 0;
        }
        let shape = extent.layer.kronecker_matrix(&extent.parameter.value).size();
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

/// FOOF's rule.
pub struct FoofRule {
    request: Request,
    reading: Reading,
    learning_rate: f64,
    damping: Damping,
    heavy_ball: HeavyBall,
    clip: Clip,
    /// What the gradients of the present step are multiplied by; the steps are linear in them.
    clipped: f64,
    inverse_every: u64,
    averaging: Averaging,
    l2: f64,
    others: Others,
    /// One for each layer with parameters; none where these are among the others.
    layers: Vec<Option<Curvature>>,
    steps: u64,
}

impl FoofRule {
    /// The rule with these hyperparameters for a network.
    ///
    /// # Errors
    /// [`Error::Unsupported`] that names a layer, when no parameter has an input factor, or one has none and is not to be
    /// preconditioned otherwise.
    pub fn new(hyperparameters: &Hyperparameters, network: &Network) -> Result<Self> {
        let reading = match hyperparameters.text("kfac_approx").as_str() {
            "backpack" => Reading::Backpack,
            "reduce" => Reading::Reduce,
            _ => Reading::Expand,
        };
        let factor = Arc::new(InputFactor(reading));
        let others = Others::new(hyperparameters, network, factor.as_ref())?;
        let gradient = by_name("grad").ok_or_else(|| Error::Unsupported("grad is not a quantity".into()))?;
        let mut request = others.request(vec![gradient, factor]);
        request.mc_samples = hyperparameters.mc_samples;
        request.chunk_bytes = hyperparameters.chunk_bytes;
        request.input_rows = true;
        let layer = |(node, _): (&Node, &dyn Layer)| (!others.include(node)).then(Curvature::default);
        Ok(FoofRule {
            request,
            reading,
            layers: network.with_parameters().map(layer).collect(),
            learning_rate: hyperparameters.learning_rate,
            damping: Damping::of(hyperparameters),
            heavy_ball: HeavyBall::new(hyperparameters.number("momentum")),
            clip: Clip::new(hyperparameters),
            clipped: 1.0,
            inverse_every: hyperparameters.count("inverse_every"),
            averaging: hyperparameters.averaging,
            l2: hyperparameters.l2,
            others,
            steps: 0,
        })
    }

    /// The step of one layer, which is the one with parameters at this place; gives how many decompositions failed.
    fn step_layer(
        &mut self,
        place: usize,
        (node, layer): (&Node, &dyn Layer),
        quantities: &Quantities,
        clock: &mut StepClock,
    ) -> Result<u64> {
        let Some(Curvature { a: estimate, inverse: slot }) = &mut self.layers[place] else { return Ok(0) };
        let first = node.parameter(0);
        observe_input(estimate, quantities, (NAME, self.reading), first, self.averaging)?;
        clock.lap(Phase::Average);
        let Some(a) = estimate.value() else { return Ok(0) };
        let mut failures = 0;
        let kept = if self.steps.is_multiple_of(self.inverse_every) { None } else { slot.take() };
        let inverse = match kept {
            Some(inverse) => inverse,
            None => {
                let (inverse, failed) = DampedInverse::new(a, self.damping.of_block(|| mean_diagonal(a))?)?;
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
                if self.l2 != 0.0 {
                    add_scaled(gradient, &parameter.value, self.l2)?;
                }
                clock.lap(Phase::Update);
                let matrix = layer.kronecker_matrix(gradient);
                let solved = inverse.apply(&matrix.transpose(-2, -1))?.transpose(-2, -1);
                step = layer.kronecker_weight(&solved);
                clock.lap(Phase::Inverse);
            }
            if self.clipped != 1.0 {
                step *= self.clipped;
            }
            let step = self.heavy_ball.through(number, step);
            add_scaled(&parameter.value, &step, -self.learning_rate)?;
            clock.lap(Phase::Update);
        }
        if self.inverse_every > 1 {
            *slot = Some(inverse);
        }
        Ok(failures)
    }
}

impl Optimizer for FoofRule {
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
            let Some((layer, a)) = layer.as_ref().and_then(|layer| Some((layer, layer.a.value()?))) else { continue };
            state.push((format!("a.{place}"), symmetric(a)));
            state.push((format!("a.{place}.observations"), Tensor::from_slice(&[layer.a.observations()])));
            if let Some((form, tensor)) = layer.inverse.as_ref().map(DampedInverse::parts) {
                state.push((format!("inverse.{place}.{form}"), tensor));
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
            let Some(a) = state.remove(&format!("a.{place}")) else { continue };
            let observations = count(take(&mut state, &format!("a.{place}.observations"))?);
            layer.a = RunningEstimate::restore(a, observations);
            layer.inverse = ["cholesky", "diagonal"].into_iter().find_map(|form| {
                let tensor = state.remove(&format!("inverse.{place}.{form}"))?;
                Some(DampedInverse::from_parts(form, tensor))
            });
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
        // What is A's is no curvature of the loss: only its condition is told.
        for ((node, _), layer) in network.with_parameters().zip(&self.layers) {
            let Some(a) = layer.as_ref().and_then(|layer| layer.a.value()) else { continue };
            let shift = self.damping.of_block(|| mean_diagonal(a))?;
            measures.push(Measure::new("condition_number_a", &node.name, condition_number(&symmetric(a), shift)?));
        }
        Ok(measures)
    }
}
