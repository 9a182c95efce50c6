//! Small random networks over every layer type, option and loss, held to the oracle both ways in double precision, and
//! in single precision against double: what `check --random-nets` does.

mod draw;

use tch::{Device, Kind, Tensor};

use crate::backpack::layers::Mode;
use crate::backpack::losses::Loss;
use crate::backpack::oracle::{Comparison, Expected, Question, Way, compare, expected};
use crate::backpack::quantities::all;
use crate::backpack::request::why_not;
use crate::backpack::{Network, Pass, Quantities};
use crate::error::Result;
use crate::problems::builder::{build_loss, build_network};
use crate::problems::definition::LayerDefinition;
use crate::random::{Purpose, normal, stream, uniform};

pub use draw::{INTEGERS, RECURRENT, RandomNet, draw};

/// A number type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Digits {
    /// f64.
    Double,
    /// f32.
    Single,
}

impl Digits {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Digits::Double => "f64",
            Digits::Single => "f32",
        }
    }

    /// The largest error that is still taken for rounding.
    pub fn bound(self) -> f64 {
        match self {
            Digits::Double => 1e-9,
            Digits::Single => 1e-4,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Digits::Double => Kind::Double,
            Digits::Single => Kind::Float,
        }
    }
}

/// What one network came to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The error of each tensor: its quantity, the number type, the error, the entries compared.
    pub errors: Vec<(&'static str, Digits, f64, usize)>,
    /// What does not hold.
    pub failures: Vec<Failure>,
}

/// Something that does not hold, in words.
pub type Failure = String;

/// Compares every quantity that the network can have.
///
/// # Errors
/// What a pass or the oracle says; a network that was drawn has no reason to be refused.
pub fn hold(net: &RandomNet, device: Device) -> Result<Findings> {
    let mut findings = Findings::default();
    let double = network(net, Digits::Double, device)?;
    let names = possible(net, &double, &mut findings)?;
    let loss = build_loss(&net.definition)?;
    let (x, y) = batch(net, loss.as_ref(), device);
    let inputs = |digits: Digits| if x.kind() == Kind::Int64 { x.shallow_clone() } else { x.to_kind(digits.kind()) };
    let target = |digits: Digits| if y.kind() == Kind::Int64 { y.shallow_clone() } else { y.to_kind(digits.kind()) };
    let run = |network: &Network, digits: Digits, labels: Option<&Tensor>| -> Result<Quantities> {
        let pass = Pass::new(network, loss.as_ref()).take(names.iter().copied())?.mode(net.mode).seed(net.seed).step(0);
        let pass = pass.mc_samples(net.mc_samples).chunk_bytes(net.chunk_bytes);
        let pass = match labels {
            Some(labels) => pass.labels(labels),
            None => pass,
        };
        pass.run(&inputs(digits), &target(digits))
    };
    let ask = |network: &Network, digits: Digits, way: Way, labels: Option<&Tensor>| -> Result<Vec<Expected>> {
        let question = Question { mode: net.mode, labels, ..Question::new(&names, way) };
        expected(network, loss.as_ref(), &inputs(digits), &target(digits), &question)
    };
    let ours = run(&double, Digits::Double, None)?;
    // Where samples depend on each other none of them can be taken by itself.
    let ways = if names == ["grad"] { &[Way::WholeBatch][..] } else { &[Way::WholeBatch, Way::Samples] };
    let mut truth = (Way::WholeBatch, Vec::new());
    for way in ways {
        let oracle = ask(&double, Digits::Double, *way, ours.labels.as_ref())?;
        findings.note(net, &double, &format!("{way:?}"), Digits::Double, &measured(&ours, &oracle));
        findings.complete(&names, &oracle, &ours, *way);
        truth = (*way, oracle);
    }
    let (way, truth) = truth;
    let labels = match &ours.labels {
        Some(labels) if labels.kind() != Kind::Int64 => Some(labels.to_kind(Kind::Float)),
        labels => labels.as_ref().map(Tensor::shallow_clone),
    };
    let single = network(net, Digits::Single, device)?;
    let mut found = measured(&run(&single, Digits::Single, labels.as_ref())?, &truth);
    if found.iter().any(|one| one.error > Digits::Single.bound()) {
        spare(&mut found, &truth, &ask(&single, Digits::Single, way, labels.as_ref())?);
    }
    findings.note(net, &double, "against double precision", Digits::Single, &found);
    Ok(findings)
}

