//! Training on a user's own data: labels at positions, targets of any shape, integers as inputs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use tch::{Device, Kind, Reduction, Tensor};

use crate::study_support::{Bench, state, text};
use crate::support;

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

/// `check` with these arguments.
fn check_output(bench: &Bench, arguments: &str) -> Output {
    support::program().arg("check").args(arguments.split_whitespace()).current_dir(bench.path()).output().unwrap()
}

fn check(bench: &Bench, arguments: &str) {
    let output = check_output(bench, arguments);
    assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
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
    let small = TOKENS.replace("num_embeddings = 7", "num_embeddings = 4");
    problem(&bench, "small-table", &small);
    let output = bench.output("none", "train --problem small-table.toml --optimizer adam --lr 0.1");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("the rows 0 to 3"), "{}", text(&output.stderr));
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

#[test]
fn a_text_is_split_at_its_end_and_its_characters_are_kept() {
    let bench = Bench::new();
    // 41 characters, 200 windows of 8: 20 of them for testing.
    let line = "the quick brown fox jumps over a lazy dög";
    let text_of: String = line.chars().cycle().take(1601).collect();
    std::fs::write(bench.path().join("own.txt"), &text_of).unwrap();
    let problem = |vocabulary: usize| {
        format!(
            "name = \"text\"\ndataset = {{ text = \"own.txt\", context = 7 }}\nloss = \"cross_entropy\"\nbatch_size = 10\nepochs = 4\n\
             valid_size = 30\n[[layers]]\ntype = \"embedding\"\nnum_embeddings = {vocabulary}\nembedding_dim = 8\n[[layers]]\ntype = \
             \"linear\"\nout_features = {vocabulary}\n[[layers]]\ntype = \"permute\"\ndims = [0, 2, 1]\n"
        )
    };
    let mut characters: Vec<char> = line.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    let count = characters.len();
    std::fs::write(bench.path().join("text.toml"), problem(count)).unwrap();
    bench.succeed("runs", "grid --problem text.toml --optimizer adam --lr 0.1");
    let run = bench.only_run("runs");
    let vocabulary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("vocabulary.json")).unwrap()).unwrap();
    let kept: Vec<char> =
        vocabulary["characters"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(kept, characters);
    // The last tenth of the windows, by hand.
    let numbers: Vec<i64> =
        text_of.chars().map(|c| characters.iter().position(|&other| other == c).unwrap() as i64).collect();
    let windows = Tensor::from_slice(&numbers[..1600]).view([200, 8]).narrow(0, 180, 20);
    let weights = tensors(&run.join("weights.safetensors"));
    let expected = mean(20, |start| {
        let window = windows.narrow(0, start, 10);
        let rows = weights["0.weight"].index_select(0, &window.narrow(1, 0, 7).reshape([-1]));
        let logits = rows.linear(&weights["1.weight"], Some(&weights["1.bias"]));
        let labels = window.narrow(1, 1, 7).reshape([-1]);
        f64::try_from(logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0)).unwrap()
    });
    let (loss, accuracy) = measured(&run);
    assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    assert!(accuracy.unwrap() > 0.5, "{accuracy:?}");
    // 150 windows are trained on, 15 steps an epoch.
    assert!(std::fs::read_to_string(run.join("steps.csv")).unwrap().contains("\n2,15,"));
    check(&bench, "--problem text.toml --quantities grad,kfac");

    // The word stands for the number, in networks and in what is kept of them.
    let by_word = problem(count).replace(&format!("= {count}"), "= \"vocabulary\"");
    std::fs::write(bench.path().join("text.toml"), by_word).unwrap();
    bench.succeed("word", "train --problem text.toml --optimizer adam --lr 0.1");
    let word = bench.only_run("word");
    assert_eq!(tensors(&word.join("weights.safetensors")), weights);
    assert!(std::fs::read_to_string(word.join("config.json")).unwrap().contains("\"num_embeddings\": \"vocabulary\""));
    bench.succeed("word", "train --problem text.toml --optimizer adam --lr 0.1 --jobs 2");
    assert_eq!(bench.only_run("word"), word, "a configuration reads back");
    let elsewhere = "train --problem text.toml --optimizer adam --lr 0.1 --set dataset=fashion_mnist_mini";
    let output = bench.output("none", elsewhere);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("number of a text's characters"), "{}", text(&output.stderr));
    std::fs::write(bench.path().join("text.toml"), problem(count)).unwrap();

    // Another text, and another context, are other data.
    let before = run.file_name().map(|_| run.parent().unwrap().to_owned()).unwrap();
    std::fs::write(bench.path().join("own.txt"), text_of.replace("fox", "xof")).unwrap();
    bench.succeed("other", "train --problem text.toml --optimizer adam --lr 0.1 --epochs 0");
    assert_ne!(bench.only_run("other").parent().unwrap().file_name(), before.file_name());

    std::fs::write(bench.path().join("text.toml"), problem(count - 1)).unwrap();
    let output = bench.output("none", "train --problem text.toml --optimizer adam --lr 0.1");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    std::fs::remove_file(bench.path().join("own.txt")).unwrap();
    let output = bench.output("none", "train --problem text.toml --optimizer adam --lr 0.1");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("text = \"FILE\", context = 7"), "{}", text(&output.stderr));
}

