//! What the damped rules that go layer by layer have in common: rates, damping, momentum, clipping, the parameters that
//! are preconditioned otherwise, and how all of it is saved. A rule itself is a [`Method`].

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::damping::{Damping, HeavyBall};
use super::diagonal::{DiagonalSteps, Rates};
use super::measure::{Measure, Overall};
use super::sgd::Clip;
use super::{Averaging, Hyperparameters, Optimizer, Phase, StepClock, StepReport, take};
use crate::backpack::layers::{FactoredSite, Layer};
use crate::backpack::native::add_scaled;
use crate::backpack::network::Node;
use crate::backpack::quantities::{Quantity, Source, by_name};
use crate::backpack::request::left_out;
use crate::backpack::{Network, Quantities, Request};
use crate::error::{Error, Result};

/// How a rule preconditions one layer.
pub(super) trait Method: Send {
    /// What it knows of a layer from the steps so far.
    type Known: Default + Send;

    /// Whether its curvature is that of the loss, so that its measures go with those of other curvatures.
    const IS_OF_LOSS: bool = true;

    /// A layer's step; gives how many decompositions failed.
    fn step(
        &self,
        known: &mut Self::Known,
        at: (&Node, &dyn Layer),
        quantities: &Quantities,
        shared: &mut Shared,
        clock: &mut StepClock,
    ) -> Result<u64>;

    /// What later steps depend on, of the layer at this place.
    fn state(&self, known: &Self::Known, place: usize) -> Vec<(String, Tensor)>;

    /// Takes a layer's part out of a saved state.
    fn load_state(&self, known: &mut Self::Known, place: usize, state: &mut BTreeMap<String, Tensor>) -> Result<()>;

    /// What can be told of a layer's curvature; None where nothing is known of it yet.
    fn measures(
        &self,
        known: &Self::Known,
        at: (&Node, &dyn Layer),
        shared: &Shared,
        overall: &mut Overall,
    ) -> Result<Option<Vec<Measure>>>;
}

/// What all layers share.
pub(super) struct Shared {
    learning_rate: f64,
    pub damping: Damping,
    heavy_ball: HeavyBall,
    clip: Clip,
    /// What the gradients of the present step are multiplied by; the steps are linear in them.
    clipped: f64,
    /// For how many steps what is decomposed serves.
    pub inverse_every: u64,
    pub averaging: Averaging,
    pub l2: f64,
    /// Steps taken.
    steps: u64,
}

impl Shared {
    /// Whether what is decomposed is renewed in this step.
    pub fn renews(&self) -> bool {
        self.steps.is_multiple_of(self.inverse_every)
    }

    /// The step to take along what is preconditioned: clipped, and with momentum.
    pub fn through(&mut self, number: usize, mut step: Tensor) -> Tensor {
        if self.clipped != 1.0 {
            let _ = step.g_mul_scalar_(self.clipped);
        }
        self.heavy_ball.through(number, step)
    }

    /// Moves a parameter against a step.
    pub fn update(&self, parameter: &Tensor, step: &Tensor, clock: &mut StepClock) -> Result<()> {
        add_scaled(parameter, step, -self.learning_rate)?;
        clock.lap(Phase::Update);
        Ok(())
    }
}

/// A rule for all layers of a network.
pub(super) struct Layerwise<M: Method> {
    request: Request,
    method: M,
    shared: Shared,
    /// The parameters that the method does not precondition; None where there can be none.
    others: Option<Others>,
    /// One for each layer with parameters; none where these are among the others.
    layers: Vec<Option<M::Known>>,
}

impl<M: Method> Layerwise<M> {
    /// A method with these hyperparameters for a network, of which it asks a pass this.
    pub fn new(
        hyperparameters: &Hyperparameters,
        network: &Network,
        method: M,
        mut request: Request,
        others: Option<Others>,
    ) -> Self {
        request.mc_samples = hyperparameters.mc_samples;
        request.chunk_bytes = hyperparameters.chunk_bytes;
        request.input_rows = true;
        let is_other = |node: &Node| others.as_ref().is_some_and(|others| others.include(node));
        let layers = network.with_parameters().map(|(node, _)| (!is_other(node)).then(M::Known::default)).collect();
        let shared = Shared {
            learning_rate: hyperparameters.learning_rate,
            damping: Damping::of(hyperparameters),
            heavy_ball: HeavyBall::new(hyperparameters.number("momentum")),
            clip: Clip::new(hyperparameters),
            clipped: 1.0,
            inverse_every: hyperparameters.count("inverse_every"),
            averaging: hyperparameters.averaging,
            l2: hyperparameters.l2,
            steps: 0,
        };
        Layerwise { request, method, shared, others, layers }
    }
}

