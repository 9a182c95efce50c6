//! Fifty steps of each optimizer against torch.optim, and against SOAP and Shampoo written out in torch.
//!
//! tests/golden/optimizers.safetensors is made by scripts/make_optimizer_golden.py, which says what is in it.

use std::collections::BTreeMap;

use backpack_run::backpack::tensor_file::{self, TensorFile};
use backpack_run::backpack::{Network, Pass};
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
    net: &'static str,
    problem: definition::ProblemDefinition,
    file: TensorFile,
}

impl Golden {
    fn read(net: &'static str) -> Self {
        // The network is tiny: more threads would only wait for each other.
        tch::set_num_threads(1);
        let file = if net == "plain" { "tests/golden/optimizers.toml" } else { "tests/golden/optimizers_norms.toml" };
        let problem = crate::support::repository(file);
        Golden {
            net,
            problem: definition::load(problem.to_str().unwrap()).unwrap(),
            file: tensor_file::read(&crate::support::repository("tests/golden/optimizers.safetensors")).unwrap(),
        }
    }

    /// The cases that were trained with this network.
    fn cases(&self) -> BTreeMap<String, Case> {
        let all: BTreeMap<String, Case> = serde_json::from_str(&self.file.metadata["cases"]).unwrap();
        let first = &self.network().parameters()[0].name.clone();
        let is_here = |title: &str| self.file.tensors.contains_key(&format!("{}/{title}/{STEPS}/{first}", self.net));
        all.into_iter().filter(|(title, _)| is_here(title)).collect()
    }

    fn network(&self) -> Network {
        let mut network = build_network(&self.problem, &[2, 6, 5], 0).unwrap();
        network.to(Kind::Double, Device::Cpu);
        let prefix = format!("{}/w/", self.net);
        let weight =
            |(name, tensor): (&String, &tch::Tensor)| Some((name.strip_prefix(&prefix)?.to_owned(), tensor.copy()));
        network.load(self.file.tensors.iter().filter_map(weight).collect()).unwrap();
        network
    }

    /// Trains as a case says and holds the parameters to the golden ones.
    fn compare(&self, title: &str, case: &Case) {
        let (mut network, settings) = (self.network(), case.hyperparameters());
        let mut optimizer = build(&settings, &network).unwrap();
        let mut compared = 0;
        for step in 0..STEPS {
            self.step(&mut network, &mut optimizer, &settings, step);
            for parameter in network.parameters() {
                let name = format!("{}/{title}/{}/{}", self.net, step + 1, parameter.name);
                let Some(theirs) = self.file.tensors.get(&name) else { continue };
                let error = f64::try_from((parameter.value - theirs).abs().max()).unwrap();
                assert!(error < BOUND, "{name}: off by {error:e}");
                compared += 1;
            }
        }
        assert_eq!(compared, 2 * network.parameters().len(), "{title}");
    }

    fn step(&self, network: &mut Network, optimizer: &mut Box<dyn Optimizer>, settings: &Hyperparameters, step: u64) {
        let batch = |what: &str| &self.file.tensors[&format!("{what}/{}", step % BATCHES)];
        let loss = build_loss(&self.problem).unwrap();
        let pass = Pass::new(network, loss.as_ref()).request(optimizer.request()).step(step);
        let mut quantities = pass.run(batch("x"), batch("y")).unwrap();
        optimizer.set_learning_rate(settings.learning_rate * settings.schedule().factor(step, STEPS));
        optimizer.step(network, &mut quantities, &mut StepClock::off()).unwrap();
    }
}

#[test]
fn fifty_steps_end_where_the_references_do() {
    for net in ["plain", "norms"] {
        let golden = Golden::read(net);
        assert!(golden.file.metadata["made_with"].contains("torch 2.13"));
        let cases = golden.cases();
        for name in OptimizerName::all().filter(|name| !name.has_damping()) {
            assert!(cases.values().any(|case| case.name == name), "{net}: {name} is compared with nothing");
        }
        for (title, case) in &cases {
            golden.compare(title, case);
        }
    }
}

#[test]
fn a_state_from_a_file_goes_on_to_the_same_bytes() {
    let golden = Golden::read("norms");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for (title, case) in golden.cases() {
        let (mut network, settings) = (golden.network(), case.hyperparameters());
        network.parameters().iter().for_each(|parameter| assert_eq!(parameter.value.kind(), Kind::Double));
        let mut whole = build(&settings, &network).unwrap();
        (0..7).for_each(|step| golden.step(&mut network, &mut whole, &settings, step));
        tensor_file::write(&path, &whole.state(), &BTreeMap::new()).unwrap();
        let values: Vec<_> = network.parameters().iter().map(|parameter| parameter.value.copy()).collect();
        (7..20).for_each(|step| golden.step(&mut network, &mut whole, &settings, step));
        let expected: Vec<_> = network.parameters().iter().map(|parameter| parameter.value.copy()).collect();
        let mut again = golden.network();
        for (parameter, value) in again.parameters().iter().zip(&values) {
            parameter.value.shallow_clone().copy_(value);
        }
        let mut restored = build(&settings, &again).unwrap();
        restored.load_state(tensor_file::read(&path).unwrap().tensors).unwrap();
        (7..20).for_each(|step| golden.step(&mut again, &mut restored, &settings, step));
        for (parameter, expected) in again.parameters().iter().zip(&expected) {
            assert_eq!(parameter.value, expected, "{title}, {}", parameter.name);
        }
    }
}
