//! The Kronecker rules with every reading, with groups, with parameters that have no factors, and in EKFAC's basis, each
//! against its formula, written out densely.

use crate::cases::spec::ActivationKind;
use crate::optimizers::{OPTIONS, assert_close, hyperparameters, values, with};
use backpack_run::backpack::layers::{
    Conv2d, Conv2dOptions, ConvTranspose2d, ConvTranspose2dOptions, Flatten, Gain, Linear, LinearOptions,
};
use backpack_run::backpack::losses::{CrossEntropy, Reduction};
use backpack_run::backpack::{Network, Pass, Quantities, Request};
use backpack_run::optimizers::{Averaging, Hyperparameters, OptionValue, StepClock, build};
use tch::{Device, Kind, Tensor};

/// A network, the shape of its input, and which of its layers is a transposed convolution.
struct Example {
    network: Network,
    input: &'static [i64],
    transposed: Option<usize>,
}

/// Rows through a linear layer, and another one behind.
fn rows() -> Example {
    let linear = |input: &[i64], out_features| {
        Box::new(Linear::new(input, &LinearOptions { out_features, bias: true }).unwrap())
    };
    let network = Network::sequential(vec![
        linear(&[6, 3], 2),
        ActivationKind::Tanh.layer(),
        Box::new(Flatten::new()),
        linear(&[12], 3),
    ]);
    Example { network: filled(network), input: &[6, 3], transposed: None }
}

/// An image through a convolution without groups, a transposed one, and a linear layer.
fn image() -> Example {
    Example { network: image_network(), input: &[2, 4, 6], transposed: Some(1) }
}

fn image_network() -> Network {
    let conv = Conv2dOptions { out_channels: 3, kernel_size: [3, 2], stride: [1, 2], ..Conv2dOptions::default() };
    let back = ConvTranspose2dOptions { out_channels: 2, kernel_size: [2, 2], ..ConvTranspose2dOptions::default() };
    filled(Network::sequential(vec![
        Box::new(Conv2d::new(&[2, 4, 6], &conv).unwrap()),
        ActivationKind::Tanh.layer(),
        Box::new(ConvTranspose2d::new(&[3, 2, 3], &back).unwrap()),
        ActivationKind::Sigmoid.layer(),
        Box::new(Flatten::new()),
        Box::new(Linear::new(&[24], &LinearOptions { out_features: 3, bias: true }).unwrap()),
    ]))
}

/// In double precision, with values that are no initial ones.
fn filled(mut network: Network) -> Network {
    network.to(Kind::Double, Device::Cpu);
    tch::manual_seed(4);
    for parameter in network.parameters() {
        parameter.value.shallow_clone().copy_(&(Tensor::randn(parameter.value.size().as_slice(), OPTIONS) * 0.5));
    }
    network
}

fn text(value: &str) -> OptionValue {
    OptionValue::Text(value.to_owned())
}

/// The pass of a step.
fn pass(network: &Network, (samples, input): (i64, &[i64]), request: &Request, step: i64) -> Quantities {
    tch::manual_seed(200 + step);
    let shape = [&[samples], input].concat();
    let (x, y) = (Tensor::randn(shape.as_slice(), OPTIONS), Tensor::randint(3, [samples], (Kind::Int64, Device::Cpu)));
    let loss = CrossEntropy::new(Reduction::Mean);
    Pass::new(network, &loss).request(request).step(step as u64).run(&x, &y).unwrap()
}

/// The gradient, with l2 times the weights.
fn gradient(quantities: &Quantities, parameters: &[Tensor], place: usize, l2: f64) -> Tensor {
    let l2 = if place.is_multiple_of(2) { l2 } else { 0.0 };
    quantities.get("grad", place).unwrap() + &parameters[place] * l2
}

/// A mean over the steps so far.
#[derive(Default)]
struct Mean(Option<(Tensor, i64)>);

