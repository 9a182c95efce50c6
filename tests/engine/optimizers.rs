//! The optimizers' steps against their formulas, written out densely in double precision.

use crate::cases::Case;
use crate::cases::spec::{ActivationKind, Spec, linear};
use backpack_run::backpack::layers::{Layer, Linear};
use backpack_run::backpack::losses::{CrossEntropy, Reduction};
use backpack_run::backpack::{Network, Pass, Quantities, Request};
use backpack_run::optimizers::{
    Averaging, Hyperparameters, Optimizer, OptimizerName, OptionValue, Options, StepClock, build,
};
use tch::{Device, Kind, Tensor};

pub const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);

pub fn hyperparameters(name: &str) -> Hyperparameters {
    Hyperparameters {
        options: Default::default(),
        name: name.parse().unwrap(),
        learning_rate: 0.1,
        damping: 0.03,
        averaging: Averaging::Cumulative,
        kfra_aliasing: false,
        l2: 0.0,
        mc_samples: 1,
        chunk_bytes: 1 << 30,
    }
}

/// The same with these options.
pub fn with<'a>(name: &str, options: impl IntoIterator<Item = (&'a str, OptionValue)>) -> Hyperparameters {
    let hyperparameters = hyperparameters(name);
    Hyperparameters { options: Options::new(hyperparameters.name, options).unwrap(), ..hyperparameters }
}

/// A linear layer of 8 inputs (wider than the batch of 5), a sigmoid and a linear layer.
fn network() -> Network {
    tch::manual_seed(1);
    let linear = |inputs: i64, outputs: i64| -> Box<dyn Layer> {
        Box::new(Linear::from_tensors(
            Tensor::randn([outputs, inputs], OPTIONS),
            Some(Tensor::randn([outputs], OPTIONS)),
        ))
    };
    Network::sequential(vec![linear(8, 7), ActivationKind::Sigmoid.layer(), linear(7, 3)])
}

fn batch(step: i64) -> (Tensor, Tensor) {
    tch::manual_seed(100 + step);
    (Tensor::randn([5, 8], OPTIONS), Tensor::randint(3, [5], (Kind::Int64, Device::Cpu)))
}

fn pass(network: &Network, request: &Request, step: i64) -> Quantities {
    let (x, y) = batch(step);
    let loss = CrossEntropy::new(Reduction::Mean);
    Pass::new(network, &loss).request(request).step(step as u64).run(&x, &y).unwrap()
}

pub fn values(network: &Network) -> Vec<Tensor> {
    network.parameters().iter().map(|parameter| parameter.value.copy()).collect()
}

pub fn assert_close(ours: &Tensor, expected: &Tensor, what: &str) {
    let error = f64::try_from((ours - expected).abs().max()).unwrap();
    let size = f64::try_from(expected.abs().max()).unwrap();
    assert!(error <= 1e-10 * size, "{what}: off by {error} of {size}");
}

/// Runs three steps of an optimizer and of `expected` (which changes the given parameters by the pass's quantities).
fn compare(hyperparameters: &Hyperparameters, mut expected: impl FnMut(&mut [Tensor], &Quantities, i64)) {
    let mut network = network();
    let mut optimizer = build(hyperparameters, &network).unwrap();
    let mut reference = values(&network);
    for step in 0..3 {
        let mut quantities = pass(&network, optimizer.request(), step);
        expected(&mut reference, &pass(&network, optimizer.request(), step), step);
        optimizer.step(&mut network, &mut quantities, &mut StepClock::off()).unwrap();
        for (place, (ours, theirs)) in values(&network).iter().zip(&reference).enumerate() {
            assert_close(ours, theirs, &format!("{} step {step} parameter {place}", hyperparameters.name));
        }
    }
}

fn gradient(quantities: &Quantities, parameters: &[Tensor], place: usize, l2: f64) -> Tensor {
    let l2 = if place.is_multiple_of(2) { l2 } else { 0.0 };
    quantities.get("grad", place).unwrap() + &parameters[place] * l2
}

/// A and B of a linear layer; the optimizers take A by its rows.
fn factors(quantities: &Quantities, quantity: &str, layer: usize) -> (Tensor, Tensor) {
    let factor = |name| quantities.factor(quantity, 2 * layer, name).unwrap();
    let x = factor("X");
    (x.tr().mm(x) / quantities.whole.samples as f64, factor("B").copy())
}

