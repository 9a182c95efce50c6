//! `backpack-run check` on whole problems.

use crate::support::program;
use serde_json::Value;

fn json(arguments: &[&str]) -> Value {
    let output = program()
        .args(["check", "--threads", "1", "--format", "json"])
        .args(arguments)
        .assert()
        .success()
        .get_output()
        .clone();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn logistic_regression_is_the_oracles() {
    let document = json(&["--problem", "mnist_logreg"]);
    assert_eq!(document["schema_version"], 1);
    let rows = document["rows"].as_array().unwrap();
    // Every quantity of the registry, for weight and bias.
    assert_eq!(rows.len(), 2 * 20);
    for row in rows {
        let keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["quantity", "layer", "parameter", "error", "bound", "compared", "ok"]);
        assert_eq!(row["ok"], true, "{row}");
        assert!(row["error"].as_f64().unwrap() <= row["bound"].as_f64().unwrap());
        assert!(row["compared"].as_u64().unwrap() > 0);
        assert_eq!(row["layer"], "1");
    }
    let compared = |quantity: &str, parameter: &str| {
        let row = rows.iter().find(|row| row["quantity"] == quantity && row["parameter"] == parameter).unwrap();
        row["compared"].as_u64().unwrap()
    };
    assert_eq!(compared("diag_ggn", "weight"), 64);
    assert_eq!(compared("batch_diag_hessian", "weight"), 4 * 64);
    assert_eq!(compared("grad", "weight"), 7840);
    assert_eq!(compared("diag_ggn", "bias"), 10);
}

