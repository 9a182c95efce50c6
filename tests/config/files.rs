//! The files that come with the program: every experiment of configs/, and the built-in problems.

use std::path::{Path, PathBuf};

use backpack_run::optimizers::{Averaging, OptionValue};
use backpack_run::problems::definition::{self, built_in_names};
use backpack_run::problems::{builder, layer_table};
use backpack_run::study::experiment::{Experiment, Metric, Request, SelectMode, resolve};
use tch::{Kind, Tensor};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

fn experiment(name: &str) -> Experiment {
    let path = configs().join(format!("{name}.toml"));
    resolve(Request { file: Some(&path), ..Default::default() }).unwrap()
}

/// The optimizers with the number of their settings.
fn counts(experiment: &Experiment) -> Vec<(&'static str, usize)> {
    experiment.optimizers.iter().map(|grid| (grid.name.as_str(), grid.count())).collect()
}

#[test]
fn every_experiment_is_named_like_its_file_and_reads() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(configs()).unwrap() {
        let stem = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(experiment(&stem).name, stem);
        names.push(stem);
    }
    for figure in ["fig7a", "fig7b", "fig10", "fig11"] {
        for name in [figure.to_owned(), format!("{figure}_quick"), format!("{figure}_published")] {
            assert!(names.contains(&name), "{name}");
        }
    }
    assert!(names.contains(&"quickstart".to_owned()));
}

#[test]
fn the_figures_have_the_papers_grids() {
    let curvatures = ["diag_ggn", "diag_ggn_mc", "kfac", "kflr", "kfra"];
    let some = |names: &[&'static str]| {
        let grid: Vec<_> = names.iter().map(|name| (*name, 30)).collect();
        [&grid[..], &[("momentum", 20), ("adam", 20)]].concat()
    };
    for (name, problem, epochs, batch_size, l2, expected) in [
        ("fig7a", "cifar10_3c3d", 100, 128, 0.002, some(&curvatures[..4])),
        ("fig7b", "cifar100_allcnnc", 350, 256, 0.0005, some(&curvatures[1..3])),
        ("fig10", "mnist_logreg", 50, 128, 0.0, some(&curvatures)),
        ("fig11", "fmnist_2c2d", 100, 128, 0.0, some(&curvatures[..4])),
    ] {
        let experiment = experiment(name);
        let definition = &experiment.problems[0];
        assert_eq!(experiment.problems.len(), 1);
        assert_eq!(definition.name, problem);
        assert_eq!((definition.epochs, definition.batch_size, definition.l2), (epochs, batch_size, l2), "{name}");
        // What the figure's file says is what the problem says by itself.
        assert_eq!(definition, &definition::load(problem).unwrap());
        assert_eq!(counts(&experiment), expected);
        assert_eq!(experiment.grid_seed, 42);
        assert_eq!(experiment.seeds, (42..52).collect::<Vec<u64>>());
        assert_eq!((experiment.select.metric, experiment.select.mode), (Metric::ValidAccuracies, SelectMode::Final));
        for grid in &experiment.optimizers {
            let of_curvature = |value: OptionValue| if grid.name.has_damping() { vec![value] } else { Vec::new() };
            assert_eq!(grid.values("averaging"), of_curvature(OptionValue::Averaging(Averaging::Cumulative)));
            let aliasing = if grid.name.as_str() == "kfra" { vec![OptionValue::Flag(true)] } else { Vec::new() };
            assert_eq!(grid.values("kfra_aliasing"), aliasing);
            if grid.name.has_damping() {
                assert_eq!(grid.learning_rates, [1e-4, 1e-3, 1e-2, 1e-1, 1.0]);
                assert_eq!(grid.dampings, [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]);
            }
        }
        let quick = self::experiment(&format!("{name}_quick"));
        let names = |experiment: &Experiment| experiment.optimizers.iter().map(|grid| grid.name).collect::<Vec<_>>();
        assert_eq!(names(&quick), names(&experiment));
        assert!(quick.optimizers.iter().map(|grid| grid.count()).sum::<usize>() <= 12);
    }
}