#[test]
fn sgd_follows_the_regularised_gradient() {
    let settings = Hyperparameters { l2: 0.2, ..hyperparameters("sgd") };
    compare(&settings, |parameters, quantities, _| {
        let steps: Vec<Tensor> = (0..4).map(|place| gradient(quantities, parameters, place, 0.2) * 0.1).collect();
        parameters.iter_mut().zip(steps).for_each(|(parameter, step)| *parameter = &*parameter - step);
    });
}

#[test]
fn momentum_is_pytorchs() {
    let settings = Hyperparameters { l2: 0.2, ..hyperparameters("momentum") };
    let mut velocity: Vec<Tensor> = Vec::new();
    compare(&settings, |parameters, quantities, step| {
        for place in 0..4 {
            let gradient = gradient(quantities, parameters, place, 0.2);
            if step == 0 {
                velocity.push(gradient);
            } else {
                velocity[place] = &velocity[place] * 0.9 + gradient;
            }
            parameters[place] = &parameters[place] - &velocity[place] * 0.1;
        }
    });
}

#[test]
fn adam_is_pytorchs() {
    let settings = Hyperparameters { l2: 0.2, ..hyperparameters("adam") };
    let mut moments: Vec<(Tensor, Tensor)> = Vec::new();
    compare(&settings, |parameters, quantities, step| {
        let corrections = [0.9f64, 0.999].map(|beta| 1.0 - beta.powi(step as i32 + 1));
        for place in 0..4 {
            let gradient = gradient(quantities, parameters, place, 0.2);
            if step == 0 {
                moments.push((gradient.zeros_like(), gradient.zeros_like()));
            }
            let (first, second) = &moments[place];
            let new = (first * 0.9 + &gradient * 0.1, second * 0.999 + gradient.square() * 0.001);
            let denominator = (&new.1 / corrections[1]).sqrt() + 1e-8;
            parameters[place] = &parameters[place] - &new.0 / corrections[0] / denominator * 0.1;
            moments[place] = new;
        }
    });
}

#[test]
fn the_diagonal_rule_divides_by_the_mean_diagonal() {
    let settings = Hyperparameters { l2: 0.2, ..hyperparameters("diag_ggn_mc") };
    let mut sums: Vec<Tensor> = Vec::new();
    compare(&settings, |parameters, quantities, step| {
        for place in 0..4 {
            let diagonal = quantities.get("diag_ggn_mc", place).unwrap();
            if step == 0 {
                sums.push(diagonal.copy())
            } else {
                sums[place] = &sums[place] + diagonal
            }
            let l2 = if place % 2 == 0 { 0.2 } else { 0.0 };
            let damped = &sums[place] / (step + 1) as f64 + 0.03 + l2;
            parameters[place] = &parameters[place] - gradient(quantities, parameters, place, 0.2) / damped * 0.1;
        }
    });
}

/// The Kronecker rule with explicit inverses of the damped factors. l2 = 0 goes through the gradient's factors where
/// the layer is wider than the batch, l2 > 0 through the gradient: both have to land here.
fn kronecker(name: &str, l2: f64, averaging: Averaging, aliasing: bool) {
    let settings = Hyperparameters { l2, averaging, kfra_aliasing: aliasing, ..hyperparameters(name) };
    let quantity = name;
    let mut state: Vec<(Tensor, Tensor)> = Vec::new();
    compare(&settings, |parameters, quantities, step| {
        for layer in 0..2 {
            let (a, b) = factors(quantities, quantity, layer);
            if step == 0 {
                state.push((a, b));
            } else {
                let weight = match averaging {
                    Averaging::None => 1.0,
                    Averaging::Cumulative => 1.0 / (step + 1) as f64,
                    Averaging::Ema(old) => 1.0 - old,
                };
                let twice = if aliasing { 1.0 - (1.0 - weight) * (1.0 - weight) } else { weight };
                let (old_a, old_b) = &state[layer];
                state[layer] = (old_a * (1.0 - weight) + a * weight, old_b * (1.0 - twice) + b * twice);
            }
            let (a, b) = &state[layer];
            let mean = |matrix: &Tensor| f64::try_from(matrix.trace()).unwrap() / matrix.size()[0] as f64;
            let pi = (mean(a) / mean(b)).sqrt();
            let root = (0.03 + l2).sqrt();
            let inverse =
                |matrix: &Tensor, shift: f64| (matrix + Tensor::eye(matrix.size()[0], OPTIONS) * shift).inverse();
            let weight = gradient(quantities, parameters, 2 * layer, l2);
            let step = inverse(b, root / pi).mm(&weight).mm(&inverse(a, pi * root));
            parameters[2 * layer] = &parameters[2 * layer] - step * 0.1;
            let bias = inverse(b, 0.03).mv(&gradient(quantities, parameters, 2 * layer + 1, l2));
            parameters[2 * layer + 1] = &parameters[2 * layer + 1] - bias * 0.1;
        }
    });
}

