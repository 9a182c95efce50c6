//! Derivatives of activations and losses over the whole range of inputs, where functions come close to their limits
//! above all, against arithmetic of many digits.

use crate::cases::spec::ActivationKind;
use crate::reference::{Big, big, derivatives, double, sigmoid};
use backpack_run::backpack::layers::{Curvature, Mode};
use backpack_run::backpack::losses::{BceWithLogits, CrossEntropy, Evaluated, Loss, MeanSquaredError, Reduction};
use tch::{Device, Kind, Tensor};

/// What is taken for rounding, in units of the last place.
const ULPS: f64 = 8.0;

/// A number type: its name, the distance from one to the next number, the smallest normal number.
#[derive(Clone, Copy)]
struct Digits {
    kind: Kind,
    epsilon: f64,
    smallest: f64,
}

const DIGITS: [Digits; 2] = [
    Digits { kind: Kind::Double, epsilon: f64::EPSILON, smallest: f64::MIN_POSITIVE },
    Digits { kind: Kind::Float, epsilon: f32::EPSILON as f64, smallest: f32::MIN_POSITIVE as f64 },
];

impl Digits {
    fn tensor(self, values: &[f64]) -> Tensor {
        Tensor::from_slice(values).to_kind(self.kind)
    }

    /// The error of a value, in units of the last place of `scale` or of the reference, if that is larger. What is
    /// below the smallest normal number, times `factor`, counts as zero.
    fn error(self, value: f64, reference: &Big, scale: f64, factor: f64) -> f64 {
        if !value.is_finite() {
            return f64::INFINITY;
        }
        let off = double(&(big(value) - reference)).abs();
        if off <= self.smallest * factor {
            return 0.0;
        }
        off / (double(reference).abs().max(scale) * self.epsilon)
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

/// Inputs of both signs from 1e-30 to 1e4, close together where functions bend.
fn inputs() -> Vec<f64> {
    let sizes = (-60..=8).map(|half| 10f64.powf(f64::from(half) / 2.0));
    let steps = (1..=160).map(|step| f64::from(step) * 0.2531);
    let limits = [50.0, 70.0, 85.0, 87.0, 88.0, 88.5, 89.0, 92.0, 103.0, 200.0, 500.0, 700.0, 709.0, 720.0, 745.0];
    let positive: Vec<f64> = sizes.chain(steps).chain(limits).collect();
    let negative: Vec<f64> = positive.iter().map(|x| -x).collect();
    [positive, negative, vec![0.0]].concat()
}

/// Where a derivative crosses zero because terms of order one cancel: the error there is measured against them.
fn root(kind: ActivationKind, order: usize) -> Option<f64> {
    match (kind, order) {
        (ActivationKind::Gelu, 0) => Some(-0.7518),
        (ActivationKind::Silu, 0) => Some(-1.2785),
        (ActivationKind::TanhGelu, 0) => Some(-0.7526),
        (ActivationKind::TanhGelu, _) => Some(1.4175),
        (ActivationKind::Gelu, _) => Some(2f64.sqrt()),
        (ActivationKind::Silu, _) => Some(2.3994),
        _ => None,
    }
}

/// How many roundings of what a function is taken of its value holds: that of GELU's approximation falls with
/// exp(-2 u) for an argument u that has been rounded itself. (libtorch's derivative is 1 - tanh(u)^2, of which nothing is
/// left there.)
fn condition(kind: ActivationKind, x: f64) -> f64 {
    match kind {
        ActivationKind::TanhGelu => 1.0 + 2.0 * 0.8 * (x.abs() + 0.044715 * x.abs().powi(3)),
        _ => 1.0,
    }
}

#[test]
fn activations_keep_their_derivatives_near_their_limits() {
    use ActivationKind::*;
    let kinds = [
        Relu,
        LeakyRelu { negative_slope: 0.125 },
        Elu { alpha: 1.25 },
        Elu { alpha: 1.0 },
        Selu,
        Sigmoid,
        Tanh,
        LogSigmoid,
        Gelu,
        TanhGelu,
        Silu,
        Identity,
    ];
    let mut failures = Vec::new();
    for digits in DIGITS {
        let x = digits.tensor(&inputs());
        for kind in kinds {
            let layer = kind.layer();
            let saved = layer.forward(&x.unsqueeze(0), Mode::Evaluation).unwrap();
            let first = layer.vjp(&saved, &x.ones_like().view([1, 1, -1])).unwrap();
            let second = match layer.curvature() {
                Curvature::Elementwise(function) => function.second_derivative(&saved).unwrap(),
                _ => x.zeros_like().unsqueeze(0),
            };
            let mut worst = [0f64; 2];
            for (place, x) in values(&x).into_iter().enumerate() {
                let reference = derivatives(kind, x);
                for (order, ours) in [&first, &second].into_iter().enumerate() {
                    let near = root(kind, order).is_some_and(|root| (x.abs() - root.abs()).abs() < 0.4);
                    let scale = if near { 0.25 } else { 0.0 };
                    let ours = ours.view([-1]).double_value(&[place as i64]);
                    let condition = condition(kind, x);
                    let factor = x.abs().max(1.0) * condition;
                    let error = digits.error(ours, &reference[order], scale, factor) / condition;
                    worst[order] = worst[order].max(error);
                    if error > ULPS {
                        let exact = double(&reference[order]);
                        failures.push(format!(
                            "{kind:?}, {:?}, derivative {} at {x}: {ours:e} instead of {exact:e}, {error:.1} ulps",
                            digits.kind,
                            order + 1
                        ));
                    }
                }
            }
            println!("{kind:?} in {:?}: {:.1} and {:.1} ulps at most", digits.kind, worst[0], worst[1]);
        }
    }
    conclude(&failures);
}

fn conclude(failures: &[String]) {
    let count = failures.len();
    assert!(count == 0, "{count} failures, some of them:\n{}", every(failures).join("\n"));
}

/// Not more than about fifty of them, from everywhere.
fn every(failures: &[String]) -> Vec<&str> {
    failures.iter().step_by(failures.len() / 50 + 1).map(String::as_str).collect()
}

/// What a loss gives at one batch, and what it should.
struct Held {
    digits: Digits,
    title: String,
    failures: Vec<String>,
}

impl Held {
    /// Compares entries in the order of the tensor with their references. `ulps` is what may be lost.
    fn close(&mut self, what: &str, ours: &Tensor, exact: &[Big], ulps: f64) {
        self.no_worse(what, ours, exact, ulps, None);
    }

    /// As [`Self::close`], but an entry may also be as wrong as the other one, autograd's.
    fn no_worse(&mut self, what: &str, ours: &Tensor, exact: &[Big], ulps: f64, other: Option<&Tensor>) {
        let other = other.map(values);
        let ours = values(ours);
        assert_eq!(ours.len(), exact.len(), "{} {what}", self.title);
        // A square root is taken of what may have been lost below the smallest normal number.
        let factor = if what.contains("root") { self.digits.smallest.sqrt().recip() } else { 4.0 };
        for (place, (ours, exact)) in ours.into_iter().zip(exact).enumerate() {
            let error = self.digits.error(ours, exact, 0.0, factor);
            let allowed = other
                .as_ref()
                .map_or(ulps, |other| ulps.max(self.digits.error(other[place], exact, 0.0, factor) + 1.0));
            if error > allowed {
                self.failures.push(format!(
                    "{}, {:?}: entry {place} of {what} is {ours:e} instead of {:e}, {error:.1} ulps, {allowed:.1} allowed",
                    self.title,
                    self.digits.kind,
                    double(exact)
                ));
            }
        }
    }
}

/// Value and gradient of a loss by libtorch.
fn autograd(output: &Tensor, loss: impl Fn(&Tensor) -> Tensor) -> (Tensor, Tensor) {
    let output = output.detach().set_requires_grad(true);
    let value = loss(&output);
    let gradient = Tensor::run_backward(&[&value], &[&output], false, false).remove(0);
    (value.detach(), gradient)
}

fn sum<'a>(terms: impl IntoIterator<Item = &'a Big>) -> Big {
    terms.into_iter().fold(big(0.0), |sum, term| sum + term)
}

#[test]
fn cross_entropy_keeps_its_hessian_where_a_class_is_certain() {
    let sizes = [0.0, 1e-30, 1e-6, 0.1, 1.0, 3.0, 8.0, 13.0, 20.0, 34.0, 50.0, 80.0, 100.0, 300.0, 740.0, 1e4];
    let mut failures = Vec::new();
    for digits in DIGITS {
        for size in sizes {
            for (number, pattern) in [
                [1.0, 0.0, 0.25, -0.5],
                [0.0, -0.5, 1.0, 0.25],
                [0.25, -0.5, 0.0, 1.0],
                [1.0, 1.0, -1.0, 0.0],
                [-1.0, 0.0, 1.0, 1.0],
                [-1.0, -1.0, -1.0, 0.0],
            ]
            .into_iter()
            .enumerate()
            {
                let logits = pattern.map(|logit: f64| logit * size);
                let title = format!("cross-entropy at {logits:?}");
                let mut held = Held { digits, title, failures: Vec::new() };
                hold_cross_entropy(&mut held, &logits, number as i64 % 4);
                failures.append(&mut held.failures);
            }
        }
    }
    conclude(&failures);
}

/// Everything that the loss gives at one sample.
fn hold_cross_entropy(held: &mut Held, logits: &[f64; 4], label: i64) {
    let classes = logits.len();
    let output = held.digits.tensor(logits).view([1, -1]);
    let rounded: Vec<Big> = values(&output).into_iter().map(big).collect();
    let loss = CrossEntropy::new(Reduction::Sum);
    let target = Tensor::from_slice(&[label]);
    let at = loss.evaluate(&output, &target).unwrap();

    let exponentials: Vec<Big> = rounded.iter().map(Big::exp).collect();
    let total = sum(&exponentials);
    let p: Vec<Big> = exponentials.iter().map(|exponential| exponential / &total).collect();
    let but = |c: usize| sum(p.iter().enumerate().filter(|(d, _)| *d != c).map(|(_, p)| p));
    // The difference of two logits is rounded before its exponential is taken.
    let spread = logits.iter().fold(0f64, |most, a| logits.iter().fold(most, |most, b| most.max(a - b)));
    let ulps = ULPS + 2.0 * spread;

    let (value, gradient) = autograd(&output, |output| {
        output.f_cross_entropy_loss(&target, None::<Tensor>, tch::Reduction::Sum, -100, 0.0).unwrap()
    });
    let exact_value = total.ln() - &rounded[label as usize];
    held.no_worse("the value", &at.value, &[exact_value], ULPS, Some(&value));
    let exact_gradient: Vec<Big> =
        (0..classes).map(|c| if c as i64 == label { -but(c) } else { p[c].clone() }).collect();
    held.no_worse("the gradient", &at.gradient, &exact_gradient, ulps, Some(&gradient));

    let roots: Vec<Big> = (0..classes)
        .flat_map(|c| (0..classes).map(move |d| (c, d)))
        .map(|(c, d)| if c == d { p[c].sqrt() * but(c) } else { -(p[c].sqrt() * &p[d]) })
        .collect();
    held.close("the root by outputs", &loss.sqrt_hessian(&at, 1).unwrap(), &roots, ulps);

    let behind: Vec<Big> = (0..classes).map(|c| sum(&p[c + 1..])).collect();
    let narrow: Vec<Big> = (0..classes - 1)
        .flat_map(|c| (0..classes).map(move |d| (c, d)))
        .map(|(c, d)| {
            let diagonal = (&p[c] * &behind[c] / (&p[c] + &behind[c])).sqrt();
            match d.cmp(&c) {
                std::cmp::Ordering::Less => big(0.0),
                std::cmp::Ordering::Equal => diagonal,
                std::cmp::Ordering::Greater => -(&p[d] / &behind[c] * diagonal),
            }
        })
        .collect();
    held.close("the narrow root", &loss.narrow_sqrt_hessian(&at, 1).unwrap(), &narrow, ulps);

    let hessian: Vec<Big> = (0..classes)
        .flat_map(|c| (0..classes).map(move |d| (c, d)))
        .map(|(c, d)| if c == d { &p[c] * but(c) } else { -(&p[c] * &p[d]) })
        .collect();
    held.close("the summed Hessian", &loss.summed_hessian(&at, 1).unwrap(), &hessian, 2.0 * ulps);

    // Products with the unit vectors are the Hessian's columns.
    let units = Tensor::eye(classes as i64, (held.digits.kind, Device::Cpu)).unsqueeze(1);
    held.close("the Hessian's products", &loss.hessian_product(&at, &units, 1).unwrap(), &hessian, 2.0 * ulps);

    // The sampled root is the gradient at the drawn label.
    let labels = Tensor::arange(classes as i64, (Kind::Int64, Device::Cpu)).unsqueeze(1);
    let sampled = loss.sqrt_hessian_sampled(&at, &labels, 1).unwrap();
    for drawn in 0..classes {
        let label = Tensor::from_slice(&[drawn as i64]);
        let (_, gradient) = autograd(&output, |output| {
            output.f_cross_entropy_loss(&label, None::<Tensor>, tch::Reduction::Sum, -100, 0.0).unwrap()
        });
        let root_of_draws = 1.0 / (classes as f64).sqrt();
        let exact: Vec<Big> =
            (0..classes).map(|c| (if c == drawn { -but(c) } else { p[c].clone() }) * big(root_of_draws)).collect();
        let ours = sampled.get(drawn as i64);
        held.no_worse("the sampled root", &ours, &exact, ulps, Some(&(gradient * root_of_draws)));
    }
}

#[test]
fn binary_cross_entropy_keeps_its_derivatives_where_an_output_is_certain() {
    let mut failures = Vec::new();
    for digits in DIGITS {
        let output = digits.tensor(&inputs()).view([1, -1]);
        for target in [0.0, 1.0, 0.25] {
            let loss = BceWithLogits::new(Reduction::Sum);
            let at = loss.evaluate(&output, &output.full_like(target)).unwrap();
            let mut held =
                Held { digits, title: format!("binary cross-entropy with target {target}"), failures: Vec::new() };
            let x: Vec<Big> = values(&output).into_iter().map(big).collect();
            let difference = |x: &Big| sigmoid(x) * big(1.0 - target) - sigmoid(&-x) * big(target);
            let gradient: Vec<Big> = x.iter().map(difference).collect();
            // Where the two terms are of one size, their difference is as exact as they are.
            let crossing = |x: f64| target == 0.25 && (x + 1.0986).abs() < 0.3;
            let kept: Vec<i64> =
                (0..x.len()).filter(|place| !crossing(double(&x[*place]))).map(|place| place as i64).collect();
            let kept_gradient: Vec<Big> = kept.iter().map(|place| gradient[*place as usize].clone()).collect();
            let pick = |tensor: &Tensor| tensor.view([-1]).index_select(0, &Tensor::from_slice(&kept));
            held.close("the gradient", &pick(&at.gradient), &kept_gradient, ULPS);
            let drawn = output.full_like(target).unsqueeze(0);
            let sampled = loss.sqrt_hessian_sampled(&at, &drawn, 1).unwrap();
            held.close("the sampled vectors", &pick(&sampled), &kept_gradient, ULPS);
            let variance: Vec<Big> = x.iter().map(|x| sigmoid(x) * sigmoid(&-x)).collect();
            let roots: Vec<Big> = variance.iter().map(Big::sqrt).collect();
            let root = loss.sqrt_hessian(&at, 1).unwrap().squeeze_dim(1).diagonal(0, 0, 1);
            held.close("the root", &root, &roots, ULPS);
            held.close("the summed Hessian", &loss.summed_hessian(&at, 1).unwrap().diagonal(0, 0, 1), &variance, ULPS);
            let product = loss.hessian_product(&at, &output.ones_like().unsqueeze(0), 1).unwrap();
            held.close("the Hessian's products", &product, &variance, ULPS);
            // The value, an output at a time.
            for (place, x) in x.iter().enumerate() {
                let value =
                    loss.value(&output.narrow(1, place as i64, 1), &digits.tensor(&[target]).view([1, 1])).unwrap();
                // log(1 + exp(x)) is max(x, 0) + log(1 + exp(-|x|)).
                let (above, size) = if double(x) > 0.0 { (x.clone(), x.clone()) } else { (big(0.0), -x) };
                // exp(0) has no digits of its own.
                let exact = above - x * big(target) + (big(1.0) * (-size).exp()).ln_1p();
                held.close("the value", &value, &[exact], ULPS);
            }
            failures.append(&mut held.failures);
        }
    }
    conclude(&failures);
}

#[test]
fn the_squared_error_is_exact_over_its_range() {
    let mut failures = Vec::new();
    for digits in DIGITS {
        let output = digits.tensor(&inputs()).view([1, -1]);
        let loss = MeanSquaredError::new(Reduction::Sum);
        let mut held = Held { digits, title: "squared error".to_owned(), failures: Vec::new() };
        for target in [0.0, 0.75, -3e3] {
            let target = digits.tensor(&[target]);
            let at: Evaluated = loss.evaluate(&output, &target.expand_as(&output)).unwrap();
            let target = big(target.double_value(&[0]));
            let exact: Vec<Big> = values(&output).into_iter().map(|x| big(2.0) * (big(x) - &target)).collect();
            held.close("the gradient", &at.gradient, &exact, ULPS);
            let squares: Vec<Big> =
                values(&output).into_iter().map(|x| (big(x) - &target) * (big(x) - &target)).collect();
            held.close("the value", &at.value, &[sum(&squares)], ULPS);
            let two = vec![big(2.0); exact.len()];
            held.close("the summed Hessian", &loss.summed_hessian(&at, 1).unwrap().diagonal(0, 0, 1), &two, ULPS);
        }
        failures.append(&mut held.failures);
    }
    conclude(&failures);
}
