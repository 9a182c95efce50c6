//! `bench` from the command line, its plan, and its yardstick, on small networks.

use std::path::{Path, PathBuf};

use crate::support::{program, temporary_folder};
use backpack_run::bench::contest::{Contest, Order};
use backpack_run::bench::plan::{Plan, Selection};
use backpack_run::bench::task::{Subject, Task};
use backpack_run::bench::{Row, read_rows, write_rows};
use predicates::str::contains;
use tempfile::TempDir;

/// A dense network on drawn data.
const TINY: &str = r#"
name = "tiny"
dataset = { synthetic = { shape = [20], classes = 3, train = 100, test = 20 } }
loss = "cross_entropy"
batch_size = 8
l2 = 0.01
layers = [{ type = "linear", out_features = 7 }, { type = "sigmoid" }, { type = "linear", out_features = 3 }]
"#;

/// Every layer type that libtorch and the program compute alike (dropout draws masks of its own), with paddings of all
/// kinds.
const LAYERS: &str = r#"
name = "layers"
dataset = { synthetic = { shape = [3, 14, 13], classes = 4, train = 100, test = 20 } }
loss = "cross_entropy"
batch_size = 6

layers = [
    { type = "conv2d", out_channels = 6, kernel_size = 4, stride = 2, padding = "same" },
    { type = "batch_norm2d" },
    { type = "leaky_relu", negative_slope = 0.2 },
    { type = "max_pool2d", kernel_size = 3, stride = 1, padding = "same" },
    { type = "conv2d", out_channels = 6, kernel_size = [3, 2], padding = [1, 0, 2, 1], groups = 2 },
    { type = "elu", alpha = 0.7 },
    { type = "elu" },
    { type = "conv_transpose2d", out_channels = 4, kernel_size = 3, stride = 2, padding = 1, output_padding = 1 },
    { type = "gelu" },
    { type = "max_pool2d", kernel_size = 3, padding = 1, ceil_mode = true },
    { type = "silu" },
    { type = "avg_pool2d", kernel_size = 3, stride = 2, padding = 1 },
    { type = "tanh" },
    { type = "zero_pad2d", padding = [1, 0, 0, 1] },
    { type = "selu" },
    { type = "adaptive_avg_pool2d", output_size = 2 },
    { type = "log_sigmoid" },
    { type = "flatten" },
    { type = "linear", out_features = 5, bias = false },
    { type = "identity" },
    { type = "relu" },
    { type = "linear", out_features = 4 },
]
"#;

