//! Optimizers: SGD, Momentum and Adam, those of today, and the paper's damped curvature rule.
//!
//! An optimizer says which quantities it wants of every extended backward pass and turns them into a step. One of your
//! own implements [`Optimizer`] and has an entry in the registry ([`OptimizerInfo`]); [`conformance()`] holds it to what it
//! owes.

mod adam;
mod averaging;
mod clock;
mod conformance;
mod damping;
mod diagonal;
mod ekfac;
mod factors;
mod foof;
mod info;
mod kronecker;
mod layerwise;
mod matrices;
mod measure;
mod muon;
mod options;
mod registry;
mod schedule;
mod sgd;
mod shampoo;
mod soap;

use tch::{Kind, Tensor};

use crate::backpack::layers::is_bias;
use crate::backpack::{Network, Quantities};
use crate::error::{Error, Result};

pub use adam::Adam;
use averaging::take;
pub use averaging::{Averaging, RunningEstimate};
pub use clock::{Phase, StepClock, StepTimes};
pub use conformance::conformance;
pub use damping::{AVERAGING, DampingScheme, MC_SAMPLES};
pub use diagonal::DiagonalRule;
pub use info::{Hyperparameters, Optimizer, OptimizerInfo, OptimizerName, StepReport};
pub use measure::Measure;
pub use muon::Muon;
pub(crate) use options::COMMON as COMMON_OPTIONS;
pub use options::{NONE, OptionInfo, OptionKind, OptionValue, Options, RETIRED};
pub(crate) use registry::{BUILT_IN, replace};
pub use schedule::Schedule;
pub use sgd::{Gradients, Momentum, Sgd};
pub use shampoo::Shampoo;
pub use soap::Soap;

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
