//! Optimizers: SGD, Momentum and Adam, those of today, and the paper's damped curvature rule.
//!
//! An optimizer says which quantities it wants of every extended backward pass and turns them into a step. One of your
//! own implements [`Optimizer`] and has an entry in the registry ([`OptimizerInfo`]); [`conformance()`] holds it to what it
//! owes.

mod adam;
mod adamw;
mod averaging;
mod clip;
mod clock;
mod conformance;
mod curvature;
mod damping;
mod diagonal;
mod ekfac;
mod factors;
mod foof;
mod gradients;
mod heavy_ball;
mod info;
mod inverse;
mod kronecker;
mod layerwise;
mod linear_factors;
mod matrices;
mod measure;
mod moments;
mod momentum;
mod muon;
mod options;
mod others;
mod registry;
mod schedule;
mod sgd;
mod shampoo;
mod soap;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::backpack::layers::is_bias;
use crate::backpack::request::DEFAULT_CHUNK_BYTES;
use crate::backpack::{Network, Quantities, Request};
use crate::error::{Error, Result};

pub use adam::Adam;
pub use adamw::AdamW;
pub use averaging::{Averaging, RunningEstimate};
pub(crate) use clip::COMMON as COMMON_OPTIONS;
pub use clock::{Phase, StepClock, StepTimes};
pub use conformance::conformance;
pub use curvature::{AVERAGING, MC_SAMPLES};
pub use damping::DampingScheme;
pub use diagonal::DiagonalRule;
pub use gradients::Gradients;
pub use info::{OptimizerInfo, OptimizerName};
pub use measure::Measure;
pub use momentum::Momentum;
pub use muon::Muon;
pub use options::{NONE, OptionInfo, OptionKind, OptionValue, Options, RETIRED};
pub(crate) use registry::{BUILT_IN, replace};
pub use schedule::Schedule;
pub use sgd::Sgd;
pub use shampoo::Shampoo;
pub use soap::Soap;

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
    /// Its other options.
    pub options: Options,
}

/// One of [`Hyperparameters::options`]; that an optimizer asks for one that its entry in the registry does not list, or for
/// another kind, is a defect of its code.
impl Hyperparameters {
    /// The value of a number.
    pub fn number(&self, key: &str) -> f64 {
        match self.option(key) {
            OptionValue::Number(number) => number,
            value => self.other_kind(key, &value),
        }
    }

    /// The value of a number that may be left out.
    pub fn number_or_none(&self, key: &str) -> Option<f64> {
        match self.option(key) {
            OptionValue::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The value of a count.
    pub fn count(&self, key: &str) -> u64 {
        match self.option(key) {
            OptionValue::Count(count) => count,
            value => self.other_kind(key, &value),
        }
    }

    /// The value of a flag.
    pub fn flag(&self, key: &str) -> bool {
        match self.option(key) {
            OptionValue::Flag(flag) => flag,
            value => self.other_kind(key, &value),
        }
    }

    /// The value of a choice.
    pub fn text(&self, key: &str) -> String {
        match self.option(key) {
            OptionValue::Text(text) => text,
            value => self.other_kind(key, &value),
        }
    }

    /// The value of a list of `N` numbers.
    pub fn numbers<const N: usize>(&self, key: &str) -> [f64; N] {
        match self.option(key) {
            OptionValue::Numbers(numbers) => {
                numbers.try_into().unwrap_or_else(|numbers| self.other_kind(key, &OptionValue::Numbers(numbers)))
            }
            value => self.other_kind(key, &value),
        }
    }

    /// The schedule of its learning rate.
    pub fn schedule(&self) -> Schedule {
        match self.option("schedule") {
            OptionValue::Schedule(schedule) => schedule,
            value => self.other_kind("schedule", &value),
        }
    }

    fn option(&self, key: &str) -> OptionValue {
        self.options.get(self.name, key)
    }

    fn other_kind(&self, key: &str, value: &OptionValue) -> ! {
        panic!("{}: the option `{key}` is of another kind than `{value}`", self.name)
    }
}

impl Hyperparameters {
    /// The optimizer with this learning rate, a damping of 0.01 where it has one, and everything else at its default.
    pub fn new(name: OptimizerName, learning_rate: f64) -> Self {
        Hyperparameters {
            name,
            learning_rate,
            damping: 0.01,
            averaging: Averaging::default(),
            kfra_aliasing: false,
            l2: 0.0,
            mc_samples: 1,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            options: Options::default(),
        }
    }
}

/// What happened in a step beside the step itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// How many times a curvature could not be used as it was, and a fallback was taken.
    pub failed_inverses: u64,
}

/// Turns what an extended backward pass tells into steps.
///
/// What an optimizer owes:
/// - **l2**: a problem's l2 is part of its loss. l2 times the weights (never the biases) belongs to the gradient, before
///   anything is made of it; a decay of the optimizer's own is an option beside it.
/// - **the options of all optimizers**: the learning rate changes from step to step under a schedule
///   ([`Self::set_learning_rate`]), and `clip_norm` limits the norm of all gradients together, l2 included.
/// - **state**: everything that a later step depends on, in the form in which a checkpoint brings it back, so that a run
///   that went on from one ends with the same bytes; random numbers come from `random::stream` alone.
/// - **memory**: [`OptimizerInfo::memory()`] bounds what it holds beside a few copies of the parameters, since workers are
///   started by it.
pub trait Optimizer: Send {
    /// What it wants of every pass.
    fn request(&self) -> &Request;