#[test]
fn the_published_twins_hold_table_3() {
    let settings = |name: &str| -> Vec<(String, f64, Option<f64>)> {
        let experiment = experiment(name);
        assert_eq!(experiment.seeds.len(), 10);
        let all = experiment.optimizers.iter().flat_map(|grid| grid.settings());
        all.map(|setting| (setting.name.to_string(), setting.learning_rate, setting.damping)).collect()
    };
    let expected = |rows: &[(&str, f64, f64)], momentum: f64, adam: f64| {
        let mut all: Vec<_> = rows.iter().map(|(name, lr, damping)| (name.to_string(), *lr, Some(*damping))).collect();
        all.push(("momentum".to_owned(), momentum, None));
        all.push(("adam".to_owned(), adam, None));
        all
    };
    // The baselines' learning rates are points of this grid.
    let grid = backpack_run::numbers::logspace(-5.0, 2.0, 20);
    let near = |value: f64| grid.iter().copied().find(|point| (point / value - 1.0).abs() < 1e-5).unwrap();
    assert_eq!(
        settings("fig10_published"),
        expected(
            &[
                ("diag_ggn", 1e-3, 1e-3),
                ("diag_ggn_mc", 1e-3, 1e-3),
                ("kfac", 1e-2, 1e-2),
                ("kflr", 1e-2, 1e-2),
                ("kfra", 1e-2, 1e-2)
            ],
            near(0.0206914),
            near(2.97635e-4)
        )
    );
    assert_eq!(
        settings("fig11_published"),
        expected(
            &[("diag_ggn", 1e-4, 1e-4), ("diag_ggn_mc", 1e-4, 1e-4), ("kfac", 1e-3, 1e-3), ("kflr", 1e-2, 1e-3)],
            near(0.0206914),
            near(1.27427e-4)
        )
    );
    assert_eq!(
        settings("fig7a_published"),
        expected(
            &[("diag_ggn", 1e-3, 1e-2), ("diag_ggn_mc", 1e-3, 1e-2), ("kfac", 1.0, 10.0), ("kflr", 1.0, 10.0)],
            near(0.00379269),
            near(2.97635e-4)
        )
    );
    assert_eq!(
        settings("fig7b_published"),
        expected(&[("diag_ggn_mc", 1e-3, 1e-3), ("kfac", 1.0, 1.0)], near(0.0483293), near(6.95193e-4))
    );
}

