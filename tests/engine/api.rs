//! What a Rust user can rely on: passes with results by name, quantities of one's own and what they require, errors that
//! can be acted on, training without a problem file, and the check of what optimizers owe.

use std::collections::BTreeMap;

use backpack_run::backpack::BuiltIn::{DiagGgn, DiagGgnMc, Grad, Kfac, Kfra, SumGradSquared, Variance};
use backpack_run::backpack::layers::{
    Activation, BatchNorm1d, BatchNorm1dOptions, Gain, Layer, Linear, LinearOptions, Mode, Tanh,
};
use backpack_run::backpack::losses::CrossEntropy;
use backpack_run::backpack::quantities::{Combine, Pieces, Quantity, Scale, Site, Source, Whole};
use backpack_run::backpack::{Network, Pass, Quantities, Request};
use backpack_run::optimizers::{
    Gradients, Hyperparameters, Optimizer, OptimizerInfo, OptimizerName, StepClock, StepReport, build, conformance,
};
use backpack_run::problems::data::{DataFolders, DataSource, Part, load};
use backpack_run::study::run::{Trainer, TrainerOptions};
use backpack_run::{Error, Result};
use tch::{Device, Kind, Tensor};

fn linear(inputs: i64, outputs: i64) -> Box<dyn Layer> {
    Box::new(Linear::new(&[inputs], &LinearOptions { out_features: outputs, bias: true }).unwrap())
}

/// A linear layer, tanh, a gain and a linear layer, with the parameters that the constructors draw.
fn network() -> Network {
    tch::manual_seed(0);
    let gain = Gain::new(&[4], None, 0.8).unwrap();
    let mut network =
        Network::sequential(vec![linear(5, 4), Box::new(Activation::new(Tanh {})), Box::new(gain), linear(4, 3)]);
    network.to(Kind::Double, Device::Cpu);
    network
}

fn batch() -> (Tensor, Tensor) {
    (Tensor::randn([6, 5], (Kind::Double, Device::Cpu)), Tensor::from_slice(&[0i64, 1, 2, 2, 1, 0]))
}

/// What an own quantity of these tests is made of: `scale` times the sum of what it requires, or, if it requires nothing,
/// times the gradient.
#[derive(Clone, Copy)]
struct Own {
    name: &'static str,
    requires: &'static [&'static str],
    scale: f64,
}

impl Quantity for Own {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        "a quantity of a test"
    }
    fn shape(&self) -> &'static str {
        "[*p]"
    }
    fn source(&self) -> Source {
        Source::Gradient
    }
    fn combine(&self) -> Combine {
        Combine::Sum
    }
    fn extract(&self, site: &Site) -> Result<Pieces> {
        Ok(match self.requires {
            [] => vec![("", site.layer.parameter_vjp_sum(site.saved, site.parameter, site.v)?.squeeze_dim(0))],
            _ => Vec::new(),
        })
    }
    fn requires(&self) -> &'static [&'static str] {
        self.requires
    }
    fn finish(&self, taken: Tensor, required: &[&Tensor], _whole: &Whole) -> Tensor {
        let sum = required.iter().map(|one| one.copy()).reduce(|sum, one| sum + one);
        sum.unwrap_or(taken) * self.scale
    }
}

fn same(result: &Quantities, quantity: impl Fn(&str) -> Tensor, own: &'static str) {
    for name in result.parameter_names() {
        let (ours, expected) = (result.get(own, name).unwrap(), quantity(name));
        assert!(expected.abs().max().double_value(&[]) > 1e-9, "{own} of {name} is nothing");
        assert!(ours.allclose(&expected, 1e-12, 1e-15, false), "{own} of {name}");
    }
}

#[test]
fn a_quantity_may_require_ones_that_are_not_built_in() {
    let (network, loss, (x, y)) = (network(), CrossEntropy::default(), batch());
    let base = Own { name: "own_base", requires: &[], scale: 2.0 };
    let middle = Own { name: "own_middle", requires: &["own_base", "grad"], scale: 10.0 };
    let top = Own { name: "own_top", requires: &["own_middle"], scale: 7.0 };
    // In the same pass, in whatever order they are taken.
    for quantities in [[top, middle, base], [base, top, middle], [middle, base, top]] {
        let result = Pass::new(&network, &loss).take(quantities).unwrap().take([Grad]).unwrap().run(&x, &y).unwrap();
        let gradient = |name: &str| result.get(Grad, name).unwrap().copy();
        same(&result, |name| gradient(name) * 2.0, "own_base");
        same(&result, |name| gradient(name) * 30.0, "own_middle");
        same(&result, |name| gradient(name) * 210.0, "own_top");
    }
    // What is nowhere is named.
    let missing = Pass::new(&network, &loss).take([middle]).unwrap();
    let error = missing.run(&x, &y).unwrap_err().to_string();
    assert!(error.contains("`own_middle` requires `own_base`"), "{error}");
    // What is built in need not be asked for, and is then not told.
    let double = Own { name: "own_double", requires: &["grad"], scale: 2.0 };
    let result = Pass::new(&network, &loss).take([double]).unwrap().run(&x, &y).unwrap();
    assert!(result.values().iter().all(|value| value.quantity == "own_double"));
}