fn problem(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("net.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn task(source: &Path, subject: Subject) -> Task {
    Task {
        figure: "problem".into(),
        source: source.display().to_string(),
        problem: "p".into(),
        subject,
        batch_size: 6,
        threads: 1,
        device: "cpu".into(),
        include_data: false,
        chunk_bytes: 1 << 20,
        alone: false,
    }
}

fn selection() -> Selection {
    Selection {
        figures: Vec::new(),
        problems: Vec::new(),
        quantities: Vec::new(),
        optimizers: Vec::new(),
        batch_sizes: Vec::new(),
        threads: vec![1],
        rounds: None,
        precision: None,
        time: None,
        memory: 4 << 30,
        include_data: false,
        device: "cpu".into(),
    }
}

fn rows(csv: &[u8]) -> Vec<Row> {
    read_rows(csv, "bench.csv").unwrap()
}

#[test]
fn the_yardstick_computes_the_same_gradient() {
    let folder = temporary_folder();
    for (text, bound) in [(TINY, 1e-5), (LAYERS, 1e-4)] {
        let path = problem(&folder, text);
        for loss in ["cross_entropy", "mse", "bce_with_logits"] {
            std::fs::write(&path, text.replace("\"cross_entropy\"", &format!("\"{loss}\""))).unwrap();
            let mut contest = Contest::new(&task(&path, Subject::quantity("grad").unwrap())).unwrap();
            for order in [Order::ChannelsFirst, Order::ChannelsLast] {
                let error = contest.disagreement(order).unwrap();
                assert!(error < bound, "{loss} {order:?} {text}: {error}");
            }
        }
    }
}

#[test]
fn one_round_is_one_pass_that_gives_the_peak() {
    let folder = temporary_folder();
    let path = problem(&folder, TINY);
    let out = folder.path().join("out");
    let output = program()
        .args(["bench", "--quantity", "loop,kfac", "--optimizer", "kfra,adam", "--rounds", "1", "--threads", "1"])
        .args(["--format", "csv", "--problem"])
        .arg(&path)
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
    let found = rows(&output.get_output().stdout);
    let named: Vec<_> = found.iter().map(|row| (row.figure.as_str(), row.quantity.as_str())).collect();
    assert_eq!(named, [("problem", "loop"), ("problem", "kfac"), ("steps", "kfra"), ("steps", "adam")]);
    for row in &found {
        assert_eq!((row.problem.as_str(), row.batch_size, row.threads, row.rounds), ("tiny", 8, 1, 1));
        assert!(row.seconds > 0.0 && row.gradient_seconds > 0.0);
        assert_eq!((row.ratio_low, row.ratio_high), (row.ratio, row.ratio));
        assert_eq!(row.ratio, row.seconds / row.gradient_seconds);
        // libtorch alone takes some tens of MiB.
        assert!((20 << 20..4 << 30).contains(&row.peak_bytes.unwrap()), "{row:?}");
    }
    assert_eq!(rows(&std::fs::read(out.join("bench.csv")).unwrap()), found);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("bench.json")).unwrap()).unwrap();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["rows"].as_array().unwrap().len(), 4);
    assert!(json["machine"]["libtorch"].as_str().unwrap().starts_with("2.13.0"));
    for part in ["average_seconds", "inverse_seconds", "update_seconds"] {
        assert!(json["rows"][2][part].as_f64().unwrap() > 0.0, "{part} of kfra");
        // A moment is no running curvature, and Adam inverts nothing.
        let has_it = json["rows"][3][part].as_f64().unwrap() > 0.0;
        assert_eq!(has_it, part == "update_seconds", "{part} of adam");
        assert_eq!(json["rows"][1][part], serde_json::Value::Null, "{part} of a quantity");
    }
}

#[test]
fn some_rounds_tell_where_the_time_goes() {
    let folder = temporary_folder();
    let path = problem(&folder, TINY);
    for data in [&[][..], &["--include-data"]] {
        let output = program()
            .args(["bench", "--quantity", "variance", "--rounds", "3", "--threads", "1", "--format", "json"])
            .args(data)
            .arg("--problem")
            .arg(&path)
            .assert()
            .success();
        let json: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
        let row = &json["rows"][0];
        assert_eq!(row["times"].as_array().unwrap().len(), 3);
        assert_eq!(row["include_data"], !data.is_empty());
        let seconds = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        let parts = ["forward_seconds", "backward_seconds", "extraction_seconds"].map(seconds);
        assert!((parts.iter().sum::<f64>() - seconds("seconds")).abs() < 1e-9);
        assert!(seconds("own_gradient_seconds") > 0.0 && seconds("channels_last_gradient_seconds") > 0.0);
        assert_eq!(row["update_seconds"], serde_json::Value::Null);
    }
}

/// Each round visits all rows before the next one begins, so that a row's visits are spread over the whole run.
#[test]
fn without_a_number_of_rounds_rows_are_visited_in_turn_several_times() {
    let folder = temporary_folder();
    let path = problem(&folder, TINY);
    let output = program()
        .args(["bench", "--quantity", "variance,kfac", "--precision", "0.9", "--threads", "1", "--format", "json"])
        .arg("--problem")
        .arg(&path)
        .assert()
        .success();
    let json: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    for row in json["rows"].as_array().unwrap() {
        let visits: Vec<u64> = serde_json::from_value(row["visits"].clone()).unwrap();
        assert_eq!(visits.len(), 4, "as loose a precision is reached at once: {row}");
        assert!(visits.iter().all(|pairs| *pairs >= 7), "{row}");
        assert_eq!(row["rounds"], visits.iter().sum::<u64>());
        assert_eq!(row["times"].as_array().unwrap().len() as u64, row["rounds"].as_u64().unwrap());
        let seconds = |name: &str| row[name].as_f64().unwrap();
        let parts = ["forward_seconds", "backward_seconds", "extraction_seconds"].map(seconds);
        assert!((parts.iter().sum::<f64>() - seconds("seconds")).abs() < 1e-9);
        assert!(seconds("ratio_low") < seconds("ratio") && seconds("ratio") < seconds("ratio_high"));
    }
    let told = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    let begun: Vec<_> = told.lines().filter_map(|line| line.strip_prefix('[')?.split('/').next()).collect();
    assert_eq!(begun, ["1", "2"].repeat(4), "{told}");
    assert!(told.contains(" pairs in 4 visits"), "{told}");
}