impl Mean {
    fn with(&mut self, new: Tensor) -> Tensor {
        let (sum, count) = match self.0.take() {
            Some((sum, count)) => (sum + new, count + 1),
            None => (new, 1),
        };
        let mean = &sum / count as f64;
        self.0 = Some((sum, count));
        mean
    }
}

/// The rule as the paper states it: the gradient as one long vector, and the inverse of the whole Kronecker product. In the
/// readings beyond BackPACK's the transposed convolution has no factors: it has the diagonal of the same source.
fn steps(example: Example, name: &str, l2: f64, reading: Option<&str>) {
    let Example { mut network, input, transposed } = example;
    let options: Vec<_> = reading.map(|reading| ("kfac_approx", text(reading))).into_iter().collect();
    let settings = Hyperparameters { l2, ..with(name, options) };
    let quantity = reading.map_or(name.to_owned(), |reading| format!("{name}_{reading}"));
    let diagonal = if name == "kfac" { "diag_ggn_mc" } else { "diag_ggn" };
    let request = Request::new(["grad", quantity.as_str(), diagonal]).unwrap();
    let mut optimizer = build(&settings, &network).unwrap();
    let mut means: Vec<Mean> = network.parameters().iter().map(|_| Mean::default()).collect();
    for step in 0..3 {
        let quantities = pass(&network, (5, input), &request, step);
        let mut expected = values(&network);
        for layer in 0..network.parameter_count() / 2 {
            let (weight, bias) = (2 * layer, 2 * layer + 1);
            let full = [weight, bias].map(|place| gradient(&quantities, &expected, place, l2));
            let is_transposed = transposed == Some(layer);
            let moved = if reading.is_some() && is_transposed {
                let [of_weight, of_bias] = [weight, bias].map(|place| {
                    let shift = if place == weight { 0.03 + l2 } else { 0.03 };
                    &full[place - weight] / (means[place].with(quantities.get(diagonal, place).unwrap().copy()) + shift)
                });
                [of_weight, of_bias]
            } else {
                let a = means[weight].with(quantities.factor(&quantity, weight, "A").unwrap().copy());
                let b = means[bias].with(quantities.factor(&quantity, weight, "B").unwrap().copy());
                let mean = |matrix: &Tensor| f64::try_from(matrix.trace()).unwrap() / matrix.size()[0] as f64;
                let (pi, root) = ((mean(&a) / mean(&b)).sqrt(), (0.03 + l2).sqrt());
                let damped = |matrix: &Tensor, shift: f64| matrix + Tensor::eye(matrix.size()[0], OPTIONS) * shift;
                let whole = damped(&b, root / pi).kron(&damped(&a, pi * root));
                // A transposed convolution's weight has its inputs first.
                let turn =
                    |weight: &Tensor| if is_transposed { weight.transpose(0, 1) } else { weight.shallow_clone() };
                let rows = turn(&full[0]);
                let moved = whole.inverse().mv(&rows.flatten(0, -1)).view(rows.size().as_slice());
                [turn(&moved), damped(&b, 0.03).inverse().mv(&full[1])]
            };
            for (place, moved) in [weight, bias].into_iter().zip(moved) {
                expected[place] = &expected[place] - moved * 0.1;
            }
        }
        let mut own = pass(&network, (5, input), optimizer.request(), step);
        optimizer.step(&mut network, &mut own, &mut StepClock::off()).unwrap();
        for (place, (ours, theirs)) in values(&network).iter().zip(&expected).enumerate() {
            assert_close(ours, theirs, &format!("{quantity}, l2 {l2}, step {step}, parameter {place}"));
        }
    }
}

#[test]
fn kronecker_steps_go_through_convolutions_without_groups() {
    for name in ["kfac", "kflr", "kfra"] {
        for l2 in [0.0, 0.2] {
            steps(image(), name, l2, None);
        }
    }
}

#[test]
fn every_reading_has_its_step_and_what_it_leaves_out_a_diagonal_one() {
    for (name, reading, l2) in
        [("kfac", "expand", 0.0), ("kfac", "reduce", 0.2), ("kflr", "expand", 0.2), ("kflr", "reduce", 0.0)]
    {
        steps(image(), name, l2, Some(reading));
        steps(rows(), name, 0.2 - l2, Some(reading));
    }
}