#[test]
fn inputs_are_the_targets_of_an_autoencoder() {
    let bench = Bench::new();
    let x = numbers(&[60, 2, 3], 0.3).gt(0.0).to_kind(Kind::Uint8) * 255;
    let labels = Tensor::zeros([60], (Kind::Int64, Device::Cpu));
    let own = [
        ("x", x.narrow(0, 0, 40)),
        ("y", labels.narrow(0, 0, 40)),
        ("x_test", x.narrow(0, 40, 20)),
        ("y_test", labels.narrow(0, 0, 20)),
    ];
    Tensor::write_safetensors(&own, bench.path().join("own.safetensors")).unwrap();
    let layers = "[[layers]]\ntype = \"flatten\"\n[[layers]]\ntype = \"linear\"\nout_features = 4\n[[layers]]\ntype = \
                  \"linear\"\nout_features = 6\n";
    problem(&bench, "auto", &format!("loss = \"bce_with_logits\"\ntargets = \"input\"\n{layers}"));
    let table = bench.succeed("runs", "grid --problem auto.toml --curv kfac --lr 0.1,1 --damping 1");
    assert!(table.contains("valid_losses"), "{table}");
    for run in bench.run_folders("runs") {
        let weights = tensors(&run.join("weights.safetensors"));
        let expected = mean(20, |start| {
            let x = x.narrow(0, 40 + start, 10).flatten(1, -1).to_kind(Kind::Float) / 255.0;
            let hidden = x.linear(&weights["1.weight"], Some(&weights["1.bias"]));
            let output = hidden.linear(&weights["2.weight"], Some(&weights["2.bias"]));
            let loss = output.binary_cross_entropy_with_logits::<Tensor>(&x, None, None, Reduction::Mean);
            f64::try_from(loss).unwrap()
        });
        let (loss, accuracy) = measured(&run);
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
        assert_eq!(accuracy, None, "an autoencoder is never right");
    }
    problem(&bench, "narrow", &format!("loss = \"mse\"\ntargets = \"input\"\n{}", layers.replace("= 6", "= 5")));
    let output = bench.output("none", "train --problem narrow.toml --optimizer sgd --lr 0.1");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("with 6 outputs"), "{}", text(&output.stderr));
}

/// The losses of a linear network at all of its test samples, from its weights.
fn linear_loss(run: &Path, x: &Tensor, y: &Tensor) -> f64 {
    let weights = tensors(&run.join("weights.safetensors"));
    let output = x.linear(&weights["0.weight"], Some(&weights["0.bias"]));
    f64::try_from(output.mse_loss(y, Reduction::Mean)).unwrap()
}

#[test]
fn the_last_smaller_batch_takes_part_unless_it_is_dropped() {
    let bench = Bench::new();
    let (x, y) = (numbers(&[70, 3], 0.2), numbers(&[70, 2], 0.5));
    let test = (x.narrow(0, 47, 23), y.narrow(0, 47, 23));
    let own = [
        ("x", x.narrow(0, 0, 47)),
        ("y", y.narrow(0, 0, 47)),
        ("x_test", test.0.shallow_clone()),
        ("y_test", test.1.shallow_clone()),
    ];
    Tensor::write_safetensors(&own, bench.path().join("own.safetensors")).unwrap();
    problem(&bench, "linear", "loss = \"mse\"\n[[layers]]\ntype = \"linear\"\nout_features = 2\n");
    let train = "train --problem linear.toml --optimizer sgd --lr 0.1";
    bench.succeed("whole", train);
    let run = bench.only_run("whole");
    let (loss, _) = measured(&run);
    let expected = linear_loss(&run, &test.0, &test.1);
    assert!((loss - expected).abs() < 1e-6, "all 23 test samples count the same: {loss} {expected}");
    // 37 samples to train on are four steps an epoch.
    let config_steps = std::fs::read_to_string(run.join("steps.csv")).unwrap();
    assert!(config_steps.lines().any(|line| line.starts_with("3,8,")), "{config_steps}");
    let config = std::fs::read_to_string(run.join("config.json")).unwrap();
    assert!(config.contains("\"drop_last\": false"), "{config}");

    bench.succeed("dropped", &format!("{train} --set drop_last=true"));
    let dropped = bench.only_run("dropped");
    let (loss, _) = measured(&dropped);
    let expected = linear_loss(&dropped, &test.0.narrow(0, 0, 20), &test.1.narrow(0, 0, 20));
    assert!((loss - expected).abs() < 1e-6, "the first 20 count: {loss} {expected}");
    assert_ne!(run.parent().unwrap().file_name(), dropped.parent().unwrap().file_name(), "its hash is another");
    // Runs of before had no such key, and dropped it.
    let config = std::fs::read_to_string(dropped.join("config.json")).unwrap();
    assert!(!config.contains("drop_last"), "{config}");
}