/// Name, parameters, places of the layers that have some, l2, batch size, epochs, augmentation.
type Facts = (&'static str, usize, &'static [&'static str], f64, usize, usize, bool);

#[test]
fn built_in_problems_are_those_of_the_paper() {
    const MLP: &[&str] = &["1", "3", "5", "7"];
    const TWO_C_TWO_D: &[&str] = &["0", "3", "7", "9"];
    const THREE_C_THREE_D: &[&str] = &["0", "3", "6", "10", "12", "14"];
    const ALL_CNN_C: &[&str] = &["1", "3", "5", "8", "10", "12", "15", "17", "19"];
    let facts: [Facts; 11] = [
        ("mnist_logreg", 7_850, &["1"], 0.0, 128, 50, false),
        ("mnist_mlp", 1_336_610, MLP, 0.0, 128, 100, false),
        ("mnist_2c2d", 3_274_634, TWO_C_TWO_D, 0.0, 128, 100, false),
        ("fmnist_logreg", 7_850, &["1"], 0.0, 128, 50, false),
        ("fmnist_mlp", 1_336_610, MLP, 0.0, 128, 100, false),
        ("fmnist_2c2d", 3_274_634, TWO_C_TWO_D, 0.0, 128, 100, false),
        ("cifar10_3c3d", 895_210, THREE_C_THREE_D, 0.002, 128, 100, true),
        ("cifar10_3c3d_sigmoid", 895_210, THREE_C_THREE_D, 0.002, 128, 100, true),
        ("cifar100_3c3d", 918_340, THREE_C_THREE_D, 0.002, 128, 100, true),
        ("cifar100_allcnnc", 1_387_108, ALL_CNN_C, 0.0005, 256, 350, true),
        ("svhn_3c3d", 895_210, THREE_C_THREE_D, 0.002, 128, 100, true),
    ];
    assert_eq!(built_in_names()[..11], facts.map(|facts| facts.0));
    for (name, count, places, l2, batch_size, epochs, augment) in facts {
        let definition = definition::load(name).unwrap();
        let rows = layer_table(&definition, input_shape(name)).unwrap();
        assert_eq!(definition.name, name);
        let parameters = rows.iter().flat_map(|row| &row.parameters);
        assert_eq!(parameters.map(|parameter| parameter.count).sum::<usize>(), count, "{name}");
        let with_parameters = rows.iter().filter(|row| !row.parameters.is_empty());
        assert_eq!(with_parameters.map(|row| row.index.as_str()).collect::<Vec<_>>(), places, "{name}");
        let classes = if name.starts_with("cifar100") { 100 } else { 10 };
        assert_eq!(rows.last().unwrap().output_shape, [classes], "{name}");
        assert_eq!((definition.l2, definition.batch_size), (l2, batch_size), "{name}");
        assert_eq!((definition.epochs, definition.augment), (epochs, augment), "{name}");
    }
}

fn input_shape(name: &str) -> &'static [i64] {
    if name.contains("mnist") { &[1, 28, 28] } else { &[3, 32, 32] }
}

/// Half the sum of the squared weights times l2, as the paper's losses include it.
fn regularizer(name: &str, seed: u64) -> f64 {
    let definition = definition::load(name).unwrap();
    let network = builder::build_network(&definition, input_shape(name), seed).unwrap();
    let squares = |value: &Tensor| f64::try_from(value.square().sum(Kind::Double)).unwrap();
    let weights = network.parameters();
    let weights = weights.iter().filter(|parameter| parameter.role == "weight");
    0.5 * definition.l2 * weights.map(|parameter| squares(parameter.value)).sum::<f64>()
}

#[test]
fn initial_weights_have_the_published_sizes() {
    assert!((regularizer("cifar10_3c3d", 42) / 1.262 - 1.0).abs() < 0.01);
    assert!((regularizer("cifar100_allcnnc", 42) / 0.306 - 1.0).abs() < 0.01);
}

#[test]
fn an_initial_network_depends_on_the_seed_alone() {
    let definition = definition::load("fmnist_2c2d").unwrap();
    let build = |seed| builder::build_network(&definition, &[1, 28, 28], seed).unwrap();
    let (first, again, other) = (build(42), build(42), build(43));
    for ((one, two), three) in first.parameters().iter().zip(again.parameters()).zip(other.parameters()) {
        assert_eq!(one.value, two.value);
        match one.role {
            // Every bias is the constant 0.05.
            "bias" => assert_eq!(*one.value, Tensor::from(0.05f32).expand_as(one.value)),
            _ => assert_ne!(one.value, three.value),
        }
    }
}

#[test]
fn what_a_file_says_for_all_does_not_bar_one_of_its_optimizers() {
    use backpack_run::study::experiment::{ExperimentKeys, GridKeys, OptionKeys};
    let fig10 = configs().join("fig10.toml");
    let chosen = |name: &str, averaging: Option<Averaging>, file: &Path| {
        let options = OptionKeys::default().with("averaging", averaging.map(OptionValue::Averaging));
        let grid = GridKeys { options, ..Default::default() };
        let flags = ExperimentKeys { optimizers: Some(vec![name.parse().unwrap()]), grid, ..Default::default() };
        resolve(Request { flags, file: Some(file), ..Default::default() })
    };
    // The file has `averaging` at its top, which momentum has not.
    let experiment = chosen("momentum", None, &fig10).unwrap();
    assert_eq!(counts(&experiment), [("momentum", 20)]);
    let experiment = chosen("kfac", None, &fig10).unwrap();
    let cumulative = [OptionValue::Averaging(Averaging::Cumulative)];
    assert_eq!(experiment.optimizers[0].values("averaging"), cumulative);
    // A flag is for what is chosen, and a file for what is in it.
    let error = chosen("momentum", Some(Averaging::None), &fig10).unwrap_err().to_string();
    assert!(error.contains("an averaging of curvature is given"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("baselines.toml");
    for key in ["damping = 0.1", "inverse_every = 3"] {
        let text = format!("schema = 1\nproblem = \"mnist_logreg\"\n{key}\n[[optimizer]]\nname = \"adam\"\n");
        std::fs::write(&file, text).unwrap();
        let error = resolve(Request { file: Some(&file), ..Default::default() }).unwrap_err().to_string();
        assert!(error.contains("none of the optimizers has"), "{error}");
    }
}

#[test]
fn problems_of_today_have_the_documented_sizes() {
    let facts: [(&str, usize, &[i64], &[i64]); 6] = [
        ("cifar10_resnet20", 272_474, &[3, 32, 32], &[10]),
        ("cifar10_vit", 460_906, &[3, 32, 32], &[10]),
        ("text_gpt", 801_536 + 128 * 65, &[64], &[65, 64]),
        ("text_lstm", 264_192 + 257 * 65, &[64], &[65, 64]),
        ("mnist_autoencoder", 2_837_314, &[1, 28, 28], &[1, 28, 28]),
        ("fmnist_autoencoder", 2_837_314, &[1, 28, 28], &[1, 28, 28]),
    ];
    assert_eq!(built_in_names()[11..], facts.map(|facts| facts.0));
    for (name, count, input, output) in facts {
        let definition = definition::load(name).unwrap();
        let rows = layer_table(&definition, input).unwrap();
        let parameters = rows.iter().flat_map(|row| &row.parameters);
        assert_eq!(parameters.map(|parameter| parameter.count).sum::<usize>(), count, "{name}");
        assert_eq!(rows.last().unwrap().output_shape, output, "{name}");
        assert!(!definition.drop_last, "{name}");
    }
}
