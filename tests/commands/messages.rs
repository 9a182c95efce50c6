//! What the program says: of inputs that are there but doubtful, of the machine (`doctor`), of itself (`completions`,
//! `man`), in a terminal of some width and after Ctrl-C; and which exit code a file has that cannot be read.

use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backpack_run::backpack::tensor_file;
use predicates::prelude::*;
use predicates::str::contains;
use tch::{Device, Kind, Tensor};
use tempfile::tempdir;

use crate::support::{cache, program, program_path, skip};

const NET: &str = r#"
schema = 1
name = "net"
dataset = { synthetic = { shape = [3], classes = 2, train = 40, test = 20 } }
loss = "cross_entropy"
batch_size = 4
valid_size = 10
[[layers]]
type = "linear"
out_features = 2
"#;

fn write_batch(folder: &std::path::Path, x: Tensor) {
    let y = Tensor::zeros([x.size()[0]], (Kind::Int64, Device::Cpu));
    tensor_file::write(&folder.join("b"), &[("x".into(), x), ("y".into(), y)], &Default::default()).unwrap();
}

#[test]
fn a_file_that_is_not_there_is_2_and_one_that_cannot_be_read_3() {
    let folder = crate::support::temporary_folder();
    std::fs::write(folder.path().join("net.toml"), NET).unwrap();
    write_batch(folder.path(), Tensor::ones([2, 3], (Kind::Float, Device::Cpu)));
    // Its first page is never mapped, so that reading fails for everyone.
    let broken = "/proc/self/mem";
    for (path, code) in [("./none.toml", 2), ("./", 2), (broken, 3)] {
        if code == 3 && !cfg!(target_os = "linux") {
            continue;
        }
        for arguments in [
            vec!["train", "--problem", path, "--curv", "kfac", "--lr", "1", "--damping", "1"],
            vec!["grid", path],
            vec!["extract", "--problem", "net.toml", "--out", "q", "--batch", path],
            vec!["extract", "--problem", "net.toml", "--out", "q", "--batch", "b", "--weights", path],
        ] {
            let mut program = crate::support::program();
            program.current_dir(folder.path()).args(&arguments).assert().code(code).stderr(contains("reading failed"));
        }
    }
}

#[test]
fn doubtful_batches_are_told_of() {
    let folder = crate::support::temporary_folder();
    std::fs::write(folder.path().join("net.toml"), NET).unwrap();
    let extract = |more: &[&str]| {
        let mut program = crate::support::program();
        program.current_dir(folder.path()).args(["extract", "--problem", "net.toml", "--batch", "b"]).args(more);
        program.assert()
    };
    let x = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
    write_batch(folder.path(), x.copy());
    let silent = extract(&["--out", "q"]).success();
    assert!(!String::from_utf8_lossy(&silent.get_output().stderr).contains("WARN"));
    let _ = x.get(1).get(2).fill_(f64::NAN);
    write_batch(folder.path(), x);
    extract(&["--out", "q"]).success().stderr(contains("`x` holds NaN or infinity, first at [1, 2]"));
    write_batch(folder.path(), Tensor::ones([2, 5], (Kind::Float, Device::Cpu)));
    extract(&["--out", "q"]).success().stderr(contains("have [3]; the network is built for the shape of `x`"));
    // Where the result can go is looked at before the batch is.
    std::fs::remove_file(folder.path().join("b")).unwrap();
    extract(&["--out", "none/q"]).code(3).stderr(contains("creating a file beside it"));
    extract(&["--out", "."]).code(2).stderr(contains("this is a folder"));
    for size in ["12GB", "12", "GiB", "1TiB"] {
        extract(&["--out", "q", "--memory-budget", size]).code(2).stderr(contains("12GiB"));
    }
}

#[test]
fn draws_that_nobody_makes_are_told_of() {
    let folder = crate::support::temporary_folder();
    std::fs::write(folder.path().join("net.toml"), NET).unwrap();
    let warns = "mc_samples is given, but none of the optimizers samples labels";
    for (optimizer, warned) in [(["--optimizer", "adam"], true), (["--curv", "kfac"], false)] {
        let mut program = crate::support::program();
        program.current_dir(folder.path()).args(["grid", "--dry-run", "--problem", "net.toml", "--mc-samples", "3"]);
        let output = program.args(optimizer).assert().success();
        assert_eq!(String::from_utf8_lossy(&output.get_output().stderr).contains(warns), warned);
    }
}

