//! Every cell of the support table: the quantity is the oracle's, or it is refused before the pass, naming the layer.

use backpack_run::Error;
use backpack_run::backpack::layers::{
    Activation, Conv1d, Conv1dOptions, Conv2d, Conv2dOptions, Conv3d, Conv3dOptions, Flatten, Identity, Layer, Linear,
    LinearOptions, Mode,
};
use backpack_run::backpack::losses::{CrossEntropy, Loss, Reduction};
use backpack_run::backpack::network::Operation;
use backpack_run::backpack::oracle::{Question, Way, compare, expected};
use backpack_run::backpack::support::{Specimen, Support, specimens, table};
use backpack_run::backpack::{BuiltIn, Network, Part, Pass, Value};
use backpack_run::random::{Purpose, normal, stream, uniform};
use tch::{Device, Kind, Tensor};

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
