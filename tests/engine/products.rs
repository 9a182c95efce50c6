//! Products with the GGN, the Hessian and the sampled Fisher against autograd in float64, net by net.
//!
//! The reference differentiates the forward pass by libtorch's autograd: Jv by the double-backward trick, the loss's
//! Hessian and the whole Hessian by differentiating a gradient, J^T by a backward pass.

use backpack_run::Error;
use backpack_run::backpack::BuiltIn::DiagGgnMc;
use backpack_run::backpack::layers::*;
use backpack_run::backpack::losses::{BceWithLogits, CrossEntropy, Loss, MeanSquaredError, Reduction};
use backpack_run::backpack::{Labels, Linearised, Network, Pass, fisher_mc_product};
use tch::{Device, Kind, Tensor};

const BOUND: f64 = 1e-9;
const SAMPLES: i64 = 3;

/// A layer for an input of this shape, at this place.
type Build = fn(&[i64], u32) -> backpack_run::Result<Box<dyn Layer>>;

fn linear(input: &[i64], out_features: i64) -> backpack_run::Result<Box<dyn Layer>> {
    Ok(Box::new(Linear::new(input, &LinearOptions { out_features, bias: true })?))
}

const LINEAR_3: Build = |input, _| linear(input, 3);
const LINEAR_5: Build = |input, _| linear(input, 5);
const FLATTEN: Build = |_, _| Ok(Box::new(Flatten::new()));
const RELU: Build = |_, _| Ok(Box::new(Activation::new(Relu {})));
const SIGMOID: Build = |_, _| Ok(Box::new(Activation::new(Sigmoid {})));
const TANH: Build = |_, _| Ok(Box::new(Activation::new(Tanh {})));
const GELU: Build = |_, _| Ok(crate::cases::spec::ActivationKind::Gelu.layer());
const DROPOUT: Build = |_, place| Ok(Box::new(Dropout::new(0.4, place)?));
const PAD: Build = |input, _| Ok(Box::new(ZeroPad2d::new(input, Padding { left: 1, right: 0, top: 2, bottom: 1 })?));
const NORM: Build = |input, _| Ok(Box::new(BatchNorm2d::new(input, &BatchNorm2dOptions::default())?));
const ADAPTIVE: Build = |input, _| Ok(Box::new(AdaptiveAvgPool2d::new(input, [2, 3])?));
const CONV: Build = |input, _| {
    let options =
        Conv2dOptions { out_channels: 4, kernel_size: [3, 2], stride: [2, 1], dilation: [1, 2], ..Default::default() };
    Ok(Box::new(Conv2d::new(input, &options)?))
};
const CONV_SAME: Build = |input, _| {
    let options = Conv2dOptions {
        out_channels: 4,
        kernel_size: [3, 3],
        stride: [2, 2],
        padding: PaddingChoice::Same,
        groups: 2,
        ..Default::default()
    };
    Ok(Box::new(Conv2d::new(input, &options)?))
};
const TRANSPOSED: Build = |input, _| {
    let options = ConvTranspose2dOptions {
        out_channels: 4,
        kernel_size: [3, 2],
        stride: [2, 1],
        padding: [1, 0],
        output_padding: [1, 0],
        groups: 2,
        ..Default::default()
    };
    Ok(Box::new(ConvTranspose2d::new(input, &options)?))
};
const MAX_POOL: Build = |input, _| {
    let options = MaxPool2dOptions {
        kernel_size: [3, 2],
        stride: Some([2, 2]),
        padding: PaddingChoice::Same,
        dilation: [1, 1],
        ceil_mode: false,
    };
    Ok(Box::new(MaxPool2d::new(input, &options)?))
};
const AVG_POOL: Build = |input, _| {
    let options = AvgPool2dOptions {
        kernel_size: [2, 3],
        stride: Some([2, 1]),
        padding: PaddingChoice::Symmetric([1, 1]),
        ceil_mode: false,
        ..Default::default()
    };
    Ok(Box::new(AvgPool2d::new(input, &options)?))
};