#[test]
fn kronecker_steps_go_through_grouped_convolutions() {
    let conv = Conv2dOptions { out_channels: 6, kernel_size: [3, 2], groups: 2, ..Conv2dOptions::default() };
    let conv = Conv2d::new(&[4, 5, 5], &conv).unwrap();
    let mut network = Network::sequential(vec![Box::new(conv), Box::new(Flatten::new())]);
    network.to(Kind::Double, Device::Cpu);
    for (quantity, reading) in [("kfac", "backpack"), ("kfac_expand", "expand"), ("kfac_reduce", "reduce")] {
        let _ = network.parameters()[0].value.shallow_clone().zero_();
        let mut optimizer = build(&with("kfac", [("kfac_approx", text(reading))]), &network).unwrap();
        tch::manual_seed(3);
        let (x, y) = (Tensor::randn([2, 4, 5, 5], OPTIONS), Tensor::from_slice(&[1i64, 5]));
        let pass = |network: &Network, request: &Request| {
            Pass::new(network, &CrossEntropy::new(Reduction::Mean)).request(request).run(&x, &y).unwrap()
        };
        let expected = pass(&network, &Request::new(["grad", quantity]).unwrap());
        let gradient = expected.get("grad", 0).unwrap();
        let [a, b] = ["A", "B"].map(|factor| expected.factor(quantity, 0, factor).unwrap());
        let mut own = pass(&network, optimizer.request());
        optimizer.step(&mut network, &mut own, &mut StepClock::off()).unwrap();
        let mean = |factor: &Tensor| f64::try_from(factor.diagonal(0, 1, 2).mean(Kind::Double)).unwrap();
        let (pi, root) = ((mean(a) / mean(b)).sqrt(), 0.03f64.sqrt());
        for group in 0..2 {
            let inverse =
                |matrix: Tensor, shift: f64| (&matrix + Tensor::eye(matrix.size()[0], OPTIONS) * shift).inverse();
            let rows = gradient.narrow(0, 3 * group, 3).flatten(1, -1);
            let step = inverse(b.get(group), root / pi).mm(&rows).mm(&inverse(a.get(group), pi * root));
            let ours = network.parameters()[0].value.narrow(0, 3 * group, 3).flatten(1, -1);
            assert_close(&ours, &(step * -0.1), quantity);
        }
    }
}

/// A basis of eigenvectors, and what is known of the curvature along them.
#[derive(Default)]
struct InBasis {
    basis: Option<Tensor>,
    mean: Mean,
}