#[test]
fn what_is_required_comes_finished_and_in_backpacks_scale() {
    let (network, loss, (x, y)) = (network(), CrossEntropy::default(), batch());
    let own = Own { name: "own_moment", requires: &["sum_grad_squared", "variance"], scale: 3.0 };
    let plain = Pass::new(&network, &loss).take([SumGradSquared, Variance]).unwrap().run(&x, &y).unwrap();
    let sum = |name: &str| (plain.get(SumGradSquared, name).unwrap() + plain.get(Variance, name).unwrap()) * 3.0;
    for scale in [Scale::Backpack, Scale::Paper] {
        let pass = Pass::new(&network, &loss).take([own]).unwrap().take([Variance]).unwrap().scale(scale);
        let result = pass.run(&x, &y).unwrap();
        same(&result, sum, "own_moment");
        let factor = if scale == Scale::Paper { 36.0 } else { 1.0 };
        same(&result, |name| plain.get(Variance, name).unwrap() * factor, "variance");
    }
}

#[test]
fn what_lacks_a_requirement_at_a_parameter_is_left_out_there() {
    let (network, loss, (x, y)) = (network(), CrossEntropy::default(), batch());
    let own = Own { name: "own_trace", requires: &["kfac"], scale: 1.0 };
    // Of a weight both factors come, which have other shapes; of a bias B alone.
    let biases = Own { requires: &["kfac", "own_ones"], ..own };
    let error = Pass::new(&network, &loss).take([biases]).unwrap().run(&x, &y).unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error}");
    let square = Network::sequential(vec![linear(4, 4), Box::new(Gain::new(&[4], None, 0.8).unwrap()), linear(4, 4)]);
    let (x, y) = (x.narrow(1, 0, 4).to_kind(Kind::Float), y);
    let result = Pass::new(&square, &loss).take([own]).unwrap().take([Kfac]).unwrap().run(&x, &y).unwrap();
    let factor = |factor| result.factor(Kfac, "2.weight", factor).unwrap();
    assert!(result.get("own_trace", "2.weight").unwrap().allclose(&(factor("A") + factor("B")), 1e-6, 1e-9, false));
    let error = result.get("own_trace", "1.weight").unwrap_err();
    assert!(error.to_string().contains("left out"), "{error}");
}

#[test]
fn quantities_that_go_round_in_a_circle_or_take_a_name_are_refused() {
    let (network, loss, (x, y)) = (network(), CrossEntropy::default(), batch());
    let one = Own { name: "own_hen", requires: &["own_egg"], scale: 1.0 };
    let two = Own { name: "own_egg", requires: &["own_hen"], scale: 1.0 };
    let error = Pass::new(&network, &loss).take([one, two]).unwrap().run(&x, &y).unwrap_err();
    assert!(error.to_string().contains("requires itself"), "{error}");
    let error = Pass::new(&network, &loss).take([Own { name: "grad", ..one }]).unwrap_err();
    assert!(error.to_string().contains("built-in"), "{error}");
}

#[test]
fn errors_can_be_acted_on() {
    let (mut network, loss, (x, y)) = (network(), CrossEntropy::default(), batch());
    let error = Pass::new(&network, &loss).take([Kfra]).unwrap().run(&x, &y).unwrap_err();
    let Error::Refused { quantity, layer, .. } = error else { panic!("{error:?}") };
    assert_eq!((quantity.as_str(), layer.as_deref()), ("kfra", Some("2")));

    let result = Pass::new(&network, &loss).take([Grad, Kfac]).unwrap().run(&x, &y).unwrap();
    let reason = |error: Error| match error {
        Error::NotTaken { quantity, parameter, reason } => format!("{quantity} {parameter}: {reason}"),
        other => panic!("{other:?}"),
    };
    for (error, parts) in [
        (result.get(Grad, "0.wieght"), ["grad 0.wieght", "0.weight, 0.bias, 2.weight"]),
        (result.get(Variance, "0.weight"), ["variance 0.weight", "it took grad, kfac"]),
        (result.get(Kfac, "0.weight"), ["kfac 0.weight", "it comes in A, B"]),
        (result.get(Kfac, 2), ["kfac 2.weight", "left out"]),
        (result.factor(Grad, 0, "A"), ["grad 0.weight", "no factor `A`"]),
    ] {
        let reason = reason(error.unwrap_err());
        assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
    }

    let error = network.load([("0.weight".to_owned(), Tensor::zeros([4, 6], (Kind::Float, Device::Cpu)))].into());
    let Err(Error::Weights { missing, unexpected, misshapen }) = error else { panic!("{error:?}") };
    assert_eq!((missing.len(), unexpected.len()), (4, 0));
    assert_eq!(misshapen, [("0.weight".to_owned(), vec![4, 6], vec![4, 5])]);
}

