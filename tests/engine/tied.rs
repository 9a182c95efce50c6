//! Parameters that several layers use: each use adds to what a sample gives before anything is squared.

use crate::optimizers::hyperparameters;
use backpack_run::backpack::layers::Mode;
use backpack_run::backpack::losses::Loss;
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
bias = false
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

fn holds(network: &Network, loss: &dyn Loss, x: &Tensor, y: &Tensor) {
    let input = &x.size()[1..];
    for quantity in all() {
        if why_not(network, input, Mode::Evaluation, quantity.as_ref()).unwrap().is_some() {
            continue;
        }
        // The Hessian's diagonal of the parameter itself is left out.
        if quantity.name().ends_with("hessian") {
            let numbers: Vec<usize> =
                left_out(network, quantity.as_ref()).into_iter().map(|(number, _)| number).collect();
            assert_eq!(numbers, [0], "{}", quantity.name());
            continue;
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
    let kfac = all().into_iter().find(|quantity| quantity.name() == "kfac").unwrap();
    assert!(left_out(&network, kfac.as_ref()).iter().any(|(number, _)| *number == 0));
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
}
