//! What a rule with Kronecker factors does with the parameters that have none (of normalisations, gains, embeddings): the
//! damped rule with a diagonal curvature of the same source, with the same damping and averaging, or a refusal.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::Tensor;

use super::diagonal::{DiagonalSteps, Rates};
use super::heavy_ball::HeavyBall;
use super::measure::{Measure, Overall};
use super::{Hyperparameters, StepClock};
use crate::backpack::network::Node;
use crate::backpack::quantities::{Quantity, Source, by_name};
use crate::backpack::request::left_out;
use crate::backpack::{Network, Quantities, Request};
use crate::error::{Error, Result};

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
