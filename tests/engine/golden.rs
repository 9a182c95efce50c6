//! Values that others have computed: fifty steps of each optimizer against torch.optim, and against SOAP and Shampoo
//! written out in torch; our quantities against BackPACK 1.7.1's, for small versions of the paper's four networks.
//!
//! tests/golden/optimizers.safetensors is made by scripts/make_optimizer_golden.py, tests/golden/backpack.safetensors by
//! scripts/make_backpack_golden.py; each script says what is in its file.

use std::collections::{BTreeMap, BTreeSet};

use backpack_run::backpack::extraction::{Batch, Settings, extract};
use backpack_run::backpack::layers::Mode;
use backpack_run::backpack::quantities::{Scale, TABLE_1};
use backpack_run::backpack::tensor_file::{self, TensorFile};
use backpack_run::backpack::{Network, Pass};
use backpack_run::optimizers::{Averaging, Hyperparameters, Optimizer, OptimizerName, Options, StepClock, build};
use backpack_run::problems::builder::{build_loss, build_network};
use backpack_run::problems::definition;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

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
        let weight = |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(&prefix)?.to_owned(), tensor.copy()));
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

/// Of the quantities.
const QUANTITY_BOUND: f64 = 1e-9;

/// The tensors below a prefix.
fn below(all: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let entries = all.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    entries.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect()
}

/// max|ours - theirs| / max|theirs|; of the variance, a difference of second moments, relative to the largest of those.
fn error(name: &str, ours: &Tensor, golden: &BTreeMap<String, Tensor>, samples: f64) -> f64 {
    let theirs = &golden[name];
    assert_eq!(ours.size(), theirs.size(), "{name}");
    let scale = match name.strip_prefix("variance.") {
        Some(parameter) => &golden[&format!("sum_grad_squared.{parameter}")] / samples,
        None => theirs.abs(),
    };
    let scale = f64::try_from(scale.max()).unwrap();
    let difference = f64::try_from((ours - theirs).abs().max()).unwrap();
    if scale == 0.0 { difference } else { difference / scale }
}

#[test]
fn quantities_are_those_of_backpack() {
    // The networks are tiny: more threads would only wait for each other.
    tch::set_num_threads(1);
    let golden = tensor_file::read(&crate::support::repository("tests/golden/backpack.safetensors")).unwrap();
    assert!(golden.metadata["made_with"].contains("backpack-for-pytorch 1.7.1"));
    for net in ["logreg", "2c2d", "3c3d", "allcnnc"] {
        let file = crate::support::repository(format!("tests/golden/{net}.toml"));
        let definition = definition::load(file.to_str().unwrap()).unwrap();
        let batch = Batch::from_tensors(below(&golden.tensors, &format!("{net}/"))).unwrap();
        let mut network = build_network(&definition, &batch.x.size()[1..], 0).unwrap();
        network.to(Kind::Double, Device::Cpu);
        network.load(below(&golden.tensors, &format!("{net}/w/"))).unwrap();
        let settings = Settings {
            explicit: TABLE_1.map(str::to_owned).to_vec(),
            table_1: false,
            scale: Scale::Backpack,
            mode: Mode::Evaluation,
            mc_samples: 1,
            mc_seed: 0,
            memory_budget: 1 << 30,
        };
        let loss = build_loss(&definition).unwrap();
        let ours: BTreeMap<String, Tensor> =
            extract(&network, loss.as_ref(), &batch, None, &settings).unwrap().named().into_iter().collect();
        let theirs = below(&golden.tensors, &format!("{net}/q/"));
        let samples = batch.x.size()[0] as f64;
        for name in theirs.keys() {
            let error = error(name, &ours[name], &theirs, samples);
            assert!(error < QUANTITY_BOUND, "{net}, {name}: {error:e}");
        }
        // Everything is compared; the factors A, which the three share, once.
        let alike = |name: &str| name.ends_with(".A") && !name.starts_with("kfac.");
        for (name, tensor) in ours.iter().filter(|(name, _)| alike(name)) {
            assert_eq!(tensor, &ours[&name.replace("kflr.", "kfac.").replace("kfra.", "kfac.")], "{net}, {name}");
        }
        let names = |tensors: &BTreeMap<String, Tensor>| {
            tensors.keys().filter(|name| !alike(name) && *name != "mc_labels").cloned().collect::<BTreeSet<_>>()
        };
        assert_eq!(names(&ours), names(&theirs), "{net}");
    }
}