/// Labels are drawn by seed and step; in training mode by those of the mode unless told otherwise.
#[test]
fn draws_follow_the_mode_unless_told_otherwise() {
    let (network, loss, (x, y)) = (network(), CrossEntropy::default(), batch());
    let pass = Pass::new(&network, &loss).take([DiagGgnMc]).unwrap().mc_samples(7);
    let labels = |pass: Pass| pass.run(&x, &y).unwrap().labels.unwrap();
    let training = || pass.clone().mode(Mode::Training { seed: 3, step: 5 });
    let drawn = labels(pass.clone().seed(3).step(5));
    assert_eq!(drawn.size(), [7, 6]);
    assert_eq!(labels(training()), drawn);
    assert_eq!(labels(pass.clone()), labels(pass.clone().seed(0).step(0)));
    assert_ne!(labels(training().step(6)), drawn);
    assert_ne!(labels(training().seed(4)), drawn);
    let given = pass.clone().labels(&drawn).run(&x, &y).unwrap();
    let again = pass.clone().seed(3).step(5).run(&x, &y).unwrap();
    assert_eq!(given.get(DiagGgnMc, "0.weight").unwrap(), again.get(DiagGgnMc, "0.weight").unwrap());
    // Nothing is drawn where nothing is sampled.
    assert!(Pass::new(&network, &loss).take([DiagGgn]).unwrap().run(&x, &y).unwrap().labels.is_none());
}

/// The training loop moves running statistics once a step, as PyTorch does; a pass by itself leaves them.
#[test]
fn a_network_built_in_rust_is_trained() {
    tch::set_num_threads(1);
    tch::manual_seed(0);
    let norm = BatchNorm1d::new(&[4], &BatchNorm1dOptions::default()).unwrap();
    let network =
        Network::sequential(vec![linear(5, 4), Box::new(norm), Box::new(Activation::new(Tanh {})), linear(4, 3)]);
    let source: DataSource = serde_json::from_str(
        r#"{ "synthetic": { "shape": [5], "classes": 3, "train": 512, "test": 128, "seed": 0 } }"#,
    )
    .unwrap();
    let data = load(&source, &DataFolders::from_choice(None)).unwrap();
    let optimizer = build(&Hyperparameters::new("momentum".parse().unwrap(), 0.1), &network).unwrap();
    // As its documentation says.
    assert_eq!((TrainerOptions::default().batch_size, TrainerOptions::default().seed), (128, 0));
    let options = TrainerOptions { batch_size: 32, ..TrainerOptions::default() };
    let mut trainer = Trainer::of(network, Box::new(CrossEntropy::default()), optimizer, &data, &options).unwrap();
    let mean = |trainer: &Trainer| trainer.network().buffers()[0].1.copy();
    let before = trainer.evaluate(Part::Test, 0).unwrap();
    assert_eq!(mean(&trainer), Tensor::zeros([4], (Kind::Float, Device::Cpu)));
    let batch = trainer.feed().train_batch(&trainer.train_order(0), 0, 0).unwrap();
    let arriving =
        batch.x.linear(trainer.network().parameters()[0].value, Some(trainer.network().parameters()[1].value));
    let expected = arriving.mean_dim(0, false, Kind::Float) * 0.1;
    let order = trainer.train_order(0);
    trainer.step(&order, 0, 0, false).unwrap();
    assert!(mean(&trainer).allclose(&expected, 1e-5, 1e-7, false));
    let first = trainer.train_epoch(0).unwrap().unwrap();
    let mut last = first;
    for epoch in 1..8 {
        last = trainer.train_epoch(epoch).unwrap().unwrap();
    }
    let after = trainer.evaluate(Part::Test, 8).unwrap();
    assert!(last < 0.8 * first && after.loss < 0.8 * before.loss, "{first} {last} {before:?} {after:?}");
    assert!(after.accuracy > 0.6);
}

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
        let hoard = Tensor::zeros([10_000], (Kind::Float, Device::Cpu));
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
