//! Numbers that single precision, in which runs compute, does not hold are refused where they stand; what it just holds
//! is trained with.

use crate::study_support::{Bench, text};
use backpack_run::config::Source;
use backpack_run::problems::definition;
use backpack_run::study::experiment::{Request, resolve};

/// Beyond single precision's range, in the forms that TOML has for numbers.
const BEYOND: [&str; 5] = ["1e39", "-1e39", "1e-46", "3.5e38", "1e308"];

fn assert_place(error: &str, file: &str, line: usize, key: &str, value: &str) {
    assert!(error.contains(&format!("{file}:{line}:")), "{key} = {value}: {error}");
    assert!(error.contains(&format!("`{key}`")) && error.contains(value), "{key} = {value}: {error}");
}

#[test]
fn problem_files_are_refused_with_the_line() {
    let head = "name = \"net\"\ndataset = \"mnist\"\nloss = \"cross_entropy\"\n";
    let layer = |lines: &str| format!("{head}[[layers]]\n{lines}");
    let linear = |init: &str, value: &str| {
        layer(&format!("type = \"linear\"\nout_features = 10\nweight_init = {{ {init} = {value} }}\n"))
    };
    for value in BEYOND {
        for (key, line, file) in [
            ("l2", 4, format!("{head}l2 = {value}\n[[layers]]\ntype = \"flatten\"\n")),
            ("alpha", 6, layer(&format!("type = \"elu\"\nalpha = {value}\n"))),
            ("negative_slope", 6, layer(&format!("type = \"leaky_relu\"\nnegative_slope = {value}\n"))),
            ("eps", 6, layer(&format!("type = \"batch_norm2d\"\neps = {value}\n"))),
            ("constant", 7, linear("constant", value)),
            ("normal", 7, linear("normal", value)),
            ("uniform", 7, linear("uniform", value)),
            ("truncated_normal", 7, linear("truncated_normal", value)),
        ] {
            let error = definition::parse(&Source::built_in("net.toml", &file)).expect_err(&file).to_string();
            assert_place(&error, "net.toml", line, key, value);
            // A negative one may be refused for that.
            assert!(error.contains("single precision") || value.starts_with('-'), "{file}: {error}");
        }
    }
}

#[test]
fn experiment_files_and_set_are_refused_with_the_line() {
    let folder = crate::support::temporary_folder();
    let path = folder.path().join("study.toml");
    for value in BEYOND {
        for (key, number) in [
            ("learning_rate", value.to_owned()),
            ("alpha", format!("[0.1, {value}]")),
            ("damping", format!("\"0.1,{value}\"")),
            ("lambda", value.to_owned()),
            ("l2", value.to_owned()),
        ] {
            std::fs::write(
                &path,
                format!("problem = \"mnist_logreg\"\n{key} = {number}\n[[optimizer]]\nname = \"kfac\"\n"),
            )
            .unwrap();
            let error = resolve(Request { file: Some(&path), ..Default::default() }).expect_err(key).to_string();
            assert_place(&error, "study.toml", 2, key, value);
            let set = ["problem=mnist_logreg", "optimizer=kfac"].map(str::to_owned).into_iter();
            let set: Vec<String> = set.chain([format!("{key}={number}")]).collect();
            let error = resolve(Request { set: &set, ..Default::default() }).expect_err(key).to_string();
            assert!(error.contains(&format!("`{key}`")) && error.contains("--set"), "{key} = {number}: {error}");
        }
    }
}

/// What is not refused is trained with, if only to diverge.
#[test]
fn what_single_precision_just_holds_fails_no_run() {
    let bench = Bench::new();
    let refused = bench.output("runs", "train --problem small.toml --optimizer sgd --lr 1e39");
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(bench.run_folders("runs").is_empty());
    let baselines = ["sgd", "momentum", "adam"].map(|name| format!("--optimizer {name} --lr 3.4e38,1e-45"));
    let curvatures = ["diag_ggn", "kfac"].map(|name| format!("--curv {name} --lr 3.4e38,1e-45 --damping 3.4e38,1e-45"));
    for optimizer in baselines.iter().chain(&curvatures) {
        for scheme in ["constant", "levenberg_marquardt", "trace"] {
            let options = match optimizer.starts_with("--curv") {
                true => format!("--set damping_scheme={scheme}"),
                false if scheme == "constant" => String::new(),
                false => continue,
            };
            for l2 in ["3.4e38", "1e-45"] {
                let command = format!("grid --problem small.toml {optimizer} --set l2={l2} {options} --epochs 1");
                let output = bench.output("runs", &command);
                assert!(output.status.success(), "{command}: {}", text(&output.stderr));
            }
        }
    }
}
