//! No text, however odd, makes the reading of configuration panic.

use backpack_run::cli::flags::StudyFlags;
use backpack_run::config::Source;
use backpack_run::numbers;
use backpack_run::problems::{builder, definition};
use backpack_run::study::experiment::{Request, resolve};
use clap::Parser;
use proptest::prelude::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    flags: StudyFlags,
}

const KEYS: &[&str] = &[
    "name",
    "dataset",
    "loss",
    "reduction",
    "batch_size",
    "epochs",
    "l2",
    "augment",
    "valid_size",
    "train_size",
    "layers",
    "schema",
    "problem",
    "threads",
    "grid_seed",
    "seeds",
    "select",
    "learning_rate",
    "alpha",
    "damping",
    "averaging",
    "optimizer",
    "curvature",
    "type",
    "kernel_size",
    "padding",
    "out_channels",
    "out_features",
    "p",
    "weight_init",
    "layrs",
];

const VALUES: &[&str] = &[
    "1",
    "0",
    "-1",
    "1.5",
    "nan",
    "-inf",
    "9223372036854775807",
    "0xff",
    "1_000",
    "true",
    "\"same\"",
    "\"mnist\"",
    "\"kfac\"",
    "\"mse\"",
    "\"ema:0.5\"",
    "\"logspace(-4, 0, 5)\"",
    "\"logspace(1e308, -1, 9999)\"",
    "[]",
    "[1, 2]",
    "[[1], [2]]",
    "{}",
    "{ constant = 1 }",
    "{ metric = \"x\" }",
    "1979-05-27",
    "\"é\\u0000\\u001b[31m\"",
    "'''\nx\n'''",
    "{ synthetic = { shape = [1, 2], classes = 2, train = 9, test = 3 } }",
    "\"42..51\"",
    "\"0..9223372036854775807\"",
    "\"../x.toml\"",
    "[{ type = \"relu\" }, { type = \"linear\", out_features = 3 }]",
];

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (prop::sample::select(KEYS), prop::sample::select(VALUES)).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => prop::sample::select(&["[[layers]]", "[[optimizer]]", "[select]", "[dataset.synthetic]", "[layers]"][..])
            .prop_map(str::to_owned),
        1 => ".{0,12}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::collection::vec(line(), 0..12).prop_map(|lines| lines.join("\n")),
        1 => prop::collection::vec(line(), 0..12).prop_map(|lines| format!("\u{feff}{}", lines.join("\r\n"))),
        1 => "\\PC{0,60}",
        1 => prop::collection::vec(any::<char>(), 0..40).prop_map(|letters| letters.into_iter().collect()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn problem_files(text in text()) {
        let head = "name = \"n\"\ndataset = \"mnist\"\nloss = \"mse\"\n";
        for text in [text.clone(), format!("{head}[[layers]]\n{text}"), format!("{head}{text}")] {
            match definition::parse(&Source::built_in("net.toml", &text)) {
                Ok(problem) => {
                    let _ = builder::build_network(&problem, &[1, 6, 5], 1);
                    let again = problem.to_toml().unwrap().to_string();
                    prop_assert_eq!(definition::parse(&Source::built_in("again.toml", &again)).unwrap(), problem);
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn set_arguments(text in text()) {
        let set = [text.clone(), text.replacen(" = ", "=", 1), text.replacen(" = \"", "=", 1)];
        for argument in &set {
            let arguments = ["problem=mnist_logreg".to_owned(), "optimizer=kfac".to_owned(), argument.clone()];
            let _ = resolve(Request { set: &arguments, ..Default::default() });
        }
    }

    #[test]
    fn lists(text in "[-+0-9.e,() lognspac]{0,40}") {
        if let Ok(values) = numbers::parse(&text) {
            prop_assert!((1..=numbers::MAX_POINTS).contains(&values.len()));
        }
        let _ = numbers::parse_seeds(&text);
        let _ = Command::try_parse_from(["grid", "--lr", &text, "--seeds", &text, "--slurm", &text, "--curv", &text]);
    }
}

proptest! {
    #[test]
    fn experiment_files(text in text()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.toml");
        for text in [text.clone(), format!("problem = \"mnist_logreg\"\n[[optimizer]]\n{text}"), format!("optimizer = \"kfac\"\n{text}")] {
            std::fs::write(&path, text).unwrap();
            let _ = resolve(Request { file: Some(&path), ..Default::default() });
        }
    }

    #[test]
    fn bytes_that_are_no_text(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.toml");
        std::fs::write(&path, &bytes).unwrap();
        prop_assert!(definition::load(path.to_str().unwrap()).is_err());
    }
}
