//! Small networks with data, on which the extended backward pass is held to the oracle.

#![allow(dead_code, reason = "each test binary uses a part")]

/// A case: its name, the number of samples, the input's shape, the layers.
macro_rules! case {
    ($name:literal, $samples:literal, [$($size:literal),*], [$($layer:expr),* $(,)?]) => {
        Case::new($name, $samples, &[$($size),*], vec![$($layer.into()),*])
    };
}

#[rustfmt::skip] // a case is a line
pub mod list;
pub mod spec;
#[rustfmt::skip] // a layer or a case is a line
pub mod typed;

use backpack_run::backpack::Network;
use backpack_run::backpack::layers::Mode;
use backpack_run::backpack::losses::{BceWithLogits, CrossEntropy, Loss, MeanSquaredError, Reduction};
use backpack_run::random::{Purpose, normal, stream, uniform};
use spec::Spec;
use tch::{Device, Kind, Tensor};

/// A network and the shape of its batch.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub samples: i64,
    pub input: Vec<i64>,
    pub layers: Vec<Spec>,
    pub mode: Mode,
    /// The quantities that cannot be had.
    pub refused: &'static [&'static str],
    gain: f64,
    certainty: f64,
}

impl Case {
    pub fn new(name: &'static str, samples: i64, input: &[i64], layers: Vec<Spec>) -> Self {
        Case {
            name,
            samples,
            input: input.to_vec(),
            layers,
            mode: Mode::Evaluation,
            refused: &[],
            gain: 1.0,
            certainty: 1.0,
        }
    }

    /// These quantities cannot be had.
    pub fn refuses(self, refused: &'static [&'static str]) -> Self {
        Case { refused, ..self }
    }

    /// The forward pass is that of training, with dropout.
    pub fn training(self) -> Self {
        Case { mode: Mode::Training { seed: 5, step: 3 }, ..self }
    }

    /// The weights are this times larger than they would usually be, except those of the last layer, which are this
    /// times smaller: the activations are driven into their limits, the loss is not.
    pub fn gain(self, gain: f64) -> Self {
        Case { gain, ..self }
    }

    /// The weights of the last layer are this times larger, so that the loss is driven into its limits, the first
    /// sample's input is this times smaller: its output is undecided, and the scale that errors are measured against.
    pub fn certainty(self, certainty: f64) -> Self {
        Case { certainty, ..self }
    }

    /// By how much errors may be larger than rounding: where p is nearly one, 1 - p has few digits left, and its square
    /// root half of them, in the pass as in the oracle.
    pub fn cancellation(&self) -> f64 {
        if self.certainty > 1.0 { 50.0 } else { 1.0 }
    }

    /// The network, with values that are the same in both number types.
    pub fn network(&self, kind: Kind) -> Network {
        let mut shapes = vec![self.input.clone()];
        let mut parts = Vec::new();
        for (place, spec) in self.layers.iter().enumerate() {
            let (part, shape) = spec.part(place, &shapes);
            parts.push(part);
            shapes.push(shape);
        }
        let mut network = Network::new(parts).unwrap();
        network.to(kind, Device::Cpu);
        let parameters = network.parameters();
        let last = parameters.iter().rposition(|parameter| parameter.role == "weight");
        for (number, parameter) in parameters.iter().enumerate() {
            let size = parameter.value.size();
            let fan_in = size[1..].iter().product::<i64>().max(1) as f64;
            let gain = if Some(number) == last { self.certainty / self.gain } else { self.gain };
            let scale = if parameter.role == "weight" { gain / fan_in.sqrt() } else { 0.3 };
            let shift = if size.len() == 1 && parameter.role == "weight" { 1.0 } else { 0.0 };
            let values = self.normal(&size, number as u64) * scale + shift;
            parameter.value.shallow_clone().copy_(&values.to_kind(Kind::Float));
        }
        for (number, (name, buffer)) in network.buffers().into_iter().enumerate() {
            let values = self.normal(&buffer.size(), 500 + number as u64);
            let values = if name.ends_with("var") { values.square() + 0.4 } else { values * 0.5 };
            buffer.shallow_clone().copy_(&values.to_kind(Kind::Float));
        }
        network
    }

    /// The batch's input.
    pub fn x(&self, kind: Kind) -> Tensor {
        let shape = [&[self.samples], self.input.as_slice()].concat();
        if let Some(count) = self.layers[0].integers() {
            let draws = uniform(&mut stream(3, Purpose::Batch, 900), &shape, Device::Cpu);
            return (draws * count as f64).floor().to_kind(Kind::Int64);
        }
        let x = self.normal(&shape, 900);
        let _ = x.get(0).g_div_scalar_(self.certainty);
        x.to_kind(Kind::Float).to_kind(kind)
    }

    /// A target that suits the loss.
    pub fn y(&self, loss: &dyn Loss, kind: Kind) -> Tensor {
        let output = self.output();
        let shape = [&[self.samples], output.as_slice()].concat();
        let mut generator = stream(3, Purpose::Batch, 901);
        match loss.name() {
            "cross_entropy" => {
                let shape = [&[self.samples], &output[1..]].concat();
                (uniform(&mut generator, &shape, Device::Cpu) * output[0] as f64).floor().to_kind(Kind::Int64)
            }
            "mse" => normal(&mut generator, &shape).to_kind(Kind::Float).to_kind(kind),
            _ => uniform(&mut generator, &shape, Device::Cpu).to_kind(kind),
        }
    }

    /// The shape of the output of one sample.
    pub fn output(&self) -> Vec<i64> {
        self.network(Kind::Float).shapes(&self.input).unwrap().output().to_vec()
    }

    /// The outputs (channels) and groups of the layer of each parameter, where it has Kronecker factors.
    pub fn outputs_and_groups(&self) -> Vec<Option<(i64, i64)>> {
        self.layers.iter().flat_map(Spec::outputs_and_groups).collect()
    }

    fn normal(&self, shape: &[i64], step: u64) -> Tensor {
        let name: u64 = self.name.bytes().map(u64::from).sum();
        normal(&mut stream(name, Purpose::Batch, step), shape)
    }
}

/// Every loss with every reduction.
pub fn losses() -> Vec<Box<dyn Loss>> {
    let mut all: Vec<Box<dyn Loss>> = Vec::new();
    for reduction in [Reduction::Mean, Reduction::Sum] {
        all.push(Box::new(CrossEntropy::new(reduction)));
        all.push(Box::new(MeanSquaredError::new(reduction)));
        all.push(Box::new(BceWithLogits::new(reduction)));
    }
    all
}

/// A loss as a failure names it.
pub fn title(loss: &dyn Loss) -> String {
    format!("{}, {}", loss.name(), loss.reduction().as_str())
}
