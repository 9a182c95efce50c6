//! Training on a user's own data: labels at positions, targets of any shape, integers as inputs.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Reduction, Tensor};

use crate::study_support::{Bench, state, text};

const HEAD: &str = "dataset = { safetensors = \"own.safetensors\" }\nbatch_size = 10\nepochs = 3\nvalid_size = 10\n";

fn problem(bench: &Bench, name: &str, rest: &str) {
    std::fs::write(bench.path().join(format!("{name}.toml")), format!("name = \"{name}\"\n{HEAD}{rest}")).unwrap();
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

fn numbers(shape: &[i64], seed: f64) -> Tensor {
    let count = shape.iter().product::<i64>();
    (Tensor::arange(count, (Kind::Float, Device::Cpu)) * (0.7 + seed)).sin().view(shape)
}

/// test_loss and test_accuracy of the last epoch.
fn measured(run: &Path) -> (f64, Option<f64>) {
    let table = std::fs::read_to_string(run.join("epochs.csv")).unwrap();
    let last: Vec<&str> = table.lines().last().unwrap().split(',').collect();
    (last[5].parse().unwrap(), last[6].parse().ok().filter(|value: &f64| !value.is_nan()))
}

/// The mean over the batches of the test samples, as they lie.
fn mean(samples: i64, mut of_batch: impl FnMut(i64) -> f64) -> f64 {
    (0..samples / 10).map(|batch| of_batch(10 * batch)).sum::<f64>() / (samples / 10) as f64
}

const TOKENS: &str = r#"
loss = "cross_entropy"
[[layers]]
type = "embedding"
num_embeddings = 7
embedding_dim = 4
[[layers]]
type = "linear"
out_features = 3
[[layers]]
type = "permute"
dims = [0, 2, 1]
"#;

#[test]
fn integers_with_a_label_at_every_position_are_learned() {
    let bench = Bench::new();
    let x = Tensor::arange(80 * 5, (Kind::Int64, Device::Cpu)).square().remainder(7).view([80, 5]);
    let y = x.remainder(3);
    let test = [x.narrow(0, 60, 20), y.narrow(0, 60, 20)];
    // Bytes are tokens to a network that looks them up, and so are integers of any width.
    for kind in [Kind::Uint8, Kind::Int, Kind::Int64] {
        let own = [
            ("x", x.narrow(0, 0, 60).to_kind(kind)),
            ("y", y.narrow(0, 0, 60)),
            ("x_test", test[0].to_kind(kind)),
            ("y_test", test[1].shallow_clone()),
        ];
        Tensor::write_safetensors(&own, bench.path().join("own.safetensors")).unwrap();
        problem(&bench, "tokens", TOKENS);
        let runs = format!("runs-{kind:?}");
        bench.succeed(&runs, "train --problem tokens.toml --optimizer adam --lr 0.1");
        let run = bench.only_run(&runs);
        let (loss, accuracy) = measured(&run);
        let weights = tensors(&run.join("weights.safetensors"));
        let logits = |start: i64| {
            let rows = weights["0.weight"].index_select(0, &test[0].narrow(0, start, 10).reshape([-1]));
            rows.linear(&weights["1.weight"], Some(&weights["1.bias"])).view([10, 5, 3]).permute([0, 2, 1])
        };
        let labels = |start: i64| test[1].narrow(0, start, 10);
        let expected = mean(20, |start| {
            let loss = logits(start).cross_entropy_loss::<Tensor>(&labels(start), None, Reduction::Mean, -100, 0.0);
            f64::try_from(loss).unwrap()
        });
        let hits = mean(20, |start| {
            let hits =
                logits(start).argmax(1, false).eq_tensor(&labels(start)).to_kind(Kind::Double).mean(Kind::Double);
            f64::try_from(hits).unwrap()
        });
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
        assert!((accuracy.unwrap() - hits).abs() < 1e-12, "{accuracy:?} {hits}");
        assert!(hits > 0.5, "it learns: {hits}");
    }
    // An integer that the embedding has no row for is refused before anything starts.
    let small = TOKENS.replace("num_embeddings = 7", "num_embeddings = 6");
    problem(&bench, "small-table", &small);
    let output = bench.output("none", "train --problem small-table.toml --optimizer adam --lr 0.1");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("the rows 0 to 5"), "{}", text(&output.stderr));
    // So are labels at other positions than the network's.
    problem(&bench, "flat", &format!("{TOKENS}[[layers]]\ntype = \"mean\"\ndim = 2\n"));
    let output = bench.output("none", "train --problem flat.toml --optimizer adam --lr 0.1");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("labels of shape [5]"), "{}", text(&output.stderr));
}

#[test]
fn targets_of_any_shape_are_learned_by_every_rule() {
    let bench = Bench::new();
    let x = numbers(&[60, 2, 4, 3], 0.1);
    let y = numbers(&[60, 2, 4, 3], 0.4).gt(0.0).to_kind(Kind::Float);
    let own = [
        ("x", x.narrow(0, 0, 40)),
        ("y", y.narrow(0, 0, 40)),
        ("x_test", x.narrow(0, 40, 20)),
        ("y_test", y.narrow(0, 40, 20)),
    ];
    Tensor::write_safetensors(&own, bench.path().join("own.safetensors")).unwrap();
    for loss in ["mse", "bce_with_logits"] {
        let layers = "[[layers]]\ntype = \"conv2d\"\nout_channels = 2\nkernel_size = 1\n";
        problem(&bench, loss, &format!("loss = \"{loss}\"\n{layers}"));
        for rule in
            ["--optimizer sgd --lr 0.1", "--curv diag_ggn --lr 0.1 --damping 1", "--curv kfac --lr 0.1 --damping 1"]
        {
            let runs = format!("runs-{loss}-{}", rule.len());
            bench.succeed(&runs, &format!("train --problem {loss}.toml {rule}"));
            let run = bench.only_run(&runs);
            assert_eq!(state(&run), "done");
            let (measured, accuracy) = measured(&run);
            let weights = tensors(&run.join("weights.safetensors"));
            let expected = mean(20, |start| {
                let (x, y) = (x.narrow(0, 40 + start, 10), y.narrow(0, 40 + start, 10));
                let output = x.conv2d(&weights["0.weight"], Some(&weights["0.bias"]), 1, 0, 1, 1);
                f64::try_from(match loss {
                    "mse" => output.mse_loss(&y, Reduction::Mean),
                    _ => output.binary_cross_entropy_with_logits::<Tensor>(&y, None, None, Reduction::Mean),
                })
                .unwrap()
            });
            assert!((measured - expected).abs() < 1e-6, "{loss} {rule}: {measured} {expected}");
            assert_eq!(accuracy.is_some(), loss == "bce_with_logits");
        }
    }
}
