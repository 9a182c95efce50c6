//! What optimizers owe, held for every one that is built in, and found missing where it is.

use std::collections::BTreeMap;

use backpack_run::Result;
use backpack_run::backpack::{Network, Quantities, Request};
use backpack_run::optimizers::{
    Gradients, Hyperparameters, Optimizer, OptimizerInfo, OptimizerName, StepClock, StepReport, conformance,
};
use tch::Tensor;

#[cfg(feature = "program")]
#[path = "../../examples/custom_optimizer.rs"]
#[expect(dead_code, reason = "a program's main")]
mod custom_optimizer;

#[test]
fn every_optimizer_does_what_it_owes() {
    for name in OptimizerName::all() {
        conformance(name.info()).unwrap_or_else(|error| panic!("{error}"));
    }
    #[cfg(feature = "program")]
    conformance(&custom_optimizer::VARIANCE_SGD).unwrap();
}

/// Heavy ball that owes what its parts say.
struct Faulty {
    gradients: Gradients,
    learning_rate: f64,
    keeps_rate: bool,
    tells_state: bool,
    l2_of_all: f64,
    velocities: Vec<Tensor>,
}

fn faulty(hyperparameters: &Hyperparameters, fault: &str) -> Result<Box<dyn Optimizer>> {
    let mut own = hyperparameters.clone();
    if fault == "l2" {
        own.l2 = 0.0;
    }
    let plain = Hyperparameters { l2: own.l2, ..Hyperparameters::new(own.name, own.learning_rate) };
    Ok(Box::new(Faulty {
        gradients: Gradients::new(if fault == "clip" { &plain } else { &own })?,
        learning_rate: own.learning_rate,
        keeps_rate: fault == "rate",
        tells_state: fault != "state",
        l2_of_all: if fault == "bias" { hyperparameters.l2 } else { 0.0 },
        velocities: Vec::new(),
    }))
}

impl Optimizer for Faulty {
    fn request(&self) -> &Request {
        &self.gradients.request
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        if !self.keeps_rate {
            self.learning_rate = learning_rate;
        }
    }

    fn step(&mut self, network: &mut Network, quantities: &mut Quantities, _: &mut StepClock) -> Result<StepReport> {
        for (number, (parameter, gradient)) in self.gradients.take(network, quantities)?.into_iter().enumerate() {
            let gradient = gradient + parameter * self.l2_of_all;
            match self.velocities.get_mut(number) {
                Some(velocity) => *velocity = &*velocity * 0.9 + gradient,
                None => self.velocities.push(gradient),
            }
            let _ = parameter.shallow_clone().g_sub_(&(&self.velocities[number] * self.learning_rate));
        }
        Ok(StepReport::default())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let velocities = self.velocities.iter().enumerate().filter(|_| self.tells_state);
        velocities.map(|(number, velocity)| (number.to_string(), velocity.shallow_clone())).collect()
    }

    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        self.velocities = (0..state.len()).map(|number| state[&number.to_string()].copy()).collect();
        Ok(())
    }
}

/// Holds numbers that its entry does not tell of.
struct Hoarder(Box<dyn Optimizer>);

impl Optimizer for Hoarder {
    fn request(&self) -> &Request {
        self.0.request()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.0.set_learning_rate(learning_rate);
    }

    fn step(
        &mut self,
        network: &mut Network,
        quantities: &mut Quantities,
        clock: &mut StepClock,
    ) -> Result<StepReport> {
        self.0.step(network, quantities, clock)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let hoard = Tensor::zeros([10_000], (tch::Kind::Float, tch::Device::Cpu));
        self.0.state().into_iter().chain([("hoard".to_owned(), hoard)]).collect()
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        state.remove("hoard");
        self.0.load_state(state)
    }
}

macro_rules! faulty {
    ($($name:ident = $fault:literal, $defect:literal;)*) => {
        $(static $name: OptimizerInfo =
            OptimizerInfo::new($fault, $fault, "", |hyperparameters, _| faulty(hyperparameters, $fault));)*
        const FAULTY: &[(&OptimizerInfo, &str)] = &[$((&$name, $defect)),*];
    };
}

faulty! {
    STATE = "state", "resumes from a saved state";
    RATE = "rate", "a learning rate that is set";
    L2 = "l2", "l2 does not draw a weight";
    BIAS = "bias", "l2 moves a bias";
    CLIP = "clip", "changes nothing though";
}

static HOARDER: OptimizerInfo = OptimizerInfo::new("hoarder", "Hoarder", "", |hyperparameters, _| {
    Ok(Box::new(Hoarder(faulty(hyperparameters, "none")?)))
});
static SOUND: OptimizerInfo =
    OptimizerInfo::new("sound", "Sound", "", |hyperparameters, _| faulty(hyperparameters, "none"));

#[test]
fn what_is_missing_is_told() {
    conformance(&SOUND).unwrap();
    for (info, defect) in FAULTY.iter().copied().chain([(&HOARDER, "its state holds")]) {
        let told = conformance(info).unwrap_err().to_string();
        assert!(told.contains(defect) && told.lines().count() == 1, "{}: {told}", info.name);
    }
}