const LSTM: Build = |input, _| Ok(Box::new(Lstm::new(input, &LstmOptions { hidden_size: 4, bias: true })?));
const RNN: Build = |input, _| {
    let options = RnnOptions { hidden_size: 3, nonlinearity: Nonlinearity::Tanh, bias: true };
    Ok(Box::new(Rnn::new(input, &options)?))
};
const RELU_RNN: Build = |input, _| {
    let options = RnnOptions { hidden_size: 3, nonlinearity: Nonlinearity::Relu, bias: false };
    Ok(Box::new(Rnn::new(input, &options)?))
};

/// The cases: a name, the shape of one input, and the layers; each is taken with every loss.
const CASES: &[(&str, &[i64], &[Build])] = &[
    ("one linear layer", &[4], &[LINEAR_3]),
    ("sigmoid and tanh", &[4], &[LINEAR_5, SIGMOID, LINEAR_3, TANH, LINEAR_3]),
    ("linear with an extra dimension", &[2, 4], &[LINEAR_5, TANH, LINEAR_3, FLATTEN, LINEAR_3]),
    ("an activation last", &[4], &[LINEAR_5, GELU, LINEAR_3, SIGMOID]),
    ("conv, relu, max_pool", &[2, 8, 7], &[CONV, RELU, MAX_POOL, FLATTEN, LINEAR_3]),
    ("grouped conv with same padding, avg_pool", &[2, 8, 7], &[CONV_SAME, TANH, AVG_POOL, FLATTEN, LINEAR_3]),
    ("two convs", &[2, 8, 9], &[CONV, SIGMOID, CONV_SAME, TANH, FLATTEN, LINEAR_3]),
    ("zero_pad, conv_transpose, adaptive pool", &[2, 4, 3], &[PAD, TRANSPOSED, TANH, ADAPTIVE, FLATTEN, LINEAR_3]),
    ("conv_transpose behind sigmoid", &[2, 6, 5], &[CONV_SAME, SIGMOID, TRANSPOSED, GELU, FLATTEN, LINEAR_3]),
    ("batch_norm in evaluation mode", &[2, 8, 7], &[CONV, NORM, SIGMOID, NORM, FLATTEN, LINEAR_3]),
    ("lstm", &[4, 2], &[LSTM, FLATTEN, LINEAR_3]),
    ("lstm of one step behind a linear layer", &[1, 3], &[LINEAR_3, TANH, LSTM, FLATTEN, LINEAR_3]),
    ("two lstm and an rnn", &[3, 2], &[LSTM, LSTM, RNN, FLATTEN, LINEAR_3]),
    ("rnn with relu, without biases", &[5, 2], &[RNN, RELU_RNN, FLATTEN, LINEAR_3]),
    ("dropout in training", &[2, 8, 7], &[CONV, TANH, DROPOUT, FLATTEN, LINEAR_5, SIGMOID, DROPOUT, LINEAR_3]),
];

fn randn(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Double, Device::Cpu))
}

fn network(input: &[i64], layers: &[Build]) -> Network {
    let mut shape = input.to_vec();
    let mut built = Vec::new();
    for (place, build) in layers.iter().enumerate() {
        let layer = build(&shape, place as u32).unwrap();
        shape = layer.output_shape(&shape).unwrap();
        built.push(layer);
    }
    let mut network = Network::sequential(built);
    network.to(Kind::Double, Device::Cpu);
    for parameter in network.parameters() {
        parameter.value.shallow_clone().copy_(&(randn(&parameter.value.size()) * 0.7));
    }
    for (name, buffer) in network.buffers() {
        let draws = randn(&buffer.size());
        buffer.shallow_clone().copy_(&if name.ends_with("var") { draws.square() + 0.5 } else { draws });
    }
    network
}

fn losses() -> Vec<Box<dyn Loss>> {
    [Reduction::Mean, Reduction::Sum]
        .into_iter()
        .flat_map(|reduction| -> [Box<dyn Loss>; 3] {
            [
                Box::new(CrossEntropy::new(reduction)),
                Box::new(MeanSquaredError::new(reduction)),
                Box::new(BceWithLogits::new(reduction)),
            ]
        })
        .collect()
}