/// A problem file of the user's own in a folder.
fn problem_file(folder: &tempfile::TempDir, layers: &str) -> String {
    let path = folder.path().join("mine.toml");
    let text = format!(
        "name = \"mine\"\nloss = \"cross_entropy\"\nlayers = [\n{layers}\n]\n\
         dataset = {{ synthetic = {{ shape = [2, 9, 9], classes = 3, train = 40, test = 20 }} }}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_coordinate_if_asked() {
    let folder = crate::support::temporary_folder();
    let problem = problem_file(&folder, r#"{ type = "flatten" }, { type = "linear", out_features = 3 }"#);
    let document = json(&["--problem", &problem, "--quantities", "diag_hessian,grad", "--all-coordinates"]);
    let rows = document["rows"].as_array().unwrap();
    let compared: Vec<_> = rows.iter().map(|row| row["compared"].as_u64().unwrap()).collect();
    assert_eq!(compared, [486, 3, 486, 3]);
}

#[test]
fn a_users_problem_with_layers_of_many_kinds() {
    let folder = crate::support::temporary_folder();
    let problem = problem_file(
        &folder,
        r#"
        { type = "conv2d", out_channels = 4, kernel_size = 3, padding = "same", stride = 2 },
        { type = "batch_norm2d" },
        { type = "tanh" },
        { type = "avg_pool2d", kernel_size = 2 },
        { type = "flatten" },
        { type = "dropout", p = 0.3 },
        { type = "linear", out_features = 3 },
        "#,
    );
    let output =
        program().args(["check", "--threads", "1", "--problem", &problem]).assert().success().get_output().clone();
    // Where everything holds one line tells it.
    let line = String::from_utf8(output.stdout).unwrap();
    let last = line.lines().last().unwrap();
    assert!(last.contains(" comparisons hold, worst ") && !line.contains("batch_diag_hessian"), "{line}");
    let output = program().args(["check", "--threads", "1", "--table", "--problem", &problem]).assert().success();
    let table = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(table.contains("batch_diag_hessian") && table.contains("kfra was not compared: layer 1 (batch_norm2d)"));
    assert!(table.lines().last().unwrap().contains("comparisons hold"), "{table}");
    assert!(table.contains("kfac.1.weight was not compared: its scale acts on each channel by itself"), "{table}");
    assert!(!table.contains("NO"), "{table}");
    // Asked for by name it is an error.
    let asked = program().args(["check", "--problem", &problem, "--quantities", "kfra"]).assert().code(2);
    let message = String::from_utf8(asked.get_output().stderr.clone()).unwrap();
    assert!(message.contains("layer 1 (batch_norm2d)"), "{message}");
    let asked = program().args(["check", "--problem", &problem, "--quantities", "gard,kfac,varience"]).assert().code(2);
    let message = String::from_utf8(asked.get_output().stderr.clone()).unwrap();
    assert!(message.contains("unknown quantities `gard`, `varience`: did you mean `grad`, `variance`?"), "{message}");
}

/// The networks of seed 0 and on, for 20 seconds or for RANDOM_NETS_SECONDS.
#[test]
fn random_networks_are_the_oracles() {
    let seconds = std::env::var("RANDOM_NETS_SECONDS").unwrap_or_else(|_| "20".to_owned());
    let output = program()
        .args(["check", "--random-nets", &seconds, "--seed", "0", "--format", "json"])
        .assert()
        .success()
        .get_output()
        .clone();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{} networks", document["networks"]);
    assert!(document["networks"].as_u64().unwrap() >= 3, "{document}");
    assert_eq!(document["failed_seeds"], serde_json::json!([]));
    for row in document["rows"].as_array().unwrap() {
        assert!(row["error"].as_f64().unwrap() <= row["bound"].as_f64().unwrap(), "{row}");
        assert!(row["compared"].as_u64().unwrap() > 0);
    }
}

#[test]
fn a_random_network_is_drawn_again_by_its_seed() {
    let one = |seed: &str| {
        let output = program()
            .args(["check", "--random-nets", "0", "--format", "csv", "--seed", seed])
            .assert()
            .success()
            .get_output()
            .clone();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(one("5"), one("5"));
    assert!(one("5").starts_with("quantity,digits,networks,compared,error,bound\n"));
    program().args(["check", "--random-nets", "1", "--problem", "mnist_logreg"]).assert().code(2);
    program().args(["check"]).assert().code(2);
}

#[test]
fn a_sample_may_be_a_single_token() {
    let folder = crate::support::temporary_folder();
    let path = folder.path().join("tokens.toml");
    let text = r#"
name = "tokens"
loss = "cross_entropy"
input = { shape = [], integers = 5 }
layers = [
    { type = "embedding", num_embeddings = 5, embedding_dim = 3 },
    { type = "linear", out_features = 4 },
]
"#;
    std::fs::write(&path, text).unwrap();
    let document = json(&["--problem", path.to_str().unwrap()]);
    let rows = document["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["ok"] == true), "{rows:?}");
    for parameter in ["0.weight", "1.weight", "1.bias"] {
        let (layer, parameter) = parameter.split_once('.').unwrap();
        let of = |row: &&Value| row["layer"] == layer && row["parameter"] == parameter;
        let quantities: Vec<_> = rows.iter().filter(of).map(|row| row["quantity"].as_str().unwrap()).collect();
        for quantity in ["batch_grad", "batch_l2", "variance", "diag_ggn", "diag_hessian", "sqrt_ggn"] {
            assert!(quantities.contains(&quantity), "{quantity} of {layer}.{parameter}: {quantities:?}");
        }
    }
}

/// As in an MLP-Mixer: the bias of a layer that mixes tokens is the same for all features, and the normalisation over
/// features takes it away. Its quantities are zero, and what rounding leaves of them is no error.
#[test]
fn what_a_normalisation_takes_away_is_zero_and_no_error() {
    let folder = crate::support::temporary_folder();
    let path = folder.path().join("mixer.toml");
    let text = r#"
name = "mixer"
loss = "cross_entropy"
input = { shape = [4, 5] }
layers = [
    { type = "permute", dims = [0, 2, 1] },
    { type = "linear", out_features = 4, bias_init = { uniform = 0.5 } },
    { type = "permute", dims = [0, 2, 1] },
    { type = "layer_norm", normalized_shape = [5] },
    { type = "tanh" },
    { type = "flatten" },
    { type = "linear", out_features = 3 },
]
"#;
    std::fs::write(&path, text).unwrap();
    let document = json(&["--problem", path.to_str().unwrap()]);
    let rows = document["rows"].as_array().unwrap();
    let of_bias: Vec<_> = rows.iter().filter(|row| row["layer"] == "1" && row["parameter"] == "bias").collect();
    assert!(of_bias.len() >= 6, "{rows:?}");
    assert!(rows.iter().all(|row| row["ok"] == true), "{rows:?}");
}