#[test]
fn the_kronecker_rule_has_both_damped_inverses() {
    for name in ["kfac", "kflr", "kfra"] {
        for l2 in [0.0, 0.2] {
            for averaging in [Averaging::None, Averaging::Cumulative, Averaging::Ema(0.8)] {
                kronecker(name, l2, averaging, false);
            }
        }
    }
}

#[test]
fn kfras_aliasing_averages_the_output_factor_twice() {
    kronecker("kfra", 0.0, Averaging::Cumulative, true);
}

#[test]
fn a_saved_state_continues_bit_by_bit() {
    let plain = OptimizerName::all().map(|name| hyperparameters(name.as_str()));
    let adapting = ["diag_ggn", "diag_ggn_mc", "ekfac", "foof", "kfac", "kflr", "kfra"].into_iter().map(|name| {
        let mut options = vec![
            ("momentum", OptionValue::Number(0.5)),
            ("damping_scheme", OptionValue::Text("levenberg_marquardt".to_owned())),
        ];
        if !name.starts_with("diag") {
            options.push(("inverse_every", OptionValue::Count(2)));
        }
        with(name, options)
    });
    for settings in plain {
        assert_continues(network, &settings, false);
    }
    for settings in adapting {
        assert_continues(network, &settings, true);
    }
}

/// Parameters without Kronecker factors have a running diagonal of their own.
#[test]
fn the_state_of_parameters_without_factors_continues_too() {
    let gains = || {
        let layers = vec![linear(7).into(), Spec::Gained(None), ActivationKind::Sigmoid.into(), linear(3).into()];
        Case::new("gains", 5, &[8], layers).network(Kind::Double)
    };
    for name in ["ekfac", "foof", "kfac", "kflr"] {
        for averaging in [Averaging::Cumulative, Averaging::Ema(0.9)] {
            assert_continues(gains, &Hyperparameters { averaging, ..hyperparameters(name) }, false);
        }
    }
}

/// Steps go on from a saved state as if there had been no break, with a damping that changes before it or does not.
fn assert_continues(network: fn() -> Network, settings: &Hyperparameters, adapts: bool) {
    let name = settings.name;
    let mut network = network();
    let mut whole = build(settings, &network).unwrap();
    let step = |optimizer: &mut Box<dyn Optimizer>, network: &mut Network, number| {
        let mut quantities = pass(network, optimizer.request(), number);
        optimizer.step(network, &mut quantities, &mut StepClock::off()).unwrap();
    };
    // What an interruption keeps before the first step can be gone on from too.
    build(settings, &network).unwrap().load_state(whole.state().into_iter().collect()).unwrap();
    // No multiple of the steps from one inverse, or damping, to the next.
    for number in 0..7 {
        step(&mut whole, &mut network, number);
    }
    if adapts {
        whole.take_reduction_ratio(0.9);
    }
    let saved = values(&network);
    let state = whole.state().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
    step(&mut whole, &mut network, 7);
    let expected = values(&network);
    for (parameter, value) in network.parameters_mut().zip(&saved) {
        parameter.copy_(value);
    }
    let mut restored = build(settings, &network).unwrap();
    restored.load_state(state).unwrap();
    step(&mut restored, &mut network, 7);
    for (ours, theirs) in values(&network).iter().zip(&expected) {
        assert_eq!(ours, theirs, "{name}, adapting: {adapts}");
    }
    for number in 8..14 {
        assert_eq!(restored.wants_reduction_ratio(), whole.wants_reduction_ratio(), "{name}, adapting: {adapts}");
        step(&mut restored, &mut network, number);
        step(&mut whole, &mut network, number);
    }
}

