//! Every quantity of every layer type is the oracle's, for each case (`cases/`) with every loss and reduction, both
//! ways, in both number types and both scales; and so is every cell of the support table, or it is refused before the
//! pass, naming the layer.

use std::collections::BTreeMap;

use crate::cases::{Case, list, losses, title, typed};
use backpack_run::Error;
use backpack_run::backpack::layers::{
    Activation, Conv1d, Conv1dOptions, Conv2d, Conv2dOptions, Conv3d, Conv3dOptions, Flatten, Identity, Layer, Linear,
    LinearOptions, Mode,
};
use backpack_run::backpack::losses::{CrossEntropy, Loss, Reduction};
use backpack_run::backpack::network::{NamedParameter, Operation};
use backpack_run::backpack::oracle::{Comparison, Question, Way, compare, expected};
use backpack_run::backpack::quantities::{Scale, all};
use backpack_run::backpack::request::why_not;
use backpack_run::backpack::support::{Specimen, Support, specimens, table};
use backpack_run::backpack::{BuiltIn, Network, Part, Pass, Quantities, Value};
use backpack_run::random::{Purpose, normal, stream, uniform};
use tch::{Device, Kind, Tensor};

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
struct Findings {
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
    fn conclude(self) {
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
fn hold_all(cases: Vec<Case>) {
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
fn possible(case: &Case, network: &Network) -> Vec<&'static str> {
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

#[test]
fn linear_layers() {
    hold_all(list::linear_cases());
}

#[test]
fn graphs() {
    hold_all(list::graph_cases());
}

#[test]
fn activations() {
    hold_all(list::activation_cases());
}

#[test]
fn losses_in_their_limits() {
    hold_all(list::loss_cases());
}

#[test]
fn convolutions() {
    hold_all(list::conv_cases());
}

#[test]
fn transposed_convolutions() {
    hold_all(list::conv_transpose_cases());
}

#[test]
fn pooling() {
    hold_all(list::pool_cases());
}

#[test]
fn normalisation_padding_dropout() {
    hold_all(list::other_cases());
}

#[test]
fn the_papers_networks() {
    hold_all(list::network_cases());
}

#[test]
fn layers_of_one_and_three_axes() {
    hold_all(typed::dimension_cases());
}

#[test]
fn normalisation_by_sample() {
    hold_all(typed::norm_cases());
}

#[test]
fn attention() {
    hold_all(typed::attention_cases());
}

#[test]
fn recurrent_layers() {
    hold_all(typed::recurrent_cases());
}

/// The specimen between layers with parameters, so that everything has to go through it. In front of a BatchNorm that
/// takes the batch's mean away there is no bias: its gradient is zero, and all that is left of it is rounding.
fn network(specimen: Specimen) -> Network {
    let linear = |input: &[i64], out_features| -> Box<dyn Layer> {
        Box::new(Linear::new(input, &LinearOptions { out_features, bias: true }).unwrap())
    };
    let input = specimen.input.clone();
    let bias = specimen.circumstance != Some("while training");
    let takes_integers = matches!(&specimen.built, Operation::Layer(layer) if layer.integers().is_some());
    let before: Box<dyn Layer> = match input.len() {
        // What has no derivative has nothing with parameters in front.
        _ if takes_integers => Box::new(Activation::new(Identity {})),
        _ if specimen.layer.ends_with("1d") => {
            let options = Conv1dOptions { out_channels: input[0], bias, ..Default::default() };
            Box::new(Conv1d::new(&input, &options).unwrap())
        }
        _ if specimen.layer.ends_with("3d") => {
            let options = Conv3dOptions { out_channels: input[0], bias, ..Default::default() };
            Box::new(Conv3d::new(&input, &options).unwrap())
        }
        3 => {
            let options = Conv2dOptions { out_channels: input[0], bias, ..Default::default() };
            Box::new(Conv2d::new(&input, &options).unwrap())
        }
        _ => linear(&input, *input.last().unwrap()),
    };
    let outputs = match &specimen.built {
        Operation::Layer(layer) => layer.output_shape(&input).unwrap(),
        Operation::Merge(merge) => merge.output_shape(&vec![input.as_slice(); specimen.inputs]).unwrap(),
    };
    let mut network = Network::new(vec![
        Part::layer("0", before, Value::INPUT),
        specimen.part("1", Value::of_node(0)),
        Part::layer("2", Box::new(Flatten::new()), Value::of_node(1)),
        Part::layer("3", linear(&[outputs.iter().product()], 3), Value::of_node(2)),
    ])
    .unwrap();
    network.to(Kind::Double, Device::Cpu);
    for (number, parameter) in network.parameters().iter().enumerate() {
        let values = normal(&mut stream(1, Purpose::Batch, number as u64), &parameter.value.size());
        parameter.value.shallow_clone().copy_(&(values * 0.4));
    }
    network
}

#[test]
fn every_cell_is_the_oracles_or_a_refusal() {
    tch::set_num_threads(1);
    let loss = CrossEntropy::new(Reduction::Mean);
    let y = Tensor::from_slice(&[2i64, 0, 1]);
    let (mut held, mut refused, mut left_out) = (0, 0, 0);
    for (specimen, row) in specimens().unwrap().into_iter().zip(table().unwrap()) {
        let (title, kind, mode) = (specimen.title(), specimen.layer, specimen.mode);
        assert_eq!(title, row.layer);
        let shape = [&[3], specimen.input.as_slice()].concat();
        let extra_dimensions = specimen.input.len() == 2 && !kind.ends_with("1d");
        let integers = match &specimen.built {
            Operation::Layer(layer) => layer.integers(),
            Operation::Merge(_) => None,
        };
        let network = network(specimen);
        let mut generator = stream(2, Purpose::Batch, 0);
        let x = match integers {
            Some(count) => (uniform(&mut generator, &shape, Device::Cpu) * count as f64).floor().to_kind(Kind::Int64),
            None => normal(&mut generator, &shape),
        };
        for (quantity, support) in row.cells {
            let name = quantity.name();
            let taken = Pass::new(&network, &loss).take([quantity]).unwrap().mode(mode).seed(1).step(1);
            let pass = |target: &Tensor| taken.run(&x, target);
            if support.is_refused() {
                // A target that no pass could use: the refusal comes first.
                let Err(Error::Refused { quantity, layer, reason }) = pass(&Tensor::from_slice(&[1.5])) else {
                    panic!("{name} for {title}: not refused");
                };
                assert_eq!((quantity.as_str(), layer.is_some()), (name, !reason.contains("one after the other")));
                let first = extra_dimensions && name == "kfra";
                let place = if first { "layer 0 (linear)" } else { "layer 1" };
                for part in [place, if first { "linear" } else { kind }, name] {
                    assert!(reason.contains(part), "{reason} does not say {part}");
                }
                refused += 1;
                continue;
            }
            let ours = pass(&y).unwrap_or_else(|error| panic!("{} for {title}: {error}", name));
            if mode != Mode::Evaluation && title.ends_with("while training") {
                assert_eq!(name, "grad");
            }
            let own = network.nodes()[1].numbered().map(|(number, _)| number).collect::<Vec<_>>();
            let given = ours.values().iter().filter(|value| own.contains(&value.parameter)).count();
            match support {
                Support::LeftOut(_) => {
                    assert_eq!(given, 0, "{} for {title}", name);
                    left_out += 1;
                }
                _ => assert!(given >= own.len(), "{} for {title}: {given} tensors", name),
            }
            let names = [name];
            let way = if name == "grad" { Way::WholeBatch } else { Way::Samples };
            let question = Question { mode, labels: ours.labels.as_ref(), ..Question::new(&names, way) };
            let found = compare(&ours, &expected(&network, &loss as &dyn Loss, &x, &y, &question).unwrap());
            assert!(!found.is_empty(), "{} for {title}: nothing compared", name);
            for one in found {
                assert!(one.error < 1e-10, "{title}: {one:?}");
            }
            held += 1;
        }
    }
    assert!(
        held > 300 && refused == 3 * 19 + 27 + 2 * 2 && left_out == 15 * 7 + 6 * 5,
        "{held} held, {refused} refused, {left_out} left out"
    );
}

/// BatchNorm's gradient while training goes through the batch's statistics, and the running ones move as libtorch's.
#[test]
fn batch_norm_trains_as_libtorchs() {
    let mut all = specimens().unwrap();
    let place = all.iter().position(|specimen| specimen.title() == "batch_norm2d while training").unwrap();
    let mut network = network(all.swap_remove(place));
    let x = normal(&mut stream(3, Purpose::Batch, 0), &[3, 4, 5, 6]);
    let before: Vec<Tensor> = network.buffers().iter().map(|(_, buffer)| buffer.copy()).collect();
    let mode = Mode::Training { seed: 0, step: 0 };
    let trace = network.forward(&x, mode).unwrap();
    let weight = network.parameters()[1].value.shallow_clone();
    let bias = network.parameters()[2].value.shallow_clone();
    let [mean, variance] = [0, 1].map(|number: usize| before[number].copy());
    let theirs =
        trace[0].output.batch_norm(Some(&weight), Some(&bias), Some(&mean), Some(&variance), true, 0.1, 1e-5, false);
    let close = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]) < 1e-12;
    assert!(close(&trace[1].output, &theirs));
    let (y, loss) = (Tensor::zeros([3], (Kind::Int64, Device::Cpu)), CrossEntropy::default());
    let pass = Pass::new(&network, &loss).take([BuiltIn::Grad]).unwrap().mode(mode).run(&x, &y).unwrap();
    network.update_buffers(&pass).unwrap();
    for ((_, ours), theirs) in network.buffers().iter().zip([mean, variance]) {
        assert!(close(ours, &theirs), "running statistics");
    }
}