#[test]
fn the_parts_of_a_step_add_up_and_the_inverse_is_told_apart() {
    let folder = temporary_folder();
    // Wide factors on a batch of two: the decomposition of 401 by 401 is nearly all of a step.
    let wide = TINY.replace("shape = [20]", "shape = [400]").replace("batch_size = 8", "batch_size = 2");
    let path = problem(&folder, &wide);
    let out = folder.path().join("out");
    let output = program()
        .args(["bench", "--optimizer", "momentum,diag_ggn,kfac", "--rounds", "3", "--threads", "1"])
        .arg("--problem")
        .arg(&path)
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("bench.json")).unwrap()).unwrap();
    for row in json["rows"].as_array().unwrap() {
        let seconds = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        let pass = ["forward_seconds", "backward_seconds", "extraction_seconds"].map(seconds).iter().sum::<f64>();
        let step = ["average_seconds", "inverse_seconds", "update_seconds"].map(seconds);
        assert!((pass + step.iter().sum::<f64>() - seconds("seconds")).abs() < 1e-9, "{row}");
        let [average, inverse, update] = step;
        assert!(update > 0.0, "{row}");
        match row["quantity"].as_str().unwrap() {
            "momentum" => assert_eq!((average, inverse), (0.0, 0.0)),
            "diag_ggn" => assert!(average > 0.0 && inverse == 0.0, "{row}"),
            _ => assert!(inverse > average && inverse > update && inverse > 0.3 * seconds("seconds"), "{row}"),
        }
    }
    let table = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    let head = table.lines().find(|line| line.contains("of a step")).unwrap_or_else(|| panic!("{table}"));
    assert!(head.contains("extraction") && head.contains("inverse"), "{head}");
    let rows = rows(&std::fs::read(out.join("bench.csv")).unwrap());
    assert_eq!(rows.len(), 3);
}