/// EKFAC's rule on long vectors: the basis is the Kronecker product of the eigenvectors, renewed every other step, and the
/// curvature along it the mean square of the gradients of samples and labels since then.
fn ekfac_steps(l2: f64) {
    // More than the linear layer is wide: of what has equal eigenvalues, as nothing has, any basis would do.
    const SAMPLES: i64 = 40;
    let Example { mut network, input, .. } = image();
    let options = [("inverse_every", OptionValue::Count(2))];
    let settings = Hyperparameters { l2, mc_samples: 2, ..with("ekfac", options) };
    let mut request = Request::new(["grad", "kfac_expand", "sqrt_ggn_mc", "diag_ggn_mc"]).unwrap();
    request.mc_samples = 2;
    let mut optimizer = build(&settings, &network).unwrap();
    let mut means: Vec<Mean> = (0..6).map(|_| Mean::default()).collect();
    let mut along: Vec<InBasis> = (0..6).map(|_| InBasis::default()).collect();
    for step in 0..5 {
        let quantities = pass(&network, (SAMPLES, input), &request, step);
        let mut expected = values(&network);
        for place in 0..6 {
            let shift = if place % 2 == 0 { 0.03 + l2 } else { 0.03 };
            let full = gradient(&quantities, &expected, place, l2);
            let moved = if place / 2 == 1 {
                full / (means[place].with(quantities.get("diag_ggn_mc", place).unwrap().copy()) + shift)
            } else {
                let InBasis { basis, mean } = &mut along[place];
                let weight = place - place % 2;
                if place == weight {
                    let factor = |name| quantities.factor("kfac_expand", weight, name).unwrap().copy();
                    let (a, b) = (means[place].with(factor("A")), means[place + 1].with(factor("B")));
                    if step % 2 == 0 {
                        let [a, b] = [a, b].map(|factor| factor.linalg_eigh("L").1);
                        (*basis, *mean) = (Some(b.kron(&a)), Mean::default());
                        along[place + 1] = InBasis { basis: Some(b), mean: Mean::default() };
                    }
                }
                let InBasis { basis, mean } = &mut along[place];
                let basis = basis.as_ref().unwrap();
                let each = quantities.get("sqrt_ggn_mc", place).unwrap().flatten(2, -1).flatten(0, 1).mm(basis);
                let values = mean.with(each.square().sum_dim_intlist(0, false, Kind::Double));
                let turned = basis.tr().mv(&full.flatten(0, -1)) / (values + shift);
                basis.mv(&turned).view(full.size().as_slice())
            };
            expected[place] = &expected[place] - moved * 0.1;
        }
        let mut own = pass(&network, (SAMPLES, input), optimizer.request(), step);
        optimizer.step(&mut network, &mut own, &mut StepClock::off()).unwrap();
        for (place, (ours, theirs)) in values(&network).iter().zip(&expected).enumerate() {
            assert_close(ours, theirs, &format!("ekfac, l2 {l2}, step {step}, parameter {place}"));
        }
    }
}

#[test]
fn ekfac_steps_in_the_basis_of_its_factors() {
    for l2 in [0.0, 0.2] {
        ekfac_steps(l2);
    }
}

#[test]
fn parameters_without_factors_have_a_diagonal_step_or_are_refused() {
    let network = || {
        let linear = |inputs: i64| LinearOptions { out_features: 3, bias: inputs > 3 };
        let mut network = Network::sequential(vec![
            Box::new(Linear::new(&[4], &linear(4)).unwrap()),
            Box::new(Gain::new(&[3], None, 0.7).unwrap()),
            Box::new(Linear::new(&[3], &linear(3)).unwrap()),
        ]);
        network.to(Kind::Double, Device::Cpu);
        network
    };
    for (name, diagonal) in
        [("kfac", "diag_ggn_mc"), ("kflr", "diag_ggn"), ("ekfac", "diag_ggn_mc"), ("foof", "diag_ggn_mc")]
    {
        let mut network = network();
        tch::manual_seed(5);
        for parameter in network.parameters().iter().filter(|parameter| parameter.node != "1") {
            parameter.value.shallow_clone().copy_(&Tensor::randn(parameter.value.size().as_slice(), OPTIONS));
        }
        let (x, y) = (Tensor::randn([6, 4], OPTIONS), Tensor::randint(3, [6], (Kind::Int64, Device::Cpu)));
        let pass = |network: &Network, request: &Request| {
            Pass::new(network, &CrossEntropy::new(Reduction::Mean)).request(request).run(&x, &y).unwrap()
        };
        let settings = Hyperparameters { l2: 0.2, averaging: Averaging::None, ..hyperparameters(name) };
        let mut optimizer = build(&settings, &network).unwrap();
        let before = values(&network);
        let expected = pass(&network, &Request::new(["grad", diagonal]).unwrap());
        let mut own = pass(&network, optimizer.request());
        // The diagonal is not computed where it is of no use.
        let places: Vec<usize> =
            own.values().iter().filter(|one| one.quantity == diagonal).map(|one| one.parameter).collect();
        assert_eq!(places, [2], "{name}");
        optimizer.step(&mut network, &mut own, &mut StepClock::off()).unwrap();
        let full = gradient(&expected, &before, 2, 0.2);
        let moved = full / (expected.get(diagonal, 2).unwrap() + (0.03 + 0.2)) * 0.1;
        assert_close(network.parameters()[2].value, &(&before[2] - moved), name);
        let refused = build(&with(name, [("others", text("refuse"))]), &network).err().unwrap().to_string();
        for part in ["layer 1 (gain)", name, "others = \"diagonal\"", diagonal] {
            assert!(refused.contains(part), "{refused} does not say {part}");
        }
    }
    let alone = Network::sequential(vec![Box::new(Gain::new(&[3], None, 0.7).unwrap())]);
    let refused = build(&hyperparameters("kfac"), &alone).err().unwrap().to_string();
    assert!(refused.contains("no parameter has Kronecker factors"), "{refused}");
}