/// Where a network takes its digits from single precision, as a normalisation by a variance of nearly zero does, the
/// oracle loses them too: an error is then as large as the bound at ten times the oracle's own in single precision.
fn spare(found: &mut [Comparison], truth: &[Expected], single: &[Expected]) {
    for (((one, truth), single), yardstick) in found.iter_mut().zip(truth).zip(single).zip(yardsticks(truth)) {
        let off = f64::try_from((single.tensor.to_kind(Kind::Double) - &truth.tensor).abs().max()).unwrap_or(0.0);
        let oracle = off / yardstick;
        one.error *= Digits::Single.bound() / Digits::Single.bound().max(10.0 * oracle);
    }
}

/// What errors are measured against, so that rounding is all alike. A Hessian's diagonal is the sum of
/// the GGN's and a residual of either sign. A tensor that is small beside the others of its quantity, or beside one, the
/// size of inputs, weights and the loss's vectors, is a difference of larger ones: so is the bias in front of a
/// normalisation or of a softmax over its positions, whose derivatives are zero.
fn yardsticks(oracle: &[Expected]) -> Vec<f64> {
    let largest = |quantity: &str, factor: &str| {
        let same = oracle.iter().filter(|one| one.quantity == quantity && one.factor == factor);
        same.map(|one| one.yardstick).fold(0.0, f64::max)
    };
    let of_ggn = |quantity: &str, parameter: usize| {
        let ggn = match quantity {
            "diag_hessian" => "diag_ggn",
            "batch_diag_hessian" => "batch_diag_ggn",
            _ => return 0.0,
        };
        let same = oracle.iter().find(|one| one.quantity == ggn && one.parameter == parameter);
        same.map_or(0.0, |one| one.yardstick)
    };
    let yardstick = |one: &Expected| {
        let small = 0.01 * largest(one.quantity, one.factor).max(1.0);
        one.yardstick.max(of_ggn(one.quantity, one.parameter)).max(small)
    };
    oracle.iter().map(yardstick).collect()
}

/// The comparisons, with errors measured by [`yardsticks`].
fn measured(ours: &Quantities, oracle: &[Expected]) -> Vec<Comparison> {
    let mut found = compare(ours, oracle);
    for ((one, expected), yardstick) in found.iter_mut().zip(oracle).zip(yardsticks(oracle)) {
        one.error *= absolute(expected) / yardstick;
    }
    found
}

/// What a comparison's error was divided by.
fn absolute(expected: &Expected) -> f64 {
    if expected.yardstick > 0.0 { expected.yardstick } else { 1.0 }
}

impl Findings {
    fn note(&mut self, net: &RandomNet, network: &Network, what: &str, digits: Digits, found: &[Comparison]) {
        let parameters = network.parameters();
        for one in found {
            self.errors.push((one.quantity, digits, one.error, one.compared));
            if one.error.is_nan() || one.error > digits.bound() {
                self.failures.push(format!(
                    "net {}, {} ({what}): {} {}{} is off by {:.1e}, at most {:e} is rounding",
                    net.seed,
                    digits.name(),
                    one.quantity,
                    parameters[one.parameter].name,
                    one.factor,
                    one.error,
                    digits.bound()
                ));
            }
        }
    }

