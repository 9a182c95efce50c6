//! Optimizers: SGD, Momentum and Adam, and the paper's damped curvature rule.
//!
//! An optimizer says which quantities it wants of every extended backward pass and turns them into a step. One of your
//! own implements [`Optimizer`].

mod adam;
mod averaging;
mod choice;
mod clock;
mod damping;
mod diagonal;
mod heavy_ball;
mod inverse;
mod kronecker;
mod linear_factors;
mod measure;
mod momentum;
mod options;
mod output_positions;
mod sgd;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::backpack::native::add_scaled;
use crate::backpack::{Network, Quantities, Request};
use crate::error::{Error, Result};

pub use adam::Adam;
pub use averaging::RunningEstimate;
pub use choice::{Averaging, OptimizerName};
pub use clock::{Phase, StepClock, StepTimes};
pub use diagonal::DiagonalRule;
pub use kronecker::KroneckerRule;
pub use measure::Measure;
pub use momentum::Momentum;
pub use options::{CurvatureOptions, DampingScheme, OPTIONS, OptionInfo};
pub use sgd::Sgd;

/// What an optimizer is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// Which optimizer.
    pub name: OptimizerName,
    /// The step size (the paper's alpha).
    pub learning_rate: f64,
    /// The damping (the paper's lambda) of the curvature rules.
    pub damping: f64,
    /// How curvature is averaged over steps.
    pub averaging: Averaging,
    /// Whether KFRA averages the output factors of linear layers with a bias twice a step, as the runs behind the
    /// paper's Fig. 10 did.
    pub kfra_aliasing: bool,
    /// The factor of the squared weights' half sum that is added to the loss; biases are free of it.
    pub l2: f64,
    /// How many labels are drawn for each sample where the curvature is sampled.
    pub mc_samples: i64,
    /// How many bytes of back-propagated vectors may be held at a time.
    pub chunk_bytes: u64,
    /// What the curvature rules do beyond the paper's step.
    pub options: CurvatureOptions,
}

/// What happened in a step beside the step itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// How many times a curvature could not be used as it was, and a fallback was taken.
    pub failed_inverses: u64,
}

/// Turns what an extended backward pass tells into steps.
pub trait Optimizer: Send {
    /// What it wants of every pass.
    fn request(&self) -> &Request;

    /// Changes the network's parameters in place. An optimizer with parts of its own calls [`StepClock::lap`] behind
    /// each; what it leaves uncounted, `bench` counts as the update.
    ///
    /// # Errors
    /// When a quantity it asked for is missing, or libtorch refuses an operation.
    fn step(&mut self, network: &Network, quantities: &Quantities, clock: &mut StepClock) -> Result<StepReport>;

    /// Everything that a later step depends on, by name; values are restored bit by bit.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// Takes the state of [`Self::state`] back.
    ///
    /// # Errors
    /// [`Error::Environment`] when something is missing.
    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()>;

    /// The damping of the next step where its reduction ratio is wanted (see [`Self::take_reduction_ratio`]).
    fn wants_reduction_ratio(&self) -> Option<f64> {
        None
    }

    /// Learns how the last step's change of the mini-batch's loss compares with that of the quadratic model of the
    /// damped generalised Gauss-Newton matrix; NaN where the loss was not finite.
    fn take_reduction_ratio(&mut self, _ratio: f64) {}

    /// What it can tell of its curvature as the last step used it.
    ///
    /// # Errors
    /// What libtorch says.
    fn measures(&self, _network: &Network) -> Result<Vec<Measure>> {
        Ok(Vec::new())
    }
}

/// The optimizer for a network.
///
/// # Errors
/// [`Error::Usage`] when a hyperparameter is out of range.
pub fn build(hyperparameters: &Hyperparameters, network: &Network) -> Result<Box<dyn Optimizer>> {
    let Hyperparameters { name, learning_rate, damping, .. } = *hyperparameters;
    if !(learning_rate.is_finite() && learning_rate > 0.0) {
        return Err(Error::Usage(format!("learning rate {learning_rate}: expected a positive number")));
    }
    if name.has_damping() && !(damping.is_finite() && damping >= 0.0) {
        return Err(Error::Usage(format!("damping {damping}: expected a number from 0 on")));
    }
    let options = &hyperparameters.options;
    if !(0.0..1.0).contains(&options.momentum) {
        let momentum = options.momentum;
        return Err(Error::Usage(format!("momentum {momentum}: expected a number from 0 up to, not including, 1")));
    }
    if options.inverse_every == 0 {
        return Err(Error::Usage("inverse_every 0: expected a number of steps from 1 on".to_owned()));
    }
    Ok(match name {
        OptimizerName::Sgd => Box::new(Sgd::new(hyperparameters)?),
        OptimizerName::Momentum => Box::new(Momentum::new(hyperparameters)?),
        OptimizerName::Adam => Box::new(Adam::new(hyperparameters)?),
        OptimizerName::DiagGgn | OptimizerName::DiagGgnMc => Box::new(DiagonalRule::new(hyperparameters)?),
        OptimizerName::Kfac | OptimizerName::Kflr | OptimizerName::Kfra => {
            Box::new(KroneckerRule::new(hyperparameters, network)?)
        }
    })
}

/// Every parameter with its gradient; l2 times the weight is added to the weights' (and to no bias's).
fn regularised_gradients<'a>(
    network: &'a Network,
    quantities: &Quantities,
    l2: f64,
) -> Result<Vec<(&'a Tensor, Tensor)>> {
    let mut pairs = Vec::new();
    for node in network.nodes() {
        for (number, parameter) in node.numbered() {
            let gradient = wanted(quantities, "grad", number, "")?.shallow_clone();
            if l2 != 0.0 && is_weight(parameter.name) {
                add_scaled(&gradient, &parameter.value, l2)?;
            }
            pairs.push((&parameter.value, gradient));
        }
    }
    Ok(pairs)
}

/// Whether l2 applies to a parameter of this name within its layer.
pub fn is_weight(name: &str) -> bool {
    name != "bias"
}

/// Half the sum of the squared weights times l2: what the reported losses hold beside the mean loss.
///
/// # Errors
/// What libtorch says.
pub fn regulariser(network: &Network, l2: f64) -> Result<f64> {
    if l2 == 0.0 {
        return Ok(0.0);
    }
    let mut sum = 0.0;
    for parameter in network.nodes().iter().flat_map(|node| node.parameters()) {
        if is_weight(parameter.name) {
            sum += f64::try_from(parameter.value.square().sum(Kind::Double))?;
        }
    }
    Ok(0.5 * l2 * sum)
}

fn wanted<'a>(quantities: &'a Quantities, name: &str, parameter: usize, factor: &str) -> Result<&'a Tensor> {
    quantities.factor(name, parameter, factor).ok_or_else(|| {
        Error::Unsupported(format!(
            "the pass did not give {name}{factor} of parameter {parameter}, which the step needs"
        ))
    })
}

/// A tensor of a saved state, or an error that names it.
fn take(state: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Tensor> {
    state
        .remove(name)
        .ok_or_else(|| Error::Environment(format!("the optimizer's saved state has no `{name}`; start the run afresh")))
}
