//! Fifty steps of each optimizer against torch.optim, and against SOAP and Shampoo written out in torch.
//!
//! tests/golden/optimizers.safetensors is made by scripts/make_optimizer_golden.py, which says what is in it.

use std::collections::BTreeMap;

use backpack_run::backpack::layers::Mode;
use backpack_run::backpack::tensor_file::{self, TensorFile};
use backpack_run::backpack::{Labels, Network, extended_backward};
use backpack_run::optimizers::{Averaging, Hyperparameters, Optimizer, OptimizerName, Options, StepClock, build};
use backpack_run::problems::builder::{build_loss, build_network};
use backpack_run::problems::definition;
use serde::Deserialize;
use tch::{Device, Kind};

const STEPS: u64 = 50;
const BATCHES: u64 = 5;
const BOUND: f64 = 1e-10;

/// A case as the golden file's metadata describes it.
#[derive(Deserialize)]
struct Case {
    name: OptimizerName,
    learning_rate: f64,
    l2: f64,
    options: Options,
}

impl Case {
    fn hyperparameters(&self) -> Hyperparameters {
        Hyperparameters {
            name: self.name,
            learning_rate: self.learning_rate,
            damping: 0.0,
            averaging: Averaging::Cumulative,
            kfra_aliasing: false,
            l2: self.l2,
            mc_samples: 1,
            chunk_bytes: 1 << 30,
            options: self.options.clone(),
        }
    }
}

/// The problem, the golden file, and a network at the start.
struct Golden {
    problem: definition::ProblemDefinition,
    file: TensorFile,
}

impl Golden {
    fn read() -> Self {
        // The network is tiny: more threads would only wait for each other.
        tch::set_num_threads(1);
        let problem = crate::support::repository("tests/golden/optimizers.toml");
        Golden {
            problem: definition::load(problem.to_str().unwrap()).unwrap(),
            file: tensor_file::read(&crate::support::repository("tests/golden/optimizers.safetensors")).unwrap(),
        }
    }

    fn cases(&self) -> BTreeMap<String, Case> {
        serde_json::from_str(&self.file.metadata["cases"]).unwrap()
    }

    fn network(&self) -> Network {
        let mut network = build_network(&self.problem, &[2, 6, 5], 0).unwrap();
        network.to(Kind::Double, Device::Cpu);
        let weight =
            |(name, tensor): (&String, &tch::Tensor)| Some((name.strip_prefix("w/")?.to_owned(), tensor.copy()));
        network.load(self.file.tensors.iter().filter_map(weight).collect()).unwrap();
        network
    }

    fn step(&self, network: &Network, optimizer: &mut Box<dyn Optimizer>, settings: &Hyperparameters, step: u64) {
        let batch = |what: &str| &self.file.tensors[&format!("{what}/{}", step % BATCHES)];
        let labels = Labels::Drawn { seed: 0, step };
        let (request, loss) = (optimizer.request(), build_loss(&self.problem).unwrap());
        let quantities =
            extended_backward(network, loss.as_ref(), batch("x"), batch("y"), Mode::Evaluation, request, labels);
        optimizer.set_learning_rate(settings.learning_rate * settings.schedule().factor(step, STEPS));
        optimizer.step(network, &quantities.unwrap(), &mut StepClock::off()).unwrap();
    }
}

#[test]
fn fifty_steps_end_where_the_references_do() {
    let golden = Golden::read();
    assert!(golden.file.metadata["made_with"].contains("torch 2.13"));
    let cases = golden.cases();
    let without_damping = OptimizerName::all().filter(|name| !name.has_damping());
    for name in without_damping {
        assert!(cases.values().any(|case| case.name == name), "{name} is compared with nothing");
    }
    for (title, case) in &cases {
        let (network, settings) = (golden.network(), case.hyperparameters());
        let mut optimizer = build(&settings, &network).unwrap();
        let mut compared = 0;
        for step in 0..STEPS {
            golden.step(&network, &mut optimizer, &settings, step);
            for parameter in network.parameters() {
                let Some(theirs) = golden.file.tensors.get(&format!("{title}/{}/{}", step + 1, parameter.name)) else {
                    continue;
                };
                let error = f64::try_from((parameter.value - theirs).abs().max()).unwrap();
                assert!(error < BOUND, "{title}, step {}, {}: off by {error:e}", step + 1, parameter.name);
                compared += 1;
            }
        }
        assert_eq!(compared, 2 * network.parameters().len(), "{title}");
    }
}

#[test]
fn a_state_from_a_file_goes_on_to_the_same_bytes() {
    let golden = Golden::read();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for (title, case) in golden.cases() {
        let (network, settings) = (golden.network(), case.hyperparameters());
        network.parameters().iter().for_each(|parameter| assert_eq!(parameter.value.kind(), Kind::Double));
        let mut whole = build(&settings, &network).unwrap();
        (0..7).for_each(|step| golden.step(&network, &mut whole, &settings, step));
        tensor_file::write(&path, &whole.state(), &BTreeMap::new()).unwrap();
        let values: Vec<_> = network.parameters().iter().map(|parameter| parameter.value.copy()).collect();
        (7..20).for_each(|step| golden.step(&network, &mut whole, &settings, step));
        let expected: Vec<_> = network.parameters().iter().map(|parameter| parameter.value.copy()).collect();
        let again = golden.network();
        for (parameter, value) in again.parameters().iter().zip(&values) {
            parameter.value.shallow_clone().copy_(value);
        }
        let mut restored = build(&settings, &again).unwrap();
        restored.load_state(tensor_file::read(&path).unwrap().tensors).unwrap();
        (7..20).for_each(|step| golden.step(&again, &mut restored, &settings, step));
        for (parameter, expected) in again.parameters().iter().zip(&expected) {
            assert_eq!(parameter.value, expected, "{title}, {}", parameter.name);
        }
    }
}