fn target(loss: &dyn Loss, lead: &[i64], outputs: i64) -> Tensor {
    match loss.name() {
        "cross_entropy" => Tensor::randint(outputs, lead, (Kind::Int64, Device::Cpu)),
        "mse" => randn(&[lead, &[outputs]].concat()),
        _ => Tensor::rand([lead, &[outputs]].concat().as_slice(), (Kind::Double, Device::Cpu)).round(),
    }
}

fn inner(a: &[Tensor], b: &[Tensor]) -> Tensor {
    a.iter().zip(b).map(|(a, b)| (a * b).sum(Kind::Double)).reduce(|sum, term| sum + term).unwrap()
}

/// What a tensor does not depend on has no gradient from autograd: zeros.
fn gradient(of: &Tensor, at: &[Tensor], again: bool) -> Vec<Tensor> {
    let found = Tensor::run_backward(&[of], &at.iter().collect::<Vec<_>>(), true, again);
    found.into_iter().zip(at).map(|(found, at)| if found.defined() { found } else { at.zeros_like() }).collect()
}

/// Autograd's view of a network at a batch: its parameters as leaves of the graph, and its output.
struct Autograd {
    parameters: Vec<Tensor>,
    output: Tensor,
}

impl Autograd {
    fn new(network: &Network, x: &Tensor, mode: Mode) -> Self {
        let parameters = network.parameters().into_iter().map(|p| p.value.set_requires_grad(true)).collect();
        let output = network.forward(x, mode).unwrap().output().shallow_clone();
        Autograd { parameters, output }
    }

    fn hessian(&self, loss: &dyn Loss, y: &Tensor, v: &[Tensor]) -> Vec<Tensor> {
        let gradients = gradient(&loss.value(&self.output, y).unwrap(), &self.parameters, true);
        gradient(&inner(&gradients, v), &self.parameters, false)
    }

    /// J v.
    fn forward(&self, v: &[Tensor]) -> Tensor {
        let u = self.output.zeros_like().detach().set_requires_grad(true);
        let gradients = gradient(&(&self.output * &u).sum(Kind::Double), &self.parameters, true);
        gradient(&inner(&gradients, v), &[u], false).remove(0).detach()
    }

    /// J^T u.
    fn backward(&self, u: &Tensor) -> Vec<Tensor> {
        gradient(&(&self.output * u).sum(Kind::Double), &self.parameters, false)
    }

    fn ggn(&self, loss: &dyn Loss, y: &Tensor, v: &[Tensor]) -> Vec<Tensor> {
        let f = self.output.detach().set_requires_grad(true);
        let slope = gradient(&loss.value(&f, y).unwrap(), &[f.shallow_clone()], true).remove(0);
        let bent = gradient(&(slope * self.forward(v)).sum(Kind::Double), &[f], false).remove(0);
        self.backward(&bent.detach())
    }

    /// With the loss's gradients at the labels, g [N, D]: (count / M) sum over draws of J^T g (g^T J v), where count is
    /// what a mean divides by: the matrix is that of the reduced loss, and g g^T has it twice.
    fn fisher(&self, loss: &dyn Loss, labels: &Tensor, v: &[Tensor]) -> Vec<Tensor> {
        let draws = labels.size()[0];
        let count = match (loss.reduction(), loss.name()) {
            (Reduction::Sum, _) => 1,
            (Reduction::Mean, "cross_entropy") => self.output.numel() as i64 / self.output.size()[1],
            (Reduction::Mean, _) => self.output.numel() as i64,
        } as f64;
        let tangent = self.forward(v);
        let mut sum = self.output.zeros_like().detach();
        for draw in 0..draws {
            let f = self.output.detach().set_requires_grad(true);
            let value = loss.value(&f, &labels.get(draw)).unwrap();
            let slope = gradient(&value, &[f], false).remove(0);
            let entries: Vec<i64> = (1..slope.dim() as i64).collect();
            let along = (&slope * &tangent).sum_dim_intlist(entries.as_slice(), true, Kind::Double);
            sum += slope * along * (count / draws as f64);
        }
        self.backward(&sum)
    }
}

