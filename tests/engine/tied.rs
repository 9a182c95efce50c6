//! Parameters that several layers use: each use adds to what a sample gives before anything is squared.

use crate::optimizers::hyperparameters;
use backpack_run::backpack::layers::{Gain, Linear, LinearOptions, Mode};
use backpack_run::backpack::losses::Loss;
use backpack_run::backpack::network::{Part, Value};
use backpack_run::backpack::oracle::{Question, Way, compare, expected};
use backpack_run::backpack::products::ggn_product;
use backpack_run::backpack::quantities::all;
use backpack_run::backpack::request::{left_out, why_not};
use backpack_run::backpack::{Network, Pass};
use backpack_run::config::Source;
use backpack_run::optimizers::{StepClock, build};
use backpack_run::problems::builder::{build_loss, build_network};
use backpack_run::problems::definition;
use backpack_run::random::{Purpose, normal, stream};
use tch::{Device, Kind, Tensor};

/// A language model whose head is its embedding, and a network that uses one matrix three times.
const LANGUAGE: &str = r#"
[[layers]]
type = "embedding"
name = "wte"
num_embeddings = 5
embedding_dim = 3
[[layers]]
type = "position_embedding"
[[layers]]
type = "layer_norm"
[[layers]]
type = "linear"
out_features = 4
[[layers]]
type = "tanh"
[[layers]]
type = "linear"
out_features = 3
[[layers]]
type = "linear"
name = "head"
out_features = 5
bias = false
tied = "wte"
[[layers]]
type = "permute"
dims = [0, 2, 1]
"#;
const THRICE: &str = r#"
[[layers]]
type = "linear"
name = "own"
out_features = 4
[[layers]]
type = "sigmoid"
[[layers]]
type = "linear"
out_features = 4
bias = false
tied = "own"
[[layers]]
type = "tanh"
[[layers]]
type = "linear"
out_features = 4
bias = false
tied = "own"
[[layers]]
type = "linear"
out_features = 2
"#;

fn network(layers: &str, loss: &str, input: &[i64]) -> (Network, Box<dyn Loss>) {
    let integers = if layers.contains("embedding") { ", integers = 5" } else { "" };
    let head = format!("name = 'n'\ninput = {{ shape = {input:?}{integers} }}\nloss = '{loss}'\n");
    let definition = definition::parse(&Source::built_in("n.toml", &format!("{head}{layers}"))).unwrap();
    let mut network = build_network(&definition, input, 3).unwrap();
    network.to(Kind::Double, Device::Cpu);
    (network, build_loss(&definition).unwrap())
}

/// A matrix used at each of several positions, behind itself by ways that mix them.
const TWICE: &str = r#"
[[layers]]
type = "linear"
name = "own"
out_features = 3
[[layers]]
type = "attention"
name = "mixed"
inputs = ["own", "own", "own"]
causal = true
[[layers]]
type = "linear"
out_features = 3
tied = "own"
[[layers]]
type = "gelu"
[[layers]]
type = "add"
inputs = ["previous", "mixed"]
[[layers]]
type = "linear"
out_features = 3
bias = false
tied = "own"
[[layers]]
type = "flatten"
[[layers]]
type = "linear"
out_features = 3
"#;

/// The factors that a quantity of one step has of a parameter.
fn factors(network: &Network, loss: &dyn Loss, (x, y): (&Tensor, &Tensor), parameter: &str) -> Vec<Vec<&'static str>> {
    let number = network.parameter_named(parameter).unwrap();
    let names = ["kfac", "kflr_expand", "kfac_reduce", "ekfac"];
    let taken = Pass::new(network, loss).take(names).unwrap().run(x, y).unwrap();
    let of = |quantity: &str| {
        let own = taken.values().iter().filter(|one| one.quantity == quantity && one.parameter == number);
        own.map(|one| one.factor).collect()
    };
    names.iter().map(|quantity| of(quantity)).collect()
}

/// What a bias has whose weight has no factors.
const OF_A_BIAS: [&[&str]; 4] = [&["B"], &["B"], &["B"], &["B", "eigenvalues"]];

