//! `spectrum` through the program: what it prints and writes, parts of samples, refusals and interruption.

use std::collections::BTreeMap;
use std::path::Path;

use assert_cmd::Command;
use backpack_run::backpack::tensor_file;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::support;

const NET: &str = r#"
name = "net"
input = { shape = [3] }
loss = "cross_entropy"
[[layers]]
type = "linear"
out_features = 4
[[layers]]
type = "tanh"
[[layers]]
type = "linear"
out_features = 3
"#;

/// A folder with the problem and a batch of 12 samples.
fn folder() -> tempfile::TempDir {
    let folder = support::temporary_folder();
    std::fs::write(folder.path().join("net.toml"), NET).unwrap();
    let x = (Tensor::arange(36, (Kind::Double, Device::Cpu)) * 0.7).sin().view([12, 3]);
    let y = Tensor::arange(12, (Kind::Int64, Device::Cpu)).remainder(3);
    tensor_file::write(&folder.path().join("b"), &[("x".to_owned(), x), ("y".to_owned(), y)], &BTreeMap::new())
        .unwrap();
    folder
}

fn command(folder: &Path, more: &str) -> Command {
    let mut command = support::program();
    let all = format!("spectrum --problem net.toml --batch b --dtype f64 --threads 1 {more}");
    command.current_dir(folder).args(all.split_whitespace());
    command
}

fn json(folder: &Path, more: &str) -> Value {
    let output = command(folder, &format!("{more} --format json")).assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

fn values(document: &Value, end: &str) -> Vec<f64> {
    let all = document["eigenvalues"][end].as_array().unwrap();
    all.iter().map(|one| one["value"].as_f64().unwrap()).collect()
}

#[test]
fn a_spectrum_is_written_as_json_csv_and_a_figure_and_does_not_depend_on_parts() {
    let folder = folder();
    let whole = json(folder.path(), "--matrix hessian --largest 31 --trace-products 120 --out out");
    let all = values(&whole, "largest");
    assert_eq!((whole["parameters"].as_i64(), all.len()), (Some(31), 31));
    assert!(all.windows(2).all(|pair| pair[0] >= pair[1]) && all[30] < 0.0);
    // As many directions as rows: the trace is the eigenvalues' sum.
    let trace = whole["trace"]["value"].as_f64().unwrap();
    assert!((all.iter().sum::<f64>() - trace).abs() < 1e-12, "{trace}");
    let written: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("out/spectrum.json")).unwrap()).unwrap();
    assert_eq!(written, whole);
    let csv = std::fs::read_to_string(folder.path().join("out/spectrum.csv")).unwrap();
    assert!(csv.starts_with("quantity,place,value,bar\nlargest,1,") && csv.lines().count() == 33, "{csv}");
    let density = std::fs::read_to_string(folder.path().join("out/density.csv")).unwrap();
    assert_eq!((density.lines().next(), density.lines().count()), (Some("eigenvalue,density,low,high"), 1002));
    for ending in ["svg", "png", "pdf"] {
        assert!(folder.path().join(format!("out/density.{ending}")).metadata().unwrap().len() > 1000, "{ending}");
    }
    for (matrix, more) in [("hessian", ""), ("ggn", ""), ("fisher", "--mc-samples 2")] {
        let asked = format!("--matrix {matrix} --largest 5 --smallest 2 --density-vectors 0 {more}");
        let (one, parts) = (json(folder.path(), &asked), json(folder.path(), &format!("{asked} --batch-size 5")));
        for end in ["largest", "smallest"] {
            for (one, other) in values(&one, end).iter().zip(values(&parts, end)) {
                assert!((one - other).abs() < 1e-10, "{matrix}: {one} {other}");
            }
        }
        let error = one["trace"]["value"].as_f64().unwrap() - parts["trace"]["value"].as_f64().unwrap();
        assert!(error.abs() < 1e-12 && one["density"].is_null());
        assert_eq!(one["mc"].is_null(), matrix != "fisher");
    }
}