#[test]
fn runs_start_from_weights_known_by_their_content() {
    let bench = Bench::new();
    let (x, y) = (numbers(&[70, 3], 0.2), numbers(&[70, 2], 0.5));
    let own = [("x", x.shallow_clone()), ("y", y.shallow_clone()), ("x_test", x), ("y_test", y)];
    Tensor::write_safetensors(&own, bench.path().join("own.safetensors")).unwrap();
    let start = |scale: f64| {
        let tensors = [("0.weight", numbers(&[2, 3], 0.0) * scale), ("0.bias", numbers(&[2], 1.0) * scale)];
        Tensor::write_safetensors(&tensors, bench.path().join("w.safetensors")).unwrap();
    };
    start(1.0);
    problem(
        &bench,
        "linear",
        "loss = \"mse\"\nweights = \"w.safetensors\"\n[[layers]]\ntype = \"linear\"\nout_features = 2\n",
    );
    let train = "train --problem linear.toml --optimizer sgd --lr 0.1 --epochs 0";
    for seed in [1, 2] {
        bench.succeed("one", &format!("{train} --seed {seed}"));
    }
    let runs = bench.run_folders("one");
    assert_eq!(runs[0].parent(), runs[1].parent());
    let given = tensors(&bench.path().join("w.safetensors"));
    for run in &runs {
        assert_eq!(tensors(&run.join("weights.safetensors")), given, "for every seed");
    }
    start(2.0);
    bench.succeed("two", &format!("{train} --seed 1"));
    assert_ne!(bench.only_run("two").parent().unwrap().file_name(), runs[0].parent().unwrap().file_name());
    Tensor::write_safetensors(&[("0.weight", numbers(&[2, 3], 0.0))], bench.path().join("w.safetensors")).unwrap();
    let output = bench.output("three", train);
    assert!(text(&output.stderr).contains("`0.bias` of shape [2] is missing"), "{}", text(&output.stderr));
    assert!(!output.status.success());
}

#[test]
fn a_problem_without_data_is_checked_and_not_trained() {
    let bench = Bench::new();
    let layers = "[[layers]]\ntype = \"embedding\"\nnum_embeddings = 6\nembedding_dim = 2\n[[layers]]\ntype = \
                  \"flatten\"\n[[layers]]\ntype = \"linear\"\nout_features = 3\n";
    let write = |head: &str| {
        std::fs::write(bench.path().join("bare.toml"), format!("name = \"bare\"\n{head}\n{layers}")).unwrap();
    };
    write("input = { shape = [4], integers = 6 }");
    let output = check_output(&bench, "--problem bare.toml");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--set 'loss=cross_entropy'"), "{}", text(&output.stderr));
    check(&bench, "--problem bare.toml --set loss=cross_entropy --quantities grad,diag_ggn");
    check(&bench, "--problem bare.toml --set loss=mse --quantities grad");
    let output = bench.output("none", "train --problem bare.toml --set loss=mse --optimizer sgd --lr 1");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("a text of your own"), "{}", text(&output.stderr));
    write("input = { shape = [4], integers = 7 }");
    let output = check_output(&bench, "--problem bare.toml --set loss=mse");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("6 rows"), "{}", text(&output.stderr));
    write("dataset = \"mnist\"\ninput = { shape = [4] }");
    let output = check_output(&bench, "--problem bare.toml --set loss=mse");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("bare.toml:3"), "{}", text(&output.stderr));
}