/// Of layers with and without a bias nothing fails to be inverted.
#[test]
fn what_does_not_fail_is_not_counted() {
    for bias in [true, false] {
        tch::manual_seed(7);
        let values = Tensor::randn([3, 8], OPTIONS);
        let layer: Box<dyn Layer> = Box::new(Linear::from_tensors(values, bias.then(|| Tensor::randn([3], OPTIONS))));
        let mut network = Network::sequential(vec![layer]);
        let mut optimizer = build(&hyperparameters("kflr"), &network).unwrap();
        let mut quantities = pass(&network, optimizer.request(), 0);
        let report = optimizer.step(&mut network, &mut quantities, &mut StepClock::off()).unwrap();
        assert_eq!(report.failed_inverses, 0, "bias: {bias}");
    }
}

/// Where nothing is finite, no decomposition comes to an end, and each is counted.
#[test]
fn what_fails_is_counted() {
    // Of two layers: the axes of the weights; these and those of the biases; the inverses for A, B and the bias, each after
    // eight attempts, and the ratio of the traces. The first layer's ratio alone, where A is zero.
    let cases = [
        ("soap", f64::NAN, 2 * 2),
        ("shampoo", f64::NAN, 2 * 3),
        ("kflr", f64::NAN, 2 * (3 * 8 + 1)),
        ("kflr", 0.0, 1),
    ];
    for (name, input, expected) in cases {
        let mut network = network();
        let mut optimizer = build(&hyperparameters(name), &network).unwrap();
        let (x, y) = batch(0);
        let loss = CrossEntropy::new(Reduction::Mean);
        let pass = Pass::new(&network, &loss).request(optimizer.request());
        let mut quantities = pass.run(&(x * input), &y).unwrap();
        let report = optimizer.step(&mut network, &mut quantities, &mut StepClock::off()).unwrap();
        assert_eq!(report.failed_inverses, expected, "{name}, {input}");
    }
}

#[test]
fn the_damping_adapts_at_each_fifth_step() {
    for name in OptimizerName::all().filter(|name| name.has_damping()).map(OptimizerName::as_str) {
        let scheme = OptionValue::Text("levenberg_marquardt".to_owned());
        let mut network = network();
        let mut optimizer = build(&with(name, [("damping_scheme", scheme)]), &network).unwrap();
        for step in 0..11 {
            let expected = (step % 5 == 4).then_some(0.03);
            assert_eq!(optimizer.wants_reduction_ratio(), expected, "{name}, step {step}");
            let mut quantities = pass(&network, optimizer.request(), step);
            optimizer.step(&mut network, &mut quantities, &mut StepClock::off()).unwrap();
        }
    }
}

#[test]
fn decoupled_weight_decay_shrinks_every_parameter_by_its_learning_rate() {
    for name in ["adamw", "muon", "soap"] {
        let moved = |decay: f64| {
            let mut network = network();
            let mut optimizer = build(&with(name, [("weight_decay", OptionValue::Number(decay))]), &network).unwrap();
            // The first step of SOAP moves nothing.
            let mut before = values(&network);
            for step in 0..if name == "soap" { 2 } else { 1 } {
                before = values(&network);
                let mut quantities = pass(&network, optimizer.request(), step);
                optimizer.step(&mut network, &mut quantities, &mut StepClock::off()).unwrap();
            }
            (before, values(&network))
        };
        let (before, free) = moved(0.0);
        for decay in [0.5, 1.0] {
            for ((start, free), ours) in before.iter().zip(&free).zip(moved(decay).1) {
                // SOAP shrinks what the step has made of it, as its authors' program does.
                let shrunk = if name == "soap" { free } else { start };
                assert_close(&ours, &(free - shrunk * (0.1 * decay)), &format!("{name}, decay {decay}"));
            }
        }
    }
}

#[test]
fn momentum_and_the_relative_damping_of_the_diagonal_rule() {
    let options = [("momentum", OptionValue::Number(0.5)), ("damping_scheme", OptionValue::Text("trace".to_owned()))];
    let settings = Hyperparameters { l2: 0.2, averaging: Averaging::None, ..with("diag_ggn", options) };
    let mut velocities: Vec<Tensor> = Vec::new();
    compare(&settings, |parameters, quantities, step| {
        for place in 0..4 {
            let diagonal = quantities.get("diag_ggn", place).unwrap();
            let l2 = if place % 2 == 0 { 0.2 } else { 0.0 };
            let damping = f64::try_from(diagonal.mean(Kind::Double)).unwrap() * 0.03 + l2;
            let now = gradient(quantities, parameters, place, 0.2) / (diagonal + damping);
            if step == 0 {
                velocities.push(now);
            } else {
                velocities[place] = &velocities[place] * 0.5 + now;
            }
            parameters[place] = &parameters[place] - &velocities[place] * 0.1;
        }
    });
}