impl<M: Method> Optimizer for Layerwise<M> {
    fn request(&self) -> &Request {
        &self.request
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.shared.learning_rate = learning_rate;
    }

    fn step(
        &mut self,
        network: &mut Network,
        quantities: &mut Quantities,
        clock: &mut StepClock,
    ) -> Result<StepReport> {
        let mut report = StepReport::default();
        let shared = &mut self.shared;
        shared.clipped = shared.clip.of_pass(network, quantities, shared.l2)?;
        for ((node, layer), known) in network.with_parameters().zip(&mut self.layers) {
            match (known, &mut self.others) {
                (Some(known), _) => {
                    report.failed_inverses += self.method.step(known, (node, layer), quantities, shared, clock)?;
                }
                (None, Some(others)) => {
                    let Shared { learning_rate, clipped, damping, heavy_ball, .. } = &mut *shared;
                    let rates = Rates { learning_rate: *learning_rate, clipped: *clipped, damping };
                    others.step(node, quantities, &rates, heavy_ball, clock)?;
                }
                (None, None) => {}
            }
        }
        shared.steps += 1;
        shared.damping.stepped();
        Ok(report)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.shared.damping.state();
        state.extend(self.shared.heavy_ball.state());
        // Where everything is renewed at each step nobody asks how many there have been.
        if self.shared.inverse_every > 1 {
            state.push(("inverse.steps".to_owned(), Tensor::from_slice(&[self.shared.steps as i64])));
        }
        for (place, known) in self.layers.iter().enumerate() {
            state.extend(known.iter().flat_map(|known| self.method.state(known, place)));
        }
        state.extend(self.others.iter().flat_map(Others::state));
        state
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        self.shared.damping.load_state(&mut state)?;
        self.shared.heavy_ball.load_state(&mut state)?;
        if self.shared.inverse_every > 1 {
            self.shared.steps = take(&mut state, "inverse.steps")?.to_kind(Kind::Int64).int64_value(&[0]) as u64;
        }
        if state.is_empty() {
            // It was kept before the first step.
            return Ok(());
        }
        for (place, known) in self.layers.iter_mut().enumerate() {
            if let Some(known) = known {
                self.method.load_state(known, place, &mut state)?;
            }
        }
        if let Some(others) = &mut self.others {
            others.load_state(&mut state)?;
        }
        Ok(())
    }

    fn wants_reduction_ratio(&self) -> Option<f64> {
        self.shared.damping.wants_ratio().then(|| self.shared.damping.value())
    }

    fn take_reduction_ratio(&mut self, ratio: f64) {
        self.shared.damping.adapt(ratio);
    }

    fn measures(&self, network: &Network) -> Result<Vec<Measure>> {
        let Shared { learning_rate, damping, .. } = &self.shared;
        let mut measures = vec![Measure::new("damping", "all", damping.value())];
        let mut overall = Overall::new();
        for ((node, layer), known) in network.with_parameters().zip(&self.layers) {
            match (known, &self.others) {
                (Some(known), _) => {
                    let of_layer = self.method.measures(known, (node, layer), &self.shared, &mut overall)?;
                    measures.extend(of_layer.unwrap_or_default());
                }
                (None, Some(others)) if M::IS_OF_LOSS => {
                    let rates = Rates { learning_rate: *learning_rate, clipped: 1.0, damping };
                    measures.extend(others.measures(node, &rates, &mut overall)?);
                }
                _ => {}
            }
        }
        if M::IS_OF_LOSS {
            measures.extend(overall.measures());
        }
        Ok(measures)
    }
}

/// The site of a layer's weight with Kronecker factors.
///
/// # Errors
/// [`Error::Unsupported`] where it has none.
pub(super) fn factored(layer: &dyn Layer) -> Result<&dyn FactoredSite> {
    layer.factored().ok_or_else(|| Error::Unsupported(format!("{} has no Kronecker factors", layer.kind())))
}

// What a rule with Kronecker factors does with the parameters that have none (of normalisations, gains, embeddings): the
// damped rule with a diagonal curvature of the same source, with the same damping and averaging, or a refusal.