#[test]
fn doctor_finds_this_machine_ready() {
    let folder = crate::support::temporary_folder();
    let output = crate::support::program().args(["doctor", "--format", "json"]).current_dir(&folder).assert().success();
    let report: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["schema_version"], 1);
    let states: std::collections::HashMap<_, _> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (finding["check"].as_str().unwrap(), finding["state"].as_str().unwrap()))
        .collect();
    for check in ["libtorch", "device", "threads", "memory", "data set fashion_mnist_mini", "runs folder"] {
        assert!(states.contains_key(check), "{check}: {states:?}");
    }
    assert_eq!(states["libtorch"], "ok");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "doctor leaves nothing behind");
}

#[test]
fn doctor_says_what_is_missing_and_exits_with_3() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let says = predicate::str::contains("fail runs folder").and(predicate::str::contains("--runs-dir"));
    let mut doctor = crate::support::program();
    doctor.arg("doctor").arg("--runs-dir").arg(file.path()).assert().code(3).stdout(says);
    crate::support::program()
        .args(["doctor", "--device", "tpu"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("cuda:INDEX"));
}

#[test]
fn completions_and_man_know_the_subcommands() {
    let script = crate::support::program().args(["completions", "bash"]).assert().success();
    let script = String::from_utf8(script.get_output().stdout.clone()).unwrap();
    let folder = crate::support::temporary_folder();
    crate::support::program().arg("man").arg("--out").arg(folder.path()).assert().success();
    for command in ["grid", "train", "data", "list", "spectrum", "status", "doctor"] {
        assert!(script.contains(command), "{command}");
        assert!(folder.path().join(format!("backpack-run-{command}.1")).is_file(), "{command}");
    }
}

#[test]
fn a_table_is_as_wide_as_the_terminal_has_columns() {
    let said = |columns: &str| {
        let output = program().args(["list", "optimizers"]).env("COLUMNS", columns).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let longest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    let (narrow, wide) = (said("80"), said("150"));
    assert!(longest(&narrow) <= 80 && longest(&wide) <= 150, "{narrow}{wide}");
    assert!(longest(&wide) > 80, "there is room for more: {wide}");
}

const ROWS: NonZero<u16> = NonZero::new(40).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(100).unwrap();

/// The screen of a terminal with 100 columns, as the program under `script` draws it.
struct Screen(Arc<Mutex<vt100::Parser>>);

impl Screen {
    fn follow(mut output: impl Read + Send + 'static) -> (Self, std::thread::JoinHandle<()>) {
        let parser = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let screen = Screen(parser.clone());
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = output.read(&mut bytes)
                && count > 0
            {
                parser.lock().unwrap().process(&bytes[..count]);
            }
        });
        (screen, reader)
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().screen().contents()
    }

    /// Waits for a screen of which this holds.
    fn wait(&self, holds: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let text = self.text();
            if holds(&text) {
                return text;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn bars_show_metrics_at_100_columns_and_are_gone_after_ctrl_c() {
    // util-linux's, which gives a command a terminal of its own.
    if !Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        skip!("bars_show_metrics_at_100_columns_and_are_gone_after_ctrl_c", "there is no `script` of util-linux");
    }
    let folder = tempdir().unwrap();
    let grid = format!(
        "stty cols {COLUMNS} rows {ROWS}; exec {} grid --problem fmnist_logreg --set dataset=fashion_mnist_mini --optimizer momentum --lr \
         0.01,0.02 --epochs 100000 --jobs 2",
        program_path().display()
    );
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &grid, "/dev/null"])
        .current_dir(folder.path())
        .env_remove("BACKPACK_RUN_RUNS")
        .env("BACKPACK_RUN_CACHE", cache())
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let (screen, reader) = Screen::follow(script.stdout.take().unwrap());
    // Both runs' names, bars and metrics, and the bar of all.
    let shown = screen.wait(|text| text.matches("accuracy valid").count() == 2 && text.contains("0/2 runs ["));
    assert!(shown.matches(" steps/s, ").count() == 2 && shown.matches("; epoch ").count() == 2, "{shown}");
    keys.write_all(b"\x03").unwrap();
    let status = script.wait().unwrap();
    reader.join().unwrap();
    let left = screen.text();
    assert_eq!(status.code(), Some(130), "{left}");
    assert!(left.contains("interrupted"), "{left}");
    assert!(!left.contains("steps/s") && !left.contains("runs ["), "{left}");
}
