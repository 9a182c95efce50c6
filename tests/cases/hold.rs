//! Holds a case to the oracle: every loss and reduction, both ways, both number types, both scales.

use std::collections::BTreeMap;

use backpack_run::backpack::losses::Loss;
use backpack_run::backpack::network::NamedParameter;
use backpack_run::backpack::oracle::{Comparison, Question, Way, compare, expected};
use backpack_run::backpack::quantities::{Scale, all};
use backpack_run::backpack::request::why_not;
use backpack_run::backpack::{Network, Pass, Quantities};
use tch::{Kind, Tensor};

use super::{Case, losses, title};

/// The largest error that is still taken for rounding.
fn bound(quantity: &str, kind: Kind) -> f64 {
    match (kind, quantity) {
        (Kind::Double, "grad" | "diag_ggn_mc" | "kfac") => 1e-10,
        (Kind::Double, _) => 1e-9,
        _ => 1e-4,
    }
}

/// What went wrong, and the largest error of each quantity in each number type.
#[derive(Default)]
pub struct Findings {
    failures: Vec<String>,
    worst: BTreeMap<(&'static str, &'static str), f64>,
    compared: usize,
}

impl Findings {
    fn note(&mut self, case: &Case, what: &str, kind: Kind, names: &[NamedParameter], found: &[Comparison]) {
        let digits = if kind == Kind::Double { "f64" } else { "f32" };
        for one in found {
            self.compared += one.compared;
            let worst = self.worst.entry((one.quantity, digits)).or_default();
            // Not f64::max, which drops a NaN.
            if one.error.is_nan() || one.error > *worst {
                *worst = one.error;
            }
            let bound = bound(one.quantity, kind) * case.cancellation();
            if one.error.is_nan() || one.error > bound {
                self.failures.push(format!(
                    "{}, {what}, {digits}: {} {}{} is off by {:.1e}, at most {bound:e} is rounding",
                    case.name, one.quantity, names[one.parameter].name, one.factor, one.error
                ));
            }
        }
    }

    /// Prints the largest errors and fails if something went wrong.
    pub fn conclude(self) {
        for ((quantity, digits), error) in &self.worst {
            println!("largest error of {quantity:>18} in {digits}: {error:.1e}");
        }
        assert!(self.compared > 0, "nothing was compared");
        let count = self.failures.len();
        let shown: Vec<String> = self.failures.into_iter().take(40).collect();
        assert!(count == 0, "{count} failures, the first of them:\n{}", shown.join("\n"));
    }
}

/// Holds all of these cases to the oracle.
pub fn hold_all(cases: Vec<Case>) {
    tch::set_num_threads(1);
    let mut findings = Findings::default();
    for case in &cases {
        forward(case, &mut findings);
        for (number, loss) in losses().iter().enumerate() {
            let draws = if number % 2 == 0 { 1 } else { 3 };
            // Every other loss goes through the pass one sample at a time.
            let chunk_bytes = if number % 2 == 0 { 1 << 30 } else { 1 };
            hold(case, loss.as_ref(), draws, chunk_bytes, &mut findings);
        }
    }
    findings.conclude();
}

/// The forward map is libtorch's, and its shapes are as foretold.
fn forward(case: &Case, findings: &mut Findings) {
    let network = case.network(Kind::Double);
    let x = case.x(Kind::Double);
    let mut tensors = Vec::new();
    for layer in network.nodes().iter().filter_map(|node| node.layer()) {
        tensors.extend(layer.parameters().iter().map(|parameter| parameter.value.shallow_clone()));
        tensors.extend(layer.buffers().into_iter().map(|(_, buffer)| buffer.shallow_clone()));
    }
    let mut tensors = tensors.into_iter();
    let mut values = vec![x.shallow_clone()];
    for spec in &case.layers {
        values.push(spec.libtorch(&values, &mut tensors));
    }
    let libtorch = values.pop().unwrap();
    let ours = network.evaluate(&x).unwrap();
    let error = backpack_run::backpack::oracle::error_between(&ours, &libtorch);
    if error.is_nan() || error > 1e-13 {
        findings.failures.push(format!("{}: the output is off by {error:.1e} from libtorch's", case.name));
    }
    let trace = network.forward(&x, case.mode).unwrap();
    let shapes = network.shapes(&case.input).unwrap();
    for (saved, shape) in trace.iter().zip(shapes.iter().skip(1)) {
        if saved.output.size()[1..] != shape[..] {
            findings.failures.push(format!("{}: {:?} instead of {shape:?}", case.name, saved.output.size()));
        }
    }
}

/// The quantities that can be had, after checking that those that are refused are those that the case's list names.
pub fn possible(case: &Case, network: &Network) -> Vec<&'static str> {
    all()
        .iter()
        .map(|quantity| quantity.name())
        .filter(|name| {
            let quantity = backpack_run::backpack::quantities::by_name(name).unwrap();
            let refused = why_not(network, &case.input, case.mode, quantity.as_ref()).unwrap().is_some();
            assert_eq!(refused, case.refused.contains(name), "{}: whether {name} is refused", case.name);
            !refused
        })
        .collect()
}