/// The parameters that are not preconditioned by Kronecker factors, and their steps.
#[derive(Debug)]
pub(super) struct Others {
    /// By the network's numbers; all parameters of a layer or none.
    numbers: Vec<usize>,
    diagonal: &'static str,
    steps: DiagonalSteps,
}

impl Others {
    /// The parameters of a network that are left out of a Kronecker-factored quantity.
    ///
    /// # Errors
    /// [`Error::Unsupported`] that names a layer, where there are some and `others = "refuse"`, or nothing else is there.
    pub fn new(hyperparameters: &Hyperparameters, network: &Network, factors: &dyn Quantity) -> Result<Self> {
        let name = hyperparameters.name;
        let diagonal = match factors.source() {
            Source::SqrtHessian => "diag_ggn",
            _ => "diag_ggn_mc",
        };
        let reasons: BTreeMap<usize, String> = left_out(network, factors).into_iter().collect();
        let mut numbers = Vec::new();
        for (node, _) in network.with_parameters() {
            let own: Vec<usize> = node.numbered().map(|(number, _)| number).collect();
            // A layer that uses a tied weight has no factors either: what else it has goes with it.
            let Some(reason) = node.used().find_map(|number| reasons.get(&number)) else { continue };
            if hyperparameters.text("others") == "refuse" {
                return Err(Error::Unsupported(format!(
                    "{}: {name} is not possible: {reason}; with others = \"diagonal\" such parameters are preconditioned by \
                     {diagonal}",
                    node.title()
                )));
            }
            numbers.extend(own);
        }
        if numbers.len() == network.parameter_count() {
            return Err(Error::Unsupported(format!(
                "{name} is not possible: no parameter has Kronecker factors; {diagonal} is"
            )));
        }
        let others = Others { numbers, diagonal, steps: DiagonalSteps::new(hyperparameters, diagonal) };
        others.log(name.as_str(), network);
        Ok(others)
    }

    /// Tells how many parameters are preconditioned how, where there are two ways.
    fn log(&self, name: &str, network: &Network) {
        if self.numbers.is_empty() {
            return;
        }
        let parameters = network.parameters();
        let all: usize = parameters.iter().map(|parameter| parameter.value.numel()).sum();
        let others: usize = self.numbers.iter().map(|&number| parameters[number].value.numel()).sum();
        tracing::info!(
            "{name}: {} of {} tensors, {:.1} % of parameters by Kronecker factors, the others by {}",
            parameters.len() - self.numbers.len(),
            parameters.len(),
            100.0 * (all - others) as f64 / all.max(1) as f64,
            self.diagonal
        );
        let names: Vec<&str> = self.numbers.iter().map(|&number| parameters[number].name.as_str()).collect();
        tracing::debug!("by {}: {}", self.diagonal, names.join(", "));
    }

    /// The quantities of a request, with the diagonal of these parameters where there are any.
    pub fn request(&self, mut quantities: Vec<Arc<dyn Quantity>>) -> Result<Request> {
        if let Some(diagonal) = by_name(self.diagonal).filter(|_| !self.numbers.is_empty()) {
            quantities.push(diagonal);
        }
        let mut request = Request::new(quantities)?;
        request.only_at(self.diagonal, self.numbers.clone());
        Ok(request)
    }

    /// Whether a layer's parameters are among them, or one that it uses.
    pub fn include(&self, node: &Node) -> bool {
        node.used().any(|number| self.numbers.contains(&number))
    }

    /// The steps of the parameters of a layer.
    pub fn step(
        &mut self,
        node: &Node,
        quantities: &Quantities,
        rates: &Rates,
        heavy_ball: &mut HeavyBall,
        clock: &mut StepClock,
    ) -> Result<()> {
        node.numbered().try_for_each(|(number, parameter)| {
            self.steps.step((number, parameter), quantities, rates, heavy_ball, clock)
        })
    }

    /// What later steps depend on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.steps.state()
    }

    /// Takes its part out of a saved state.
    pub fn load_state(&mut self, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        self.steps.load_state(state)
    }

    /// What can be told of a layer's curvature.
    pub fn measures(&self, node: &Node, rates: &Rates, overall: &mut Overall) -> Result<Vec<Measure>> {
        self.steps.measures(node, rates, overall)
    }
}