/// Every quantity of a network, whole and in chunks of one vector of one sample.
fn holds(network: &Network, loss: &dyn Loss, x: &Tensor, y: &Tensor) {
    let input = &x.size()[1..];
    for quantity in all() {
        if why_not(network, input, Mode::Evaluation, quantity.as_ref()).unwrap().is_some() {
            continue;
        }
        if quantity.name().ends_with("hessian") {
            assert!(left_out(network, quantity.as_ref()).is_empty(), "{}", quantity.name());
        }
        let pass = Pass::new(network, loss).take([quantity.name()]).unwrap().seed(1).step(1);
        for chunk_bytes in [1, 1 << 30] {
            let ours = pass.clone().chunk_bytes(chunk_bytes).run(x, y).unwrap();
            let way = if quantity.name() == "grad" { Way::WholeBatch } else { Way::Samples };
            let names = [quantity.name()];
            let question = Question { labels: ours.labels.as_ref(), ..Question::new(&names, way) };
            let found = compare(&ours, &expected(network, loss, x, y, &question).unwrap());
            assert!(!found.is_empty(), "{}", quantity.name());
            for one in found {
                assert!(one.error < 1e-11, "{}: {one:?}", quantity.name());
            }
        }
    }
}

#[test]
fn a_head_is_its_embedding() {
    let (network, loss) = network(LANGUAGE, "cross_entropy", &[4]);
    let names: Vec<String> = network.parameters().into_iter().map(|parameter| parameter.name).collect();
    assert!(!names.contains(&"head.weight".to_owned()) && names[0] == "wte.weight", "{names:?}");
    let x = Tensor::from_slice(&[0i64, 3, 3, 1, 4, 4, 0, 2]).view([2, 4]);
    let y = Tensor::from_slice(&[3i64, 3, 1, 0, 4, 0, 2, 2]).view([2, 4]);
    holds(&network, loss.as_ref(), &x, &y);
    // A bias of its own has its factors though the weight has none.
    let (biased, loss) = self::network(&LANGUAGE.replace("bias = false\ntied", "tied"), "cross_entropy", &[4]);
    holds(&biased, loss.as_ref(), &x, &y);
    assert_eq!(factors(&biased, loss.as_ref(), (&x, &y), "head.bias"), OF_A_BIAS);
    let kfac = all().into_iter().find(|quantity| quantity.name() == "kfac").unwrap();
    assert!(left_out(&network, kfac.as_ref()).iter().any(|(number, _)| *number == 0));
}

#[test]
fn a_matrix_is_used_behind_itself_at_several_positions() {
    let (network, loss) = network(TWICE, "mse", &[4, 3]);
    let x = normal(&mut stream(1, Purpose::Batch, 0), &[2, 4, 3]);
    let y = normal(&mut stream(1, Purpose::Batch, 1), &[2, 3]);
    holds(&network, loss.as_ref(), &x, &y);
    // Nor does the layer that owns the matrix take the factors of its bias along.
    assert_eq!(factors(&network, loss.as_ref(), (&x, &y), "own.bias"), OF_A_BIAS);
    assert!(factors(&network, loss.as_ref(), (&x, &y), "own.weight").iter().all(Vec::is_empty));
}

/// Where a layer does not say how parameter and input meet, the diagonal leaves the parameter out.
#[test]
fn the_hessians_diagonal_leaves_out_what_it_cannot_have() {
    let gain = || Box::new(Gain::new(&[4], None, 1.0).unwrap());
    let mut again = Part::layer("again", gain(), Value::of_node(0));
    again.tied.insert("weight".to_owned(), "scale.weight".to_owned());
    let linear = Linear::new(&[4], &LinearOptions { out_features: 2, bias: true }).unwrap();
    let parts =
        vec![Part::layer("scale", gain(), Value::INPUT), again, Part::layer("fc", Box::new(linear), Value::of_node(1))];
    let network = Network::new(parts).unwrap();
    for quantity in all() {
        let numbers: Vec<usize> = left_out(&network, quantity.as_ref()).into_iter().map(|(number, _)| number).collect();
        let is_left_out = quantity.name().ends_with("hessian") || quantity.leaves_out_tied(&[]).is_some();
        assert_eq!(numbers.contains(&0), is_left_out, "{}", quantity.name());
    }
}

