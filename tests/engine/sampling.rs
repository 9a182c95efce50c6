//! Labels are drawn from the model's own distribution, and what is sampled has the exact quantity as its expectation.
//!
//! Every test compares means of draws with their expectations in units of standard errors, and fails above `LIMIT`.
//! A standard normal number exceeds that with probability 1.8e-8, and fewer than a thousand numbers are looked at in
//! any test, so that over random seeds a test of a right program fails with probability below 2e-5. The seeds are
//! fixed: a test that passes keeps passing.

use crate::cases::{list, losses, title};
use backpack_run::backpack::Pass;
use backpack_run::backpack::draws::Draws;
use backpack_run::backpack::losses::{BceWithLogits, CrossEntropy, Loss, MeanSquaredError, Reduction};
use backpack_run::backpack::oracle::error_between;
use backpack_run::random::{Purpose, normal, stream};
use tch::{Kind, Tensor};

/// Standard errors.
const LIMIT: f64 = 5.63;

const DRAWS: i64 = 20_000;

fn outputs() -> Tensor {
    normal(&mut stream(6, Purpose::Batch, 0), &[3, 4]) * 1.5
}

fn target(loss: &dyn Loss) -> Tensor {
    match loss.name() {
        "cross_entropy" => Tensor::from_slice(&[0i64, 3, 1]),
        _ => Tensor::full([3, 4], 0.3, (Kind::Double, tch::Device::Cpu)),
    }
}

/// Draws `[M, *]` have this expectation, by their own standard errors.
fn has_mean(draws: &Tensor, expected: &Tensor, what: &str) {
    let count = draws.size()[0] as f64;
    let mean = draws.mean_dim(0, false, None::<Kind>);
    let errors = draws.std_dim(0, true, false) / count.sqrt();
    let difference = (mean - expected).abs();
    // Where a draw never varies, it has to be right.
    let scores = (&difference / &errors).where_self(&errors.gt(1e-300), &(&difference * 1e12));
    let worst = scores.max().double_value(&[]);
    assert!(worst < LIMIT, "{what}: {worst:.2} standard errors off");
}

#[test]
fn classes_are_drawn_with_their_probabilities() {
    let loss = CrossEntropy::new(Reduction::Mean);
    let output = outputs();
    let at = loss.evaluate(&output, &target(&loss)).unwrap();
    let labels = loss.sample(&at, DRAWS, &mut Draws::whole(stream(1, Purpose::SampledLabels, 0))).unwrap();
    assert_eq!((labels.size(), labels.kind()), (vec![DRAWS, 3], Kind::Int64));
    has_mean(&labels.one_hot(4).to_kind(Kind::Double), &output.softmax(1, None::<Kind>), "frequencies");
    // Samples are drawn independently of each other: so are the products of their indicators.
    let hits = labels.one_hot(4).to_kind(Kind::Double);
    let together = hits.select(1, 0).unsqueeze(2) * hits.select(1, 1).unsqueeze(1);
    let p = output.softmax(1, None::<Kind>);
    has_mean(&together, &p.get(0).outer(&p.get(1)), "joint frequencies");
}

#[test]
fn impossible_classes_are_never_drawn() {
    let loss = CrossEntropy::new(Reduction::Mean);
    let output = Tensor::from_slice(&[-800.0, 0.0, -900.0, 0.0, -800.0, -1000.0]).view([2, 3]);
    let at = loss.evaluate(&output, &Tensor::from_slice(&[1i64, 0])).unwrap();
    let labels = loss.sample(&at, 5000, &mut Draws::whole(stream(1, Purpose::SampledLabels, 0))).unwrap();
    assert_eq!(Vec::<i64>::try_from(labels.amin([0], false)).unwrap(), [1, 0]);
    assert_eq!(Vec::<i64>::try_from(labels.amax([0], false)).unwrap(), [1, 0]);
    let one = loss.evaluate(&Tensor::from_slice(&[2.0, -3.0]).view([2, 1]), &Tensor::from_slice(&[0i64, 0])).unwrap();
    let labels = loss.sample(&one, 100, &mut Draws::whole(stream(1, Purpose::SampledLabels, 0))).unwrap();
    assert_eq!(labels.abs().max().int64_value(&[]), 0);
}

#[test]
fn binary_targets_are_drawn_with_their_probabilities() {
    let loss = BceWithLogits::new(Reduction::Mean);
    let output = outputs();
    let at = loss.evaluate(&output, &target(&loss)).unwrap();
    let labels = loss.sample(&at, DRAWS, &mut Draws::whole(stream(2, Purpose::SampledLabels, 0))).unwrap();
    assert_eq!(labels.size(), [DRAWS, 3, 4]);
    let neither = labels.ne(0.0).logical_and(&labels.ne(1.0));
    assert_eq!(neither.any().int64_value(&[]), 0, "only zeros and ones");
    has_mean(&labels, &output.sigmoid(), "frequencies");
    let flat = labels.flatten(1, 2);
    let p = output.sigmoid().flatten(0, 1);
    let together = flat.select(1, 0).unsqueeze(1) * flat.narrow(1, 1, 11);
    has_mean(&together, &(p.get(0) * p.narrow(0, 1, 11)), "joint frequencies");
}