fn assert_close(what: &str, ours: &[Tensor], theirs: &[Tensor]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (place, (one, other)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(one.size(), other.size(), "{what}, parameter {place}");
        let scale = f64::try_from(other.abs().max()).unwrap().max(1e-3);
        let error = f64::try_from((one - other).abs().max()).unwrap() / scale;
        assert!(error < BOUND, "{what}, parameter {place}: {error:e}");
    }
}

#[test]
fn products_are_autograds() {
    // The networks are tiny: more threads would only wait for each other.
    tch::set_num_threads(1);
    tch::manual_seed(1);
    for (name, input, layers) in CASES {
        let network = network(input, layers);
        let mode = if name.contains("training") { Mode::Training { seed: 7, step: 2 } } else { Mode::Evaluation };
        let x = randn(&[&[SAMPLES], *input].concat());
        let v: Vec<Tensor> = network.parameters().iter().map(|p| randn(&p.value.size())).collect();
        let autograd = Autograd::new(&network, &x, mode);
        for loss in losses() {
            let what = format!("{name}, {} ({})", loss.name(), loss.reduction().as_str());
            let (y, labels) = (target(loss.as_ref(), &[SAMPLES], 3), target(loss.as_ref(), &[2, SAMPLES], 3));
            let at = Linearised::new(&network, loss.as_ref(), &x, &y, mode).unwrap();
            let hessian = autograd.hessian(loss.as_ref(), &y, &v);
            assert_close(&format!("Hessian, {what}"), &at.hessian_product(&v).unwrap(), &hessian);
            let ggn = autograd.ggn(loss.as_ref(), &y, &v);
            assert_close(&format!("GGN, {what}"), &at.ggn_product(&v).unwrap(), &ggn);
            let fisher = autograd.fisher(loss.as_ref(), &labels, &v);
            assert_close(&format!("Fisher, {what}"), &at.fisher_mc_product(&v, &labels).unwrap(), &fisher);
        }
    }
}

/// The labels are those that the pass draws, so that a Fisher product and diag_ggn_mc belong to the same matrix: its
/// entry at a unit vector is the diagonal's.
#[test]
fn drawn_labels_are_those_of_the_pass() {
    tch::manual_seed(2);
    let network = network(&[4], &[LINEAR_5, TANH, LINEAR_3]);
    let loss = CrossEntropy::default();
    let (x, y) = (randn(&[6, 4]), Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2]));
    let pass = Pass::new(&network, &loss).take([DiagGgnMc]).unwrap().mc_samples(3).seed(5).run(&x, &y).unwrap();
    let labels = Labels::Drawn { seed: 5, step: 0 };
    let unit: Vec<Tensor> = network.parameters().iter().map(|p| p.value.zeros_like()).collect();
    let _ = unit[2].get(1).get(3).fill_(1.0);
    let (product, used) = fisher_mc_product(&network, &loss, &x, &y, Mode::Evaluation, &unit, 3, labels).unwrap();
    assert_eq!(Some(&used), pass.labels.as_ref());
    let entry = |tensor: &Tensor| tensor.double_value(&[1, 3]);
    let diagonal = entry(pass.get(DiagGgnMc, 2).unwrap());
    assert!(diagonal > 1e-6 && (entry(&product[2]) - diagonal).abs() < 1e-14);
}