#[test]
fn one_matrix_is_used_three_times() {
    let (network, loss) = network(THRICE, "mse", &[4]);
    assert_eq!(network.uses(0), 3);
    let (x, y) =
        (normal(&mut stream(1, Purpose::Batch, 0), &[3, 4]), normal(&mut stream(1, Purpose::Batch, 1), &[3, 2]));
    holds(&network, loss.as_ref(), &x, &y);
    // Along one coordinate of the matrix the product with the GGN is what its diagonal says there.
    let diagonals = Pass::new(&network, loss.as_ref()).take(["diag_ggn"]).unwrap().run(&x, &y).unwrap();
    for place in [0, 6, 15] {
        let vector: Vec<Tensor> = network.parameters().iter().map(|parameter| parameter.value.zeros_like()).collect();
        let _ = vector[0].view([-1]).get(place).fill_(1.0);
        let product = ggn_product(&network, loss.as_ref(), &x, &y, Mode::Evaluation, &vector).unwrap();
        let entry = |tensor: &Tensor| tensor.reshape([-1]).double_value(&[place]);
        let (ours, diagonal) = (entry(&product[0]), entry(diagonals.get("diag_ggn", 0).unwrap()));
        assert!((ours - diagonal).abs() < 1e-12 * (1.0 + diagonal.abs()), "{ours} {diagonal}");
    }
}

#[test]
fn tied_weights_stay_tied() {
    let (mut network, _) = network(THRICE, "mse", &[4]);
    network.to(Kind::Float, Device::Cpu);
    let _ = network.parameters()[0].value.shallow_clone().fill_(0.25);
    for node in network.nodes().iter().filter(|node| node.kind() == "linear").take(3) {
        let weight = &node.parameters()[0].value;
        assert_eq!(f64::try_from(weight.mean(Kind::Double)).unwrap(), 0.25, "{}", node.name);
    }
}

/// A rule with factors takes the tied weight, wherever it is used, to be one parameter of the others, and steps once.
#[test]
fn rules_with_factors_step_a_tied_weight_once() {
    let biased = LANGUAGE.replace("bias = false\ntied", "tied");
    for (layers, name) in
        [LANGUAGE, &biased].into_iter().flat_map(|layers| ["kfac", "kflr", "ekfac", "foof"].map(|name| (layers, name)))
    {
        let (mut network, loss) = network(layers, "cross_entropy", &[4]);
        let mut optimizer = build(&hyperparameters(name), &network).unwrap();
        let x = Tensor::from_slice(&[0i64, 3, 3, 1, 4, 4, 0, 2]).view([2, 4]);
        let y = Tensor::from_slice(&[3i64, 3, 1, 0, 4, 0, 2, 2]).view([2, 4]);
        let pass = Pass::new(&network, loss.as_ref()).request(optimizer.request()).seed(1).step(1);
        let mut quantities = pass.run(&x, &y).unwrap();
        let before = network.parameters()[0].value.copy();
        let gradient = quantities.get("grad", 0).unwrap().copy();
        optimizer
            .step(&mut network, &mut quantities, &mut StepClock::off())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let diagonal = if name == "kflr" { "diag_ggn" } else { "diag_ggn_mc" };
        let damped = quantities.get(diagonal, 0).unwrap() + 0.03;
        let off = (network.parameters()[0].value - (before - gradient / damped * 0.1)).abs().max();
        assert!(f64::try_from(off).unwrap() < 1e-12, "{name}");
    }
    // A layer that owns it and has a bias is stepped whole.
    for name in ["kfac", "kflr", "ekfac", "foof"] {
        let (mut network, loss) = network(THRICE, "mse", &[4]);
        let mut optimizer = build(&hyperparameters(name), &network).unwrap();
        let (x, y) =
            (normal(&mut stream(1, Purpose::Batch, 0), &[3, 4]), normal(&mut stream(1, Purpose::Batch, 1), &[3, 2]));
        let pass = Pass::new(&network, loss.as_ref()).request(optimizer.request()).seed(1).step(1);
        let mut quantities = pass.run(&x, &y).unwrap();
        let before = network.parameters().iter().map(|parameter| parameter.value.copy()).collect::<Vec<_>>();
        optimizer.step(&mut network, &mut quantities, &mut StepClock::off()).unwrap();
        for (parameter, before) in network.parameters().iter().zip(before) {
            let moved = f64::try_from((parameter.value - before).abs().max()).unwrap();
            assert!(moved > 0.0, "{name}: {}", parameter.name);
        }
    }
}