    /// The oracle and the pass have the same tensors.
    fn complete(&mut self, names: &[&'static str], oracle: &[Expected], ours: &Quantities, way: Way) {
        for name in names {
            // The whole batch's graph does not tell the samples' second derivatives apart.
            if way == Way::WholeBatch && *name == "batch_diag_hessian" {
                continue;
            }
            let theirs = oracle.iter().filter(|one| one.quantity == *name).count();
            let mine = ours.values().iter().filter(|one| one.quantity == *name).count();
            if theirs != mine || theirs == 0 {
                self.failures.push(format!("{name} has {mine} tensors, the oracle's {theirs} ({way:?})"));
            }
        }
    }
}

/// The quantities that can be had. Which ones cannot follows from the definition; the layers have to agree.
fn possible(net: &RandomNet, network: &Network, findings: &mut Findings) -> Result<Vec<&'static str>> {
    let shapes = network.shapes(&net.input)?;
    let layers = || net.definition.layers.iter();
    let is_recurrent = |layer: &LayerDefinition| RECURRENT.contains(&layer.kind());
    let no_factors = |layer: &LayerDefinition| {
        layer.kind().contains("norm")
            || ["embedding", "position_embedding", "gain", "class_token"].contains(&layer.kind())
            || is_recurrent(layer)
    };
    let moves = |layer: &LayerDefinition| {
        let movers = ["pad", "slice", "permute", "reshape", "scale", "mean", "self_attention"];
        let some_axes = layer.kind() == "flatten" && layer.options.values().keys().any(|key| key.ends_with("_dim"));
        some_axes || layer.entry.is_merge || movers.contains(&layer.kind())
    };
    let frozen = |layer: &LayerDefinition| layer.options.values().get("frozen") == Some(&true.into());
    let without_factors = layers().any(no_factors);
    let some_factors = layers().any(|layer| layer.kind() == "linear" || layer.kind().starts_with("conv"));
    let some_positions =
        layers().any(|layer| layer.kind() == "linear" || ["conv1d", "conv2d", "conv3d"].contains(&layer.kind()));
    let extra = layers().any(moves)
        || network.nodes().iter().any(|node| node.kind() == "linear" && shapes[node.inputs()[0]].len() > 1);
    let training = matches!(net.mode, Mode::Training { .. });
    let together = training && layers().any(|layer| layer.kind().starts_with("batch_norm") && !frozen(layer));
    let recurrent = layers().any(is_recurrent);
    let mut names = Vec::new();
    for quantity in all() {
        let name = quantity.name();
        let known = match name {
            "grad" => false,
            "kfac" | "kflr" => !some_factors || together,
            "kfac_expand" | "kfac_reduce" | "kflr_expand" | "kflr_reduce" | "ekfac" => !some_positions || together,
            "kfra" => without_factors || extra || together,
            "diag_hessian" | "batch_diag_hessian" => recurrent || together,
            _ => together,
        };
        let refused = why_not(network, &net.input, net.mode, quantity.as_ref())?;
        if refused.is_some() != known {
            let word = refused.map_or("given".to_owned(), |reason| format!("refused ({reason})"));
            findings.failures.push(format!("net {}: {name} is {word}", net.seed));
        } else if !known {
            names.push(name);
        }
    }
    Ok(names)
}

/// The network with the parameters of its seed, the same in both number types, and running statistics that are none of
/// a new network.
fn network(net: &RandomNet, digits: Digits, device: Device) -> Result<Network> {
    let mut network = build_network(&net.definition, &net.input, net.seed)?;
    for (number, (name, buffer)) in network.buffers().into_iter().enumerate() {
        let values = normal(&mut stream(net.seed, Purpose::RandomNets, 1000 + number as u64), &buffer.size());
        let values = if name.ends_with("var") { values.square() + 0.4 } else { values * 0.5 };
        buffer.shallow_clone().copy_(&values.to_kind(Kind::Float));
    }
    network.to(digits.kind(), device);
    Ok(network)
}

/// The batch in double precision, with inputs that single precision has too.
fn batch(net: &RandomNet, loss: &dyn Loss, device: Device) -> (Tensor, Tensor) {
    let mut generator = stream(net.seed, Purpose::RandomNets, 1);
    let size = [&[net.samples], net.input.as_slice()].concat();
    let takes_integers = net.definition.layers[0].kind() == "embedding";
    let x = match takes_integers {
        true => (uniform(&mut generator, &size, Device::Cpu) * INTEGERS as f64).floor().to_kind(Kind::Int64),
        false => (normal(&mut generator, &size) * net.spread).to_kind(Kind::Float).to_kind(Kind::Double),
    };
    let shape = [net.samples, net.outputs];
    let y = match loss.name() {
        "cross_entropy" => {
            let share = uniform(&mut generator, &[net.samples], Device::Cpu).to_kind(Kind::Double);
            (share * net.outputs as f64).floor().to_kind(Kind::Int64)
        }
        "mse" => normal(&mut generator, &shape).to_kind(Kind::Float).to_kind(Kind::Double),
        _ => uniform(&mut generator, &shape, Device::Cpu).to_kind(Kind::Double),
    };
    (x.to_device(device), y.to_device(device))
}