#[test]
fn values_are_drawn_normal_with_variance_one_half() {
    let loss = MeanSquaredError::new(Reduction::Mean);
    let output = outputs();
    let at = loss.evaluate(&output, &target(&loss)).unwrap();
    let labels = loss.sample(&at, DRAWS, &mut Draws::whole(stream(3, Purpose::SampledLabels, 0))).unwrap();
    let centred = (labels - &output).flatten(1, 2);
    let moments = centred.unsqueeze(1) * centred.unsqueeze(2);
    has_mean(&centred, &Tensor::zeros([12], (Kind::Double, tch::Device::Cpu)), "means");
    has_mean(&moments, &(Tensor::eye(12, (Kind::Double, tch::Device::Cpu)) * 0.5), "covariances");
    // A normal number's fourth moment is three times its squared variance.
    has_mean(&centred.square().square(), &Tensor::full([12], 0.75, (Kind::Double, tch::Device::Cpu)), "fourth moments");
}

/// The Hessian of the reduced loss with respect to each sample's output, `[N, D, D]`, by automatic differentiation.
fn hessians(loss: &dyn Loss, output: &Tensor) -> Tensor {
    let output = output.detach().set_requires_grad(true);
    let value = loss.value(&output, &target(loss)).unwrap();
    let gradient = Tensor::run_backward(&[value], &[&output], true, true).remove(0);
    let rows: Vec<Tensor> = (0..12)
        .map(|entry| {
            let one = gradient.reshape([-1]).get(entry);
            Tensor::run_backward(&[one], &[&output], true, false).remove(0).get(entry / 4)
        })
        .collect();
    Tensor::stack(&rows, 0).view([3, 4, 4])
}

#[test]
fn square_roots_of_the_losses_hessians() {
    for loss in losses() {
        let what = title(loss.as_ref());
        let output = outputs();
        let exact = hessians(loss.as_ref(), &output);
        let at = loss.evaluate(&output, &target(loss.as_ref())).unwrap();
        let root = loss.sqrt_hessian(&at, 3).unwrap().transpose(0, 1);
        let error = error_between(&root.transpose(1, 2).matmul(&root), &exact);
        assert!(error < 1e-13, "{what}: exact root off by {error:.1e}");
        let error =
            error_between(&loss.summed_hessian(&at, 3).unwrap(), &exact.sum_dim_intlist(0, false, None::<Kind>));
        assert!(error < 1e-13, "{what}: summed Hessian off by {error:.1e}");
        let v = normal(&mut stream(7, Purpose::Batch, 0), &[2, 3, 4]);
        let product = v.unsqueeze(2).matmul(&exact).squeeze_dim(2);
        let error = error_between(&loss.hessian_product(&at, &v, 3).unwrap(), &product);
        assert!(error < 1e-13, "{what}: product off by {error:.1e}");

        let labels = loss.sample(&at, DRAWS, &mut Draws::whole(stream(4, Purpose::SampledLabels, 0))).unwrap();
        let vectors = loss.sqrt_hessian_sampled(&at, &labels, 3).unwrap();
        let outer = vectors.unsqueeze(2) * vectors.unsqueeze(3) * DRAWS as f64;
        has_mean(&outer, &exact, &format!("{what}: sampled root"));
    }
}

/// Through whole networks: the mean over draws of the sampled quantities is the exact quantity.
#[test]
fn sampled_quantities_have_the_exact_ones_as_expectation() {
    tch::set_num_threads(1);
    let draws = 4000;
    for case in [list::linear_cases().swap_remove(2), list::conv_cases().swap_remove(0)] {
        let network = case.network(Kind::Double);
        for loss in losses() {
            let taken = ["kfac", "kflr", "diag_ggn", "diag_ggn_mc", "sqrt_ggn_mc"];
            let pass = Pass::new(&network, loss.as_ref()).take(taken).unwrap().mc_samples(draws).mode(case.mode);
            let (x, y) = (case.x(Kind::Double), case.y(loss.as_ref(), Kind::Double));
            let ours = pass.seed(9).step(0).run(&x, &y).unwrap();
            for (number, parameter) in network.parameters().iter().enumerate() {
                let what = format!("{}, {}, {}", case.name, title(loss.as_ref()), parameter.name);
                let root = ours.get("sqrt_ggn_mc", number).unwrap() * (draws as f64).sqrt();
                let diagonals = root.square().sum_dim_intlist(1, false, None::<Kind>);
                has_mean(&diagonals, ours.get("diag_ggn", number).unwrap(), &format!("diagonal, {what}"));
                let mean = diagonals.mean_dim(0, false, None::<Kind>);
                assert!(error_between(ours.get("diag_ggn_mc", number).unwrap(), &mean) < 1e-11, "{what}");
                if parameter.role == "bias" {
                    // The bias's square root is that of B: draw by draw its outer products, summed over samples.
                    let factors = root.transpose(1, 2).matmul(&root);
                    has_mean(&factors, ours.factor("kflr", number, "B").unwrap(), &format!("factor, {what}"));
                    let mean = factors.mean_dim(0, false, None::<Kind>);
                    let error = error_between(ours.factor("kfac", number, "B").unwrap(), &mean);
                    assert!(error < 1e-11, "{what}: {error:.1e}");
                }
            }
        }
    }
}
