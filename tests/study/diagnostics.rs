//! Diagnostics of runs: they change no number, they survive kills whole, and TensorBoard can read them; and the options
//! of the curvature rules, whose state survives kills too.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use backpack_run::backpack::layers::Mode;
use backpack_run::backpack::{Pass, Quantities};
use backpack_run::optimizers::Measure;
use backpack_run::problems::builder;
use backpack_run::study::run::{DataCache, Trainer};
use tch::{Kind, Tensor};

use crate::study_support::{Bench, finish, signal, state, task, wait_for, without_times};
use prost::Message;

const KFAC: &str = "train --problem small.toml --curv kfac --lr 0.05 --damping 0.5 --epochs 6";
const DIAGNOSED: &str = " --diagnostics 7";

/// `Event` of TensorFlow's event.proto, as far as scalars need it.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, tag = "3")]
    file_version: String,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// The scalars of the run's one event file by tag, in the file's order; every checksum is verified by another crate
/// than the one that wrote it.
fn scalars(folder: &Path) -> BTreeMap<String, Vec<(i64, f32)>> {
    let files: Vec<_> = fs::read_dir(folder.join("tensorboard")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = fs::read(&files[0]).unwrap();
    let masked = |part: &[u8]| {
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(part);
        crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
    };
    let mut scalars: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let (mut place, mut events) = (0, 0);
    while place < bytes.len() {
        let (length, rest) = bytes[place..].split_at(8);
        assert_eq!(rest[..4], masked(length), "the length at byte {place}");
        let size = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let message = &rest[4..4 + size];
        assert_eq!(rest[4 + size..8 + size], masked(message), "the message at byte {place}");
        let event = Event::decode(message).unwrap();
        assert_eq!(event.file_version, if events == 0 { "brain.Event:2" } else { "" });
        for value in event.summary.into_iter().flat_map(|summary| summary.value) {
            scalars.entry(value.tag).or_default().push((event.step, value.simple_value));
        }
        (place, events) = (place + size + 16, events + 1);
    }
    scalars
}

/// The scalars that the tables of a run hold.
fn expected(folder: &Path) -> BTreeMap<String, Vec<(i64, f32)>> {
    let mut scalars: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let table = fs::read_to_string(folder.join("diagnostics.csv")).unwrap();
    assert!(table.starts_with("step,epoch,name,layer,value\n"), "{table}");
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        // The epoch that the step belongs to, of twenty steps.
        assert_eq!(fields[1].parse(), fields[0].parse::<usize>().map(|step| step / 20 + 1), "{line}");
        let tag = if fields[3] == "all" { fields[2].to_owned() } else { format!("{}/{}", fields[2], fields[3]) };
        let value: f64 = fields[4].parse().unwrap();
        scalars.entry(tag).or_default().push((fields[0].parse().unwrap(), value as f32));
    }
    let epochs = fs::read_to_string(folder.join("epochs.csv")).unwrap();
    for (epoch, line) in epochs.lines().skip(1).enumerate() {
        let values: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
        let tags = ["loss/train", "accuracy/train", "loss/valid", "accuracy/valid", "loss/test", "accuracy/test"];
        for (tag, value) in tags.iter().zip(&values[1..]) {
            scalars.entry((*tag).to_owned()).or_default().push((epoch as i64 * 20, *value as f32));
        }
    }
    scalars
}