/// FOOF's rule with explicit inverses, renewed every other step. Of the readings beyond BackPACK's the transposed convolution
/// has no input factor: it has the sampled diagonal.
fn foof_steps(reading: &str, l2: f64, momentum: f64) {
    let mut network = image_network();
    let options = [
        ("kfac_approx", text(reading)),
        ("inverse_every", OptionValue::Count(2)),
        ("momentum", OptionValue::Number(momentum)),
    ];
    let settings = Hyperparameters { l2, ..with("foof", options) };
    let quantity = if reading == "backpack" { "kfac".to_owned() } else { format!("kfac_{reading}") };
    let request = Request::new(["grad", quantity.as_str(), "diag_ggn_mc"]).unwrap();
    let mut optimizer = build(&settings, &network).unwrap();
    let mut means: Vec<Mean> = (0..6).map(|_| Mean::default()).collect();
    let mut inverses: Vec<Option<Tensor>> = vec![None, None, None];
    let mut velocities: Vec<Tensor> = Vec::new();
    for step in 0..4 {
        let quantities = pass(&network, (5, &[2, 4, 6]), &request, step);
        let mut expected = values(&network);
        for (layer, inverse) in inverses.iter_mut().enumerate() {
            for place in [2 * layer, 2 * layer + 1] {
                let full = gradient(&quantities, &expected, place, l2);
                let moved = if reading != "backpack" && layer == 1 {
                    let shift = if place % 2 == 0 { 0.03 + l2 } else { 0.03 };
                    full / (means[place].with(quantities.get("diag_ggn_mc", place).unwrap().copy()) + shift)
                } else if place % 2 == 1 {
                    full
                } else {
                    let a = means[place].with(quantities.factor(&quantity, place, "A").unwrap().copy());
                    if step % 2 == 0 {
                        *inverse = Some((&a + Tensor::eye(a.size()[0], OPTIONS) * 0.03).inverse());
                    }
                    // A transposed convolution's weight has its inputs first.
                    let turn =
                        |weight: &Tensor| if layer == 1 { weight.transpose(0, 1) } else { weight.shallow_clone() };
                    let rows = turn(&full);
                    turn(&rows.flatten(1, -1).mm(inverse.as_ref().unwrap()).view(rows.size().as_slice()))
                };
                if step == 0 {
                    velocities.push(moved);
                } else {
                    velocities[place] = &velocities[place] * momentum + moved;
                }
                expected[place] = &expected[place] - &velocities[place] * 0.1;
            }
        }
        let mut own = pass(&network, (5, &[2, 4, 6]), optimizer.request(), step);
        optimizer.step(&mut network, &mut own, &mut StepClock::off()).unwrap();
        for (place, (ours, theirs)) in values(&network).iter().zip(&expected).enumerate() {
            assert_close(ours, theirs, &format!("foof {reading}, l2 {l2}, step {step}, parameter {place}"));
        }
    }
}

#[test]
fn foof_steps_by_the_input_factor_alone() {
    for (reading, l2, momentum) in
        [("expand", 0.0, 0.0), ("expand", 0.2, 0.5), ("backpack", 0.2, 0.0), ("reduce", 0.0, 0.5)]
    {
        foof_steps(reading, l2, momentum);
    }
}
