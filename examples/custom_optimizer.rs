//! An optimizer of your own in the whole program: SGD whose steps are short where the gradient is mostly noise.
//!
//! `cargo run --release --example custom_optimizer -- grid --problem fmnist_mlp --optimizer variance_sgd --set noise=0,1`
//! trains it; `study`, `bench --figure steps`, `report` and `list optimizers` know it like any other.

use std::collections::BTreeMap;
use std::process::ExitCode;

use backpack_run::backpack::{BuiltIn::Variance, Network, Quantities, Request};
use backpack_run::optimizers::{
    Gradients, Hyperparameters, Optimizer, OptimizerInfo, OptionInfo, OptionKind, OptionValue, StepClock, StepReport,
};
use backpack_run::{Registry, Result};
use tch::Tensor;

/// 1. What files, flags and tables say of it, its own hyperparameters included.
pub static VARIANCE_SGD: OptimizerInfo = OptimizerInfo::new(
    "variance_sgd",
    "VarianceSGD",
    "SGD with each step times g^2 / (g^2 + noise s^2), s^2 the variance of the gradient (Balles and Hennig, 2018)",
    |hyperparameters, _| Ok(Box::new(VarianceSgd::new(hyperparameters)?)),
)
.options(&[
    OptionInfo::new(
        "noise",
        OptionKind::Number(|value| value >= 0.0),
        "a number of at least 0",
        || OptionValue::Number(1.0),
        "the weight of the variance",
    ),
    OptionInfo::new(
        "variance_decay",
        OptionKind::Number(|value| (0.0..1.0).contains(&value)),
        "a number from 0 up to but not including 1",
        || OptionValue::Number(0.9),
        "the weight of the past in the running mean of the variance",
    ),
]);

#[derive(Debug)]
struct VarianceSgd {
    // Gradients with l2 in them and clipped, as every optimizer owes.
    gradients: Gradients,
    learning_rate: f64,
    noise: f64,
    decay: f64,
    variances: BTreeMap<String, Tensor>,
}

impl VarianceSgd {
    fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        let mut gradients = Gradients::new(hyperparameters)?;
        gradients.request.add(Variance)?;
        let (noise, decay) = (hyperparameters.number("noise"), hyperparameters.number("variance_decay"));
        let learning_rate = hyperparameters.learning_rate;
        Ok(VarianceSgd { gradients, learning_rate, noise, decay, variances: BTreeMap::new() })
    }
}

impl Optimizer for VarianceSgd {
    // 2. What it asks of every pass.
    fn request(&self) -> &Request {
        &self.gradients.request
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    // 3. The step. A mean loss has put 1/N into the individual gradients, so that the variance of their sum is N times
    //    theirs.
    fn step(&mut self, network: &mut Network, pass: &mut Quantities, _: &mut StepClock) -> Result<StepReport> {
        for (number, (parameter, gradient)) in self.gradients.take(network, pass)?.into_iter().enumerate() {
            let variance = pass.get(Variance, number)? * pass.whole.samples as f64;
            let name = format!("variance.{number}");
            let variance = match self.variances.remove(&name) {
                Some(past) => past * self.decay + variance * (1.0 - self.decay),
                None => variance,
            };
            let signal = gradient.square();
            // Where there is neither signal nor noise there is no step.
            let share = &signal / (&signal + &variance * self.noise + 1e-30);
            let _ = parameter.shallow_clone().g_sub_(&(gradient * share * self.learning_rate));
            self.variances.insert(name, variance);
        }
        Ok(StepReport::default())
    }

    // 4. What a later step depends on, for checkpoints.
    fn state(&self) -> Vec<(String, Tensor)> {
        self.variances.iter().map(|(name, variance)| (name.clone(), variance.shallow_clone())).collect()
    }

    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        self.variances = state;
        Ok(())
    }
}

/// The program with the optimizer in it. `backpack_run::optimizers::conformance(&VARIANCE_SGD)` is for its tests.
pub fn main() -> ExitCode {
    backpack_run::program(Registry::new().optimizer(&VARIANCE_SGD))
}