    /// Says the learning rate of the next steps, where that is another than it was made with.
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// Changes the network's parameters in place, and perhaps the quantities, which are its own from here on. An
    /// optimizer with parts of its own calls [`StepClock::lap`] behind each; what it leaves uncounted, `bench` counts as
    /// the update.
    ///
    /// # Errors
    /// When a quantity it asked for is missing, or libtorch refuses an operation.
    fn step(&mut self, network: &mut Network, quantities: &mut Quantities, clock: &mut StepClock)
    -> Result<StepReport>;

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

impl fmt::Debug for dyn Optimizer + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_tuple("Optimizer").field(self.request()).finish()
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
        return Err(Error::Usage(format!("damping {damping}: expected a number of at least 0")));
    }
    hyperparameters.options.check(name)?;
    (name.info().build)(hyperparameters, network)
}

/// Whether l2 applies to a parameter of this name within its layer.
pub fn is_weight(name: &str) -> bool {
    !is_bias(name)
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
    quantities.factor(name, parameter, factor)
}

/// A tensor of a saved state, or an error that names it.
fn take(state: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Tensor> {
    state
        .remove(name)
        .ok_or_else(|| Error::Environment(format!("the optimizer's saved state has no `{name}`; start the run afresh")))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::backpack::layers::{Layer, Linear};

    const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);

    #[test]
    fn l2_goes_by_a_parameters_role() {
        for name in ["weight", "weight_ih_l0", "weight_hh_l0"] {
            assert!(is_weight(name), "{name}");
        }
        for name in ["bias", "bias_ih_l0", "bias_hh_l0"] {
            assert!(!is_weight(name), "{name}");
        }
    }

    #[test]
    fn the_regulariser_is_half_the_squared_weights_and_no_bias() {
        let weight = Tensor::from_slice(&[1.0f64, -2.0, 3.0, 0.5]).view([2, 2]);
        let layer: Box<dyn Layer> = Box::new(Linear::from_tensors(weight, Some(Tensor::ones([2], OPTIONS) * 7.0)));
        let network = Network::sequential(vec![layer]);
        for l2 in [0.0, 0.3, 1.0] {
            let value = regulariser(&network, l2).unwrap();
            assert!((value - 0.5 * l2 * (1.0 + 4.0 + 9.0 + 0.25)).abs() < 1e-14, "{l2}: {value}");
        }
    }

    #[test]
    fn a_step_size_that_is_no_positive_number_is_refused() {
        let layer: Box<dyn Layer> = Box::new(Linear::from_tensors(Tensor::ones([2, 2], OPTIONS), None));
        let network = Network::sequential(vec![layer]);
        let is_refused = |learning_rate: f64, damping: f64| {
            let name = OptimizerName::find("kfac").unwrap();
            let settings = Hyperparameters { damping, ..Hyperparameters::new(name, learning_rate) };
            matches!(build(&settings, &network), Err(Error::Usage(_)))
        };
        assert!(!is_refused(0.1, 0.0) && !is_refused(1e-30, 1.0));
        for no_number in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(is_refused(no_number, 0.1) && is_refused(0.1, no_number), "{no_number}");
        }
        assert!(is_refused(0.0, 0.1));
    }
}