#[test]
fn a_regression_ends_with_exit_code_1() {
    let folder = temporary_folder();
    let path = problem(&folder, TINY);
    let baseline = folder.path().join("baseline.json");
    let bench = || {
        let mut command = program();
        command.args(["bench", "--quantity", "variance", "--rounds", "5", "--threads", "1", "--problem"]).arg(&path);
        command
    };
    bench().arg("--save-baseline").arg(&baseline).assert().success();

    // The same rows with other ratios: far faster before, then far slower.
    let text = std::fs::read_to_string(&baseline).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let measured: Vec<Row> = serde_json::from_value(document["rows"].clone()).unwrap();
    for (factor, code, word) in [(0.001, 1, "SLOWER"), (1000.0, 0, "faster")] {
        let former: Vec<Row> = measured
            .iter()
            .map(|row| Row {
                ratio: row.ratio * factor,
                ratio_low: row.ratio_low * factor,
                ratio_high: row.ratio_high * factor,
                ..row.clone()
            })
            .collect();
        let file = folder.path().join("former.csv");
        let mut csv = Vec::new();
        write_rows(&mut csv, &former).unwrap();
        std::fs::write(&file, csv).unwrap();
        let output = bench().arg("--compare").arg(&file).assert().code(code);
        assert!(String::from_utf8_lossy(&output.get_output().stdout).contains(word));
    }
    // What was measured otherwise is refused.
    bench().arg("--include-data").arg("--compare").arg(&baseline).assert().code(2).stderr(contains("--include-data"));
    std::fs::write(&baseline, text.replace("\"device\": \"cpu\"", "\"device\": \"cuda:0\"")).unwrap();
    bench().arg("--compare").arg(&baseline).assert().code(2).stderr(contains("measured on cuda:0"));
    // The document of --save-baseline is read too; another problem's rows say nothing about these.
    std::fs::write(&baseline, text.replace("\"tiny\"", "\"other\"")).unwrap();
    bench().arg("--compare").arg(&baseline).assert().code(2);
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_measured() {
    let folder = temporary_folder();
    let file = folder.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let refused = |arguments: &[&str], code: i32, text: &str| {
        let output = program().arg("bench").args(arguments).assert().code(code);
        let stderr = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(stderr.contains(text) && !stderr.contains("[1/"), "{arguments:?}: {stderr}");
    };
    let below = file.join("out").display().to_string();
    let away = folder.path().join("no folder/baseline.json").display().to_string();
    refused(&["--out", &below], 3, "a file");
    refused(&["--figure", "3", "--save-baseline", &away], 3, "no folder");
    refused(&["--compare", &away], 2, "no folder");
    refused(&["--figure", "4"], 2, "expected one of 3, 6, 8, 9, steps");
    refused(&["--quantity", "kfax"], 2, "kfac");
    refused(&["--optimizer", "sgdd"], 2, "sgd");
    refused(&["--rounds", "0"], 2, "--rounds");
    refused(&["--rounds", "3", "--time-budget", "3s"], 2, "cannot be used with");
    // Named: refused with its estimate.
    let large = ["--problem", "cifar10_3c3d", "--quantity", "batch_grad", "--memory-budget", "64MiB"];
    refused(&large, 2, "batch_grad of cifar10_3c3d at batch 128: it needs about");
}

#[test]
fn what_is_too_large_is_left_out_of_a_figure() {
    let large = Selection { figures: vec!["3".into()], batch_sizes: vec![8, 256], memory: 600 << 20, ..selection() };
    let plan = Plan::new(&large).unwrap();
    let planned: Vec<_> = plan.tasks.iter().map(|task| (task.subject.name(), task.batch_size)).collect();
    assert_eq!(planned, [("loop", 8), ("batch_grad", 8), ("grad", 8), ("grad", 256)]);
    let left: Vec<_> = plan.left_out.iter().map(|left| (left.quantity.as_str(), left.batch_size)).collect();
    assert_eq!(left, [("loop", 256), ("batch_grad", 256)]);
    assert!(plan.left_out[1].reason.contains("--memory-budget"), "{:?}", plan.left_out);
    assert!(plan.describe().contains("left out of 3: batch_grad of cifar10_3c3d at batch 256"));
}

#[test]
fn the_plan_holds_what_was_asked_for() {
    let names = |plan: &Plan| {
        let mut names: Vec<String> = plan.tasks.iter().map(|task| task.figure.clone()).collect();
        names.dedup();
        names
    };
    let quick = Plan::new(&selection()).unwrap();
    assert!(quick.quick && quick.time.unwrap().as_secs() < 600);
    assert_eq!(names(&quick), ["3", "6", "8", "9", "steps"]);
    assert!(quick.describe().starts_with("Quick sizes"));

    let of = |change: fn(&mut Selection)| {
        let mut selection = selection();
        change(&mut selection);
        Plan::new(&selection).unwrap()
    };
    let full = of(|selection| selection.figures = vec!["9".into()]);
    assert!(!full.quick && full.time.is_none());
    assert_eq!(full.tasks.len(), 2 * 3 * 4);
    let quantity = of(|selection| selection.quantities = vec!["kfac".into()]);
    assert!(quantity.tasks.iter().all(|task| task.figure == "6" && task.subject.name() == "kfac"));
    let threads = of(|selection| {
        selection.problems = vec!["mnist_logreg".into()];
        selection.threads = vec![1, 2];
    });
    assert_eq!(threads.tasks.len(), 2 * 11, "every quantity of Table 1 and the gradient");
    assert!(threads.tasks.iter().all(|task| task.batch_size == 128 && task.figure == "problem"));
    let steps = of(|selection| {
        selection.problems = vec!["mnist_logreg".into()];
        selection.optimizers = vec!["kfac".into()];
    });
    assert_eq!(steps.tasks.len(), 1);
    assert_eq!(steps.tasks[0].figure, "steps");
}