#[test]
fn what_cannot_be_had_is_refused_before_anything_is_computed() {
    let folder = folder();
    let cases = [
        ("--matrix ggn --trace-products 5", "from 6 to 100000"),
        ("--matrix ggn --memory-budget 1KiB", "--memory-budget"),
        ("--matrix ggn --set loss=mse", "floats"),
        ("--matrix fischer", "fisher"),
    ];
    for (arguments, expected) in cases {
        let output = command(folder.path(), &format!("{arguments} --out out")).assert().code(2);
        let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(text.contains(expected), "{arguments}: {text}");
    }
    assert!(!folder.path().join("out").exists() && !folder.path().join("out.partial").exists());
}

#[test]
fn without_samples_the_ways_to_give_them_are_named() {
    let folder = folder();
    let named = "name = \"own\"\ndataset = \"mnist\"\nloss = \"cross_entropy\"\n[[layers]]\ntype = \"flatten\"\n";
    std::fs::write(folder.path().join("own.toml"), named).unwrap();
    for command in ["spectrum --matrix ggn", "extract --out q"] {
        for (problem, split) in [("net.toml", false), ("own.toml", true)] {
            let mut program = support::program();
            program.current_dir(folder.path()).args(command.split_whitespace()).args(["--problem", problem]);
            let output = program.assert().code(2);
            let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
            let places = ["--split train --samples", "--batch FILE"].map(|way| text.find(way));
            assert_eq!(places[0].is_some(), split, "{text}");
            assert!(places[1].is_some() && places[0] < places[1], "{text}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_spectrum_goes_on_to_the_same_bytes_and_is_never_taken_for_whole() {
    let folder = folder();
    let x = (Tensor::arange(3 * 250, (Kind::Double, Device::Cpu)) * 0.7).sin().view([250, 3]);
    let y = Tensor::arange(250, (Kind::Int64, Device::Cpu)).remainder(3);
    tensor_file::write(&folder.path().join("b"), &[("x".to_owned(), x), ("y".to_owned(), y)], &BTreeMap::new())
        .unwrap();
    let start = |arguments: &str| {
        let mut command = std::process::Command::new(support::program_path());
        command.env("BACKPACK_RUN_CACHE", support::cache()).current_dir(folder.path());
        let all = format!("spectrum --problem net.toml --batch b --threads 1 --batch-size 1 {arguments}");
        command.args(all.split_whitespace()).stderr(std::process::Stdio::null());
        command
    };
    let exists = |name: &str| folder.path().join(name).exists();
    let told = |arguments: &str| {
        let output = start(arguments).stderr(std::process::Stdio::piped()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        text
    };
    let asked = "--matrix fisher --density-vectors 1";
    told(&format!("{asked} --out whole"));
    assert!(!exists("whole.partial"));

    super::extract_parts::interrupt(&mut start(&format!("{asked} --out out")));
    assert!(!exists("out") && exists("out.partial"));
    // Another matrix of the same samples begins anew.
    let anew = told("--matrix ggn --largest 1 --trace-products 0 --density-vectors 0 --out out");
    assert!(anew.contains("starting over") && !anew.contains("continuing"), "{anew}");
    assert!(exists("out/spectrum.json") && !exists("out.partial"), "{anew}");
    std::fs::remove_dir_all(folder.path().join("out")).unwrap();

    for _ in 0..2 {
        super::extract_parts::interrupt(&mut start(&format!("{asked} --out out/")));
        assert!(!exists("out") && exists("out.partial"));
    }
    let on = told(&format!("{asked} --out out"));
    assert!(on.contains("continuing after") && !exists("out.partial"), "{on}");
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    for name in ["spectrum.json", "spectrum.csv", "density.csv", "density.svg"] {
        assert!(read(&format!("out/{name}")) == read(&format!("whole/{name}")), "{name}");
    }

    // Without a folder there is nowhere to keep anything.
    super::extract_parts::interrupt(&mut start(asked));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
}