#[test]
fn momentum_rare_inverses_and_the_relative_damping_of_the_kronecker_rule() {
    let options = [
        ("momentum", OptionValue::Number(0.5)),
        ("inverse_every", OptionValue::Count(2)),
        ("damping_scheme", OptionValue::Text("trace".to_owned())),
    ];
    for l2 in [0.0, 0.2] {
        let averaging = Averaging::None;
        let settings = Hyperparameters { l2, averaging, ..with("kflr", options.clone()) };
        let mut inverses: Vec<[Tensor; 3]> = Vec::new();
        let mut velocities: Vec<Tensor> = Vec::new();
        compare(&settings, |parameters, quantities, step| {
            if step % 2 == 0 {
                inverses = (0..2).map(|layer| relative_inverses(quantities, layer, l2)).collect();
            }
            for (layer, [a, b, bias]) in inverses.iter().enumerate() {
                let weight = b.mm(&gradient(quantities, parameters, 2 * layer, l2)).mm(a);
                let steps = [weight, bias.mv(&gradient(quantities, parameters, 2 * layer + 1, l2))];
                for (offset, now) in steps.into_iter().enumerate() {
                    let place = 2 * layer + offset;
                    if step == 0 {
                        velocities.push(now);
                    } else {
                        velocities[place] = &velocities[place] * 0.5 + now;
                    }
                    parameters[place] = &parameters[place] - &velocities[place] * 0.1;
                }
            }
        });
    }
}

/// The inverses of A and B for a weight and of B for its bias, with a damping of 0.03 times the mean curvature.
fn relative_inverses(quantities: &Quantities, layer: usize, l2: f64) -> [Tensor; 3] {
    let (a, b) = factors(quantities, "kflr", layer);
    let mean = |matrix: &Tensor| f64::try_from(matrix.trace()).unwrap() / matrix.size()[0] as f64;
    let inverse = |matrix: &Tensor, shift: f64| (matrix + Tensor::eye(matrix.size()[0], OPTIONS) * shift).inverse();
    let pi = (mean(&a) / mean(&b)).sqrt();
    let root = (0.03 * mean(&a) * mean(&b) + l2).sqrt();
    [inverse(&a, pi * root), inverse(&b, root / pi), inverse(&b, 0.03 * mean(&b))]
}

#[test]
fn curvature_rules_clip_before_they_precondition() {
    for name in OptimizerName::all().filter(|name| name.has_damping()).map(OptimizerName::as_str) {
        for momentum in [0.0, 0.5] {
            let moved = |clip: OptionValue| -> Vec<Tensor> {
                let mut network = network();
                let options = [("momentum", OptionValue::Number(momentum)), ("clip_norm", clip)];
                let settings = Hyperparameters { l2: 0.2, ..with(name, options) };
                let mut optimizer = build(&settings, &network).unwrap();
                let before = values(&network);
                let mut quantities = pass(&network, optimizer.request(), 0);
                optimizer.step(&mut network, &mut quantities, &mut StepClock::off()).unwrap();
                values(&network).iter().zip(&before).map(|(now, before)| now - before).collect()
            };
            let network = network();
            let quantities = pass(&network, &Request::new(["grad"]).unwrap(), 0);
            let squares = |place| gradient(&quantities, &values(&network), place, 0.2).square().sum(Kind::Double);
            let norm = f64::try_from((0..4).map(squares).sum::<Tensor>()).unwrap().sqrt();
            let free = moved(OptionValue::Text("none".to_owned()));
            for (limit, factor) in [(norm / 3.0, (norm / 3.0) / (norm + 1e-6)), (2.0 * norm, 1.0)] {
                for (ours, free) in moved(OptionValue::Number(limit)).iter().zip(&free) {
                    assert_close(ours, &(free * factor), &format!("{name}, momentum {momentum}, clipped by {factor}"));
                }
            }
        }
    }
}