/// Positions of an output are entries of one vector: the product and diag_ggn_mc belong to the same matrix, and it is that of
/// the gradients of the samples' whole losses.
#[test]
fn sampled_products_add_positions_before_they_square() {
    tch::manual_seed(6);
    let back: Build = |_, _| Ok(Box::new(Permute::new(&[0, 2, 1])?));
    let network = network(&[5, 4], &[LINEAR_5, TANH, LINEAR_3, back]);
    let x = randn(&[SAMPLES, 5, 4]);
    let v: Vec<Tensor> = network.parameters().iter().map(|p| randn(&p.value.size())).collect();
    for loss in losses() {
        let what = format!("{} ({})", loss.name(), loss.reduction().as_str());
        let targets = |lead: &[i64]| match loss.name() {
            "cross_entropy" => Tensor::randint(3, [lead, &[5]].concat().as_slice(), (Kind::Int64, Device::Cpu)),
            "mse" => randn(&[lead, &[3, 5]].concat()),
            _ => Tensor::rand([lead, &[3, 5]].concat().as_slice(), (Kind::Double, Device::Cpu)).round(),
        };
        let (y, labels) = (targets(&[SAMPLES]), targets(&[2, SAMPLES]));
        let at = Linearised::new(&network, loss.as_ref(), &x, &y, Mode::Evaluation).unwrap();
        let product = at.fisher_mc_product(&v, &labels).unwrap();
        let fisher = Autograd::new(&network, &x, Mode::Evaluation).fisher(loss.as_ref(), &labels, &v);
        assert_close(&format!("Fisher with positions, {what}"), &product, &fisher);
        let pass = Pass::new(&network, loss.as_ref()).take([DiagGgnMc]).unwrap().labels(&labels).run(&x, &y).unwrap();
        let unit: Vec<Tensor> = network.parameters().iter().map(|p| p.value.zeros_like()).collect();
        let _ = unit[0].get(1).get(3).fill_(1.0);
        let entry = at.fisher_mc_product(&unit, &labels).unwrap()[0].double_value(&[1, 3]);
        let diagonal = pass.get(DiagGgnMc, 0).unwrap().double_value(&[1, 3]);
        assert!(diagonal > 1e-6 && (entry - diagonal).abs() < 1e-12 * diagonal, "{what}: {entry} {diagonal}");
    }
}

/// A layer that says nothing of its second derivative.
struct Square;

impl Layer for Square {
    fn kind(&self) -> &'static str {
        "square"
    }
    fn output_shape(&self, input: &[i64]) -> backpack_run::Result<Vec<i64>> {
        Ok(input.to_vec())
    }
    fn forward(&self, input: &Tensor, _mode: Mode) -> backpack_run::Result<Saved> {
        Ok(Saved::new(input, input.square()))
    }
    fn vjp(&self, saved: &Saved, v: &Tensor) -> backpack_run::Result<Tensor> {
        Ok(v * &saved.input * 2.0)
    }
    fn jvp(&self, saved: &Saved, v: &Tensor) -> backpack_run::Result<Tensor> {
        self.vjp(saved, v)
    }
}

#[test]
fn refusals_name_the_layer() {
    let square: Build = |_, _| Ok(Box::new(Square));
    let own = network(&[4], &[LINEAR_3, square]);
    let (x, y, loss) = (randn(&[2, 4]), randn(&[2, 3]), MeanSquaredError::default());
    let v: Vec<Tensor> = own.parameters().iter().map(|p| randn(&p.value.size())).collect();
    let at = Linearised::new(&own, &loss, &x, &y, Mode::Evaluation).unwrap();
    let message = at.hessian_product(&v).unwrap_err().to_string();
    assert!(message.contains("layer 1 (square)"), "{message}");
    let ggn = Autograd::new(&own, &x, Mode::Evaluation).ggn(&loss, &y, &v);
    assert_close("GGN through a layer of general curvature", &at.ggn_product(&v).unwrap(), &ggn);

    let message = at.ggn_product(&v[..1]).unwrap_err().to_string();
    assert!(message.contains("2 parameters"), "{message}");
    let message = at.ggn_product(&[v[0].shallow_clone(), randn(&[4])]).unwrap_err().to_string();
    assert!(message.contains("`0.bias`") && message.contains("[3]"), "{message}");

    let normalised = network(&[2, 8, 7], &[CONV, NORM, FLATTEN, LINEAR_3]);
    let training = Mode::Training { seed: 0, step: 0 };
    let error = Linearised::new(&normalised, &loss, &randn(&[2, 2, 8, 7]), &y, training).err();
    assert!(matches!(error, Some(Error::Unsupported(text)) if text.contains("layer 1 (batch_norm2d)")));
}