fn hold(case: &Case, loss: &dyn Loss, draws: i64, chunk_bytes: u64, findings: &mut Findings) {
    let double = case.network(Kind::Double);
    let names = possible(case, &double);
    let (x, y) = (case.x(Kind::Double), case.y(loss, Kind::Double));
    let pass = |network: &Network, kind: Kind, scale: Scale, labels: Option<&Tensor>| -> Quantities {
        let pass = Pass::new(network, loss).take(names.iter().copied()).unwrap().mode(case.mode).scale(scale);
        let pass = pass.mc_samples(draws).chunk_bytes(chunk_bytes).seed(8).step(2);
        let pass = match labels {
            Some(labels) => pass.labels(labels),
            None => pass,
        };
        pass.run(&case.x(kind), &case.y(loss, kind))
            .unwrap_or_else(|error| panic!("{}, {}: {error}", case.name, title(loss)))
    };
    let ours = pass(&double, Kind::Double, Scale::Backpack, None);
    let labels = ours.labels.as_ref().expect("sampled quantities were asked for");
    shapes(case, &double, &ours, draws, findings);

    let question = Question { mode: case.mode, labels: Some(labels), ..Question::new(&names, Way::Samples) };
    let samples = expected(&double, loss, &x, &y, &question).unwrap();
    let parameters = double.parameters();
    let what = title(loss);
    complete(case, &names, &samples, &ours, findings);
    findings.note(case, &format!("{what}, sample by sample"), Kind::Double, &parameters, &compare(&ours, &samples));

    let question = Question { way: Way::WholeBatch, ..question };
    let whole = expected(&double, loss, &x, &y, &question).unwrap();
    findings.note(case, &format!("{what}, whole batch"), Kind::Double, &parameters, &compare(&ours, &whole));

    let scaled = ["sum_grad_squared", "variance"];
    let question = Question { quantities: &scaled, way: Way::Samples, scale: Scale::Paper, ..question };
    let paper = expected(&double, loss, &x, &y, &question).unwrap();
    let ours = pass(&double, Kind::Double, Scale::Paper, Some(labels));
    findings.note(case, &format!("{what}, the paper's scale"), Kind::Double, &parameters, &compare(&ours, &paper));

    let single = pass(&case.network(Kind::Float), Kind::Float, Scale::Backpack, Some(labels));
    findings.note(case, &what, Kind::Float, &parameters, &compare(&single, &samples));
}

/// The oracle and the pass have the same tensors.
fn complete(
    case: &Case,
    names: &[&'static str],
    expected: &[backpack_run::backpack::oracle::Expected],
    ours: &Quantities,
    findings: &mut Findings,
) {
    for name in names {
        let theirs = expected.iter().filter(|one| one.quantity == *name).count();
        let mine = ours.values().iter().filter(|one| one.quantity == *name).count();
        if theirs != mine || theirs == 0 {
            findings.failures.push(format!("{}: {name} has {mine} tensors, the oracle's {theirs}", case.name));
        }
    }
}

/// Every quantity has the documented shape.
fn shapes(case: &Case, network: &Network, ours: &Quantities, draws: i64, findings: &mut Findings) {
    let parameters = network.parameters();
    let (samples, outputs) = (case.samples, case.output().iter().product::<i64>());
    for value in ours.values() {
        let own = parameters[value.parameter].value.size();
        let shape = match (value.quantity, value.factor) {
            ("grad" | "sum_grad_squared" | "variance" | "diag_ggn" | "diag_ggn_mc" | "diag_hessian", "") => own,
            ("batch_grad" | "batch_diag_ggn" | "batch_diag_hessian", "") => [&[samples], own.as_slice()].concat(),
            ("batch_l2", "") => vec![samples],
            ("sqrt_ggn", "") => [&[outputs, samples], own.as_slice()].concat(),
            ("sqrt_ggn_mc", "") => [&[draws, samples], own.as_slice()].concat(),
            (
                "kfac" | "kflr" | "kfra" | "kfac_expand" | "kfac_reduce" | "kflr_expand" | "kflr_reduce" | "ekfac",
                "A" | "B",
            ) => {
                let (outputs, groups) = case.outputs_and_groups()[value.parameter].expect("it has factors");
                let side = if value.factor == "A" { own.iter().product::<i64>() / outputs } else { outputs / groups };
                if groups == 1 { vec![side, side] } else { vec![groups, side, side] }
            }
            ("ekfac", "eigenvalues") if own.len() == 1 => own,
            ("ekfac", "eigenvalues") => vec![own[0], own.iter().product::<i64>() / own[0]],
            other => panic!("{other:?} is no quantity of the registry"),
        };
        if value.tensor.size() != shape {
            findings.failures.push(format!(
                "{}: {} of {} has the shape {:?}, documented is {shape:?}",
                case.name,
                value.quantity,
                parameters[value.parameter].name,
                value.tensor.size()
            ));
        }
    }
    let _: &Tensor = &ours.output;
}