fn table(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn they_change_no_number_and_tell_of_every_layer() {
    let bench = Bench::new();
    for (name, train) in [
        ("kfac", KFAC),
        ("diagonal", "train --problem small.toml --curv diag_ggn_mc --lr 0.05 --damping 0.5 --epochs 3"),
        // BatchNorm's running statistics move in every pass.
        ("adam", "train --problem normed.toml --optimizer adam --lr 0.01 --epochs 3"),
    ] {
        bench.succeed(name, train);
        let seen = format!("seen-{name}");
        bench.succeed(&seen, &format!("{train}{DIAGNOSED}"));
        let (plain, seen) = (bench.only_run(name), bench.only_run(&seen));
        assert_eq!(
            plain.components().rev().take(2).collect::<Vec<_>>(),
            seen.components().rev().take(2).collect::<Vec<_>>()
        );
        assert_eq!(without_times(&table(&plain, "epochs.csv")), without_times(&table(&seen, "epochs.csv")), "{name}");
        for file in ["steps.csv", "config.json"] {
            assert_eq!(table(&plain, file), table(&seen, file), "{name} {file}");
        }
        assert!(
            fs::read(plain.join("weights.safetensors")).unwrap() == fs::read(seen.join("weights.safetensors")).unwrap()
        );
        assert!(!plain.join("diagnostics.csv").exists() && !plain.join("tensorboard").exists());
        let scalars = scalars(&seen);
        assert_eq!(scalars, expected(&seen));
        let mut tags = vec!["gradient_norm", "update_norm/0", "failed_inverses", "loss/train", "accuracy/test"];
        match name {
            "kfac" => tags.extend([
                "gradient_snr",
                "noise_scale/0",
                "largest_curvature",
                "mean_curvature/5",
                "damping",
                "damping_share/0",
                "condition_number_a/5",
                "condition_number_b/0",
            ]),
            "diagonal" => tags.extend(["noise_scale", "largest_curvature/5", "damping_share/5"]),
            _ => assert!(!scalars.contains_key("noise_scale"), "the samples depend on each other"),
        }
        for tag in tags {
            let series = scalars.get(tag).unwrap_or_else(|| panic!("{name}: no {tag} in {:?}", scalars.keys()));
            assert!(series.iter().all(|(_, value)| value.is_finite() && *value >= 0.0), "{tag}: {series:?}");
            if !tag.contains("loss") && !tag.contains("accuracy") {
                assert!(series.iter().enumerate().all(|(place, (step, _))| *step == 7 * place as i64), "{tag}");
            }
        }
    }
}

#[test]
fn plain_sgd_moves_by_its_learning_rate_times_the_gradient() {
    let bench = Bench::new();
    let plain = fs::read_to_string(bench.path().join("small.toml")).unwrap().replace("l2 = 0.001", "l2 = 0.0");
    fs::write(bench.path().join("small.toml"), plain).unwrap();
    bench.succeed("runs", "train --problem small.toml --optimizer sgd --lr 0.25 --epochs 1 --diagnostics 1");
    let scalars = scalars(&bench.only_run("runs"));
    for (gradient, update) in scalars["gradient_norm"].iter().zip(&scalars["update_norm"]) {
        assert!((update.1 - 0.25 * gradient.1).abs() < 1e-5 * gradient.1, "{gradient:?} {update:?}");
    }
}

#[test]
fn killed_runs_lose_and_double_nothing_whatever_is_switched_on() {
    let bench = Bench::new();
    let options = "--set momentum=0.8 --set damping_scheme=levenberg_marquardt";
    let kfac = format!("{KFAC} {options} --set inverse_every=13 --set kfac_approx=expand --epochs 30");
    let kfac = kfac.replace("--epochs 6 ", "");
    let diagonal =
        format!("train --problem small.toml --curv diag_ggn_mc --lr 0.05 --damping 0.5 --epochs 30 {options}");
    for (name, train) in [("kfac", format!("{kfac}{DIAGNOSED}")), ("diagonal", format!("{diagonal}{DIAGNOSED}"))] {
        bench.succeed(name, &train);
        let killed = format!("killed-{name}");
        let often = format!("{train} --checkpoint-seconds 0.02");
        let mut halfway = 0;
        for delay in [40, 130, 60, 180, 25, 90] {
            let child = bench.start(&killed, &often);
            wait_for("a checkpoint", || {
                bench
                    .run_folders(&killed)
                    .iter()
                    .any(|run| run.join("checkpoint.safetensors").exists() || state(run) == "done")
            });
            std::thread::sleep(std::time::Duration::from_millis(delay));
            signal(&child, libc::SIGKILL);
            finish(child);
            halfway += usize::from(state(&bench.only_run(&killed)) == "running");
        }
        bench.succeed(&killed, &often);
        assert!(halfway >= 2, "{name}: only {halfway} kills came before the end");
        let (whole, killed) = (bench.only_run(name), bench.only_run(&killed));
        assert_eq!(without_times(&table(&whole, "epochs.csv")), without_times(&table(&killed, "epochs.csv")), "{name}");
        for file in ["steps.csv", "diagnostics.csv", "config.json"] {
            assert!(table(&whole, file) == table(&killed, file), "{name} {file}");
        }
        // As text, since NaN (a layer whose gradients have vanished has no noise scale) is not equal to itself.
        assert!(format!("{:?}", scalars(&killed)) == format!("{:?}", scalars(&whole)), "{name}");
    }
}

/// The damping that a step used is told, not the one that its reduction ratio has made of it.
#[test]
fn the_damping_told_is_that_of_the_step() {
    let bench = Bench::new();
    let adapted = "--diagnostics 1 --set damping_scheme=levenberg_marquardt";
    bench.succeed(
        "runs",
        &format!("train --problem small.toml --curv kfac --lr 0.05 --damping 0.5 --epochs 1 {adapted}"),
    );
    let scalars = scalars(&bench.only_run("runs"));
    let damping: Vec<f32> = scalars["damping"].iter().map(|(_, value)| *value).collect();
    // The damping changes after each fifth step.
    assert!(damping[..5].iter().all(|value| *value == 0.5), "{damping:?}");
    assert!(damping[5] != 0.5, "{damping:?}");
}

#[test]
fn every_option_has_a_folder_and_numbers_of_its_own() {
    let bench = Bench::new();
    bench.succeed("runs", KFAC);
    let plain = table(&bench.only_run("runs"), "steps.csv");
    for option in [
        "inverse_every=5",
        "momentum=0.5",
        "damping_scheme=levenberg_marquardt",
        "damping_scheme=trace",
        "kfac_approx=expand",
        "kfac_approx=reduce",
    ] {
        bench.succeed(option, &format!("{KFAC} --set {option}"));
        let folder = bench.only_run(option);
        assert_ne!(table(&folder, "steps.csv"), plain, "{option} changes nothing");
        assert_ne!(folder.parent().unwrap().file_name(), bench.only_run("runs").parent().unwrap().file_name());
    }
    for option in
        ["inverse_every=1", "momentum=0", "damping_scheme=constant", "kfac_approx=backpack", "others=diagonal"]
    {
        bench.succeed("runs", &format!("{KFAC} --set {option}"));
        bench.only_run("runs");
    }
    for (train, key) in [
        ("train --problem small.toml --optimizer adam --lr 0.1 --set momentum=0.5", "momentum"),
        ("train --problem small.toml --curv diag_ggn --lr 0.1 --damping 1 --set kfac_approx=expand", "kfac_approx"),
        (
            "train --problem small.toml --curv kfac --lr 0.1 --damping 1 --set kfc_scale=true",
            "kfac_approx = \"expand\"",
        ),
    ] {
        let output = bench.output("runs", train);
        assert_eq!(output.status.code(), Some(2));
        assert!(crate::study_support::text(&output.stderr).contains(key));
    }
}

/// What is told of the first step of small.toml's training, these quantities of its batch before the step, and the
/// parameters before and after.
fn first_step(bench: &Bench, curvature: &str, names: &[&str]) -> (Vec<Measure>, Quantities, [Vec<Tensor>; 2]) {
    let problem = bench.path().join("small.toml");
    let task = task(bench, &format!("--problem {} --lr 0.05 --damping 0.5 --curv {curvature}", problem.display()));
    let mut cache = DataCache::default();
    let mut trainer = Trainer::new(&task.settings, 42, cache.get(&task).unwrap()).unwrap();
    let order = trainer.train_order(0);
    let batch = trainer.feed().train_batch(&order, 0, 0).unwrap();
    let loss = builder::build_loss(&task.settings.problem).unwrap();
    let mode = Mode::Training { seed: 42, step: 0 };
    let pass = Pass::new(trainer.network(), loss.as_ref()).take(names.iter().copied()).unwrap().mode(mode);
    let quantities = pass.run(&batch.x, &batch.y).unwrap();
    let values = |trainer: &Trainer| -> Vec<Tensor> {
        trainer.network().parameters().iter().map(|parameter| parameter.value.to_kind(Kind::Double).copy()).collect()
    };
    let before = values(&trainer);
    let (_, measures, _) = trainer.step_diagnosed(&order, 0, 0, false).unwrap();
    (measures, quantities, [before, values(&trainer)])
}

fn told(measures: &[Measure], name: &str, layer: &str) -> f64 {
    let found: Vec<_> = measures.iter().filter(|measure| measure.name == name && measure.layer == layer).collect();
    assert_eq!(found.len(), 1, "{name} of {layer}");
    found[0].value
}

fn assert_near(measures: &[Measure], name: &str, layer: &str, expected: f64) {
    let told = told(measures, name, layer);
    assert!((told / expected - 1.0).abs() < 1e-4, "{name} of {layer}: {told}, expected {expected}");
}

fn sum(tensor: &Tensor) -> f64 {
    f64::try_from(tensor.to_kind(Kind::Double).sum(Kind::Double)).unwrap()
}

/// The places of the parameters of each layer, and of all: weights before biases.
const LAYERS: [(&str, &[usize]); 3] = [("0", &[0, 1]), ("5", &[2, 3]), ("all", &[0, 1, 2, 3])];

/// From the samples' own gradients, in double precision.
#[test]
fn norms_and_noise_are_those_of_the_individual_gradients() {
    let bench = Bench::new();
    let (measures, quantities, [before, after]) = first_step(&bench, "diag_ggn", &["batch_grad", "variance"]);
    let samples = 50.0;
    let parts: Vec<[f64; 5]> = (0..4)
        .map(|place| {
            // Each is divided by the number of samples.
            let individual = quantities.get("batch_grad", place).unwrap().to_kind(Kind::Double) * samples;
            let mean = individual.mean_dim([0i64].as_slice(), false, Kind::Double);
            let variance = (&individual - &mean).square().sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
            let variance = variance / (samples - 1.0);
            // Entries that vary by rounding alone are told apart by the quantity itself.
            let varies = quantities.get("variance", place).unwrap().gt(0.0);
            let ratios = (mean.square() / &variance).where_self(&varies, &Tensor::from(0f64));
            let update = (&after[place] - &before[place]).square();
            [sum(&mean.square()), sum(&variance), sum(&ratios), sum(&varies), sum(&update)]
        })
        .collect();
    for (layer, places) in LAYERS {
        let of = |part: usize| places.iter().map(|place| parts[*place][part]).sum::<f64>();
        assert_near(&measures, "gradient_norm", layer, of(0).sqrt());
        assert_near(&measures, "noise_scale", layer, of(1) / of(0));
        assert_near(&measures, "gradient_snr", layer, of(2) / of(3));
        assert_near(&measures, "update_norm", layer, of(4).sqrt());
    }
}

/// Units that are off for every sample have gradients without size or variance, and count for no ratio.
#[test]
fn what_does_not_vary_has_no_ratio() {
    let bench = Bench::new();
    let small = fs::read_to_string(bench.path().join("small.toml")).unwrap();
    let off = small.replace("kernel_size = 3\n", "kernel_size = 3\nbias_init = { constant = -100.0 }\n");
    fs::write(bench.path().join("small.toml"), off).unwrap();
    let (measures, quantities, _) = first_step(&bench, "diag_ggn", &["batch_grad"]);
    let individual = quantities.get("batch_grad", 3).unwrap().to_kind(Kind::Double) * 50.0;
    let mean = individual.mean_dim([0i64].as_slice(), false, Kind::Double);
    let variance = (&individual - &mean).square().sum_dim_intlist([0i64].as_slice(), false, Kind::Double) / 49.0;
    // The last layer's bias alone has a gradient.
    assert_eq!(told(&measures, "gradient_norm", "0"), 0.0);
    assert!(told(&measures, "gradient_snr", "0").is_nan());
    for layer in ["5", "all"] {
        assert_near(&measures, "gradient_snr", layer, sum(&(mean.square() / &variance)) / 4.0);
        assert_near(&measures, "noise_scale", layer, sum(&variance) / sum(&mean.square()));
    }
}

#[test]
fn the_curvature_told_is_that_of_the_diagonal() {
    let bench = Bench::new();
    let (measures, quantities, _) = first_step(&bench, "diag_ggn", &["diag_ggn"]);
    for (layer, places) in LAYERS {
        let diagonals: Vec<&Tensor> = places.iter().map(|place| quantities.get("diag_ggn", *place).unwrap()).collect();
        let largest = diagonals.iter().map(|diagonal| f64::try_from(diagonal.max()).unwrap()).fold(0.0, f64::max);
        let whole: f64 = diagonals.iter().map(|diagonal| sum(diagonal)).sum();
        let count: f64 = diagonals.iter().map(|diagonal| diagonal.numel() as f64).sum();
        assert_near(&measures, "largest_curvature", layer, largest);
        assert_near(&measures, "mean_curvature", layer, whole / count);
        if layer != "all" {
            let damping = 0.501 * diagonals[0].numel() as f64 + 0.5 * diagonals[1].numel() as f64;
            assert_near(&measures, "damping_share", layer, damping / (whole + damping));
        }
    }
    assert_near(&measures, "damping", "all", 0.5);
}

/// A rotation changes no trace: the eigenvalues have the mean of the diagonal, in whatever basis.
#[test]
fn the_curvature_told_of_a_corrected_eigenbasis_is_that_of_the_diagonal() {
    let bench = Bench::new();
    let (measures, quantities, _) = first_step(&bench, "ekfac", &["diag_ggn_mc"]);
    let (mut whole, mut count) = (0.0, 0.0);
    for (layer, place) in [("0", 0), ("5", 2)] {
        let diagonal = quantities.get("diag_ggn_mc", place).unwrap();
        let entries = diagonal.numel() as f64;
        let mean = sum(diagonal) / entries;
        assert_near(&measures, "mean_curvature", layer, mean);
        assert_near(&measures, "damping_share", layer, 0.501 / (mean + 0.501));
        assert!(told(&measures, "largest_curvature", layer) >= mean, "{layer}");
        whole += sum(diagonal);
        count += entries;
    }
    assert_near(&measures, "mean_curvature", "all", whole / count);
}

#[test]
fn the_curvature_told_is_that_of_the_kronecker_factors() {
    let bench = Bench::new();
    let (measures, quantities, _) = first_step(&bench, "kflr", &["kflr"]);
    let (mut most, mut whole, mut count) = (0.0, 0.0, 0.0);
    for (layer, place) in [("0", 0), ("5", 2)] {
        let [a, b] = ["A", "B"].map(|name| quantities.factor("kflr", place, name).unwrap().to_kind(Kind::Double));
        // The product itself, with all its entries.
        let diagonal = b.kron(&a).diagonal(0, 0, 1);
        let mean = f64::try_from(diagonal.mean(Kind::Double)).unwrap();
        let largest = f64::try_from(diagonal.max()).unwrap();
        assert_near(&measures, "largest_curvature", layer, largest);
        assert_near(&measures, "mean_curvature", layer, mean);
        let average = |factor: &Tensor| f64::try_from(factor.diagonal(0, 0, 1).mean(Kind::Double)).unwrap();
        let (pi, root) = ((average(&a) / average(&b)).sqrt(), 0.501f64.sqrt());
        let damped = |factor: &Tensor, shift: f64| {
            factor + Tensor::eye(factor.size()[0], (Kind::Double, tch::Device::Cpu)) * shift
        };
        let (a, b) = (damped(&a, pi * root), damped(&b, root / pi));
        let all = f64::try_from(b.kron(&a).diagonal(0, 0, 1).mean(Kind::Double)).unwrap();
        assert_near(&measures, "damping_share", layer, 1.0 - mean / all);
        for (name, factor) in [("condition_number_a", a), ("condition_number_b", b)] {
            let values = factor.linalg_eigvalsh("L");
            let condition = f64::try_from(values.max()).unwrap() / f64::try_from(values.min()).unwrap();
            assert_near(&measures, name, layer, condition);
        }
        most = largest.max(most);
        whole += sum(&diagonal);
        count += diagonal.numel() as f64;
    }
    assert_near(&measures, "largest_curvature", "all", most);
    assert_near(&measures, "mean_curvature", "all", whole / count);
}

#[test]
fn a_studys_diagnostics_go_into_its_results_and_its_report() {
    let bench = Bench::new();
    let study = r#"
schema = 1
problem = "small.toml"
epochs = 1
seeds = [42, 43]
diagnostics = 10
[[optimizer]]
name = "momentum"
learning_rate = 0.01
[[optimizer]]
name = "kfac"
label = "KFAC of the batch"
averaging = "none"
learning_rate = 0.05
damping = 0.5
"#;
    fs::write(bench.path().join("told.toml"), study).unwrap();
    bench.succeed("runs", "study told.toml --results-dir results");
    let results = bench.path().join("results/told");
    let told = fs::read_to_string(results.join("diagnostics.csv")).unwrap();
    // Every row of every run, with whose it is before it.
    let mut expected = vec!["problem,optimizer,seed,step,epoch,name,layer,value".to_owned()];
    for (folder, optimizer) in [("momentum", "Momentum"), ("kfac", "KFAC of the batch")] {
        for seed in [42, 43] {
            let runs = bench.run_folders("runs").into_iter();
            let mut runs = runs.filter(|run| {
                let path = run.display().to_string();
                path.contains(&format!("/small/{folder}/")) && path.ends_with(&format!("seed-{seed}"))
            });
            let rows = fs::read_to_string(runs.next().unwrap().join("diagnostics.csv")).unwrap();
            assert!(runs.next().is_none());
            expected.extend(rows.lines().skip(1).map(|row| format!("small,{optimizer},{seed},{row}")));
        }
    }
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);

    bench.succeed("runs", "report told --results-dir results");
    assert!(results.join("figures/diagnostics_small.svg").is_file());

    // Results of the same study without diagnostics hold none.
    fs::write(bench.path().join("told.toml"), study.replace("diagnostics = 10\n", "")).unwrap();
    bench.succeed("runs", "study told.toml --results-dir results");
    assert!(!results.join("diagnostics.csv").exists());
}
