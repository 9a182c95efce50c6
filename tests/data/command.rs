//! `backpack-run data` as it is called: forms of output, exit codes, and what goes to stdout and stderr.

use predicates::prelude::*;
use predicates::str::contains;

#[test]
fn list_comes_in_three_forms() {
    let root = crate::support::temporary_folder();
    let list = |format: &str| {
        let mut command = crate::support::program();
        command.args(["data", "list", "--format", format, "--data-dir"]).arg(root.path());
        String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
    };
    assert!(list("table").contains("fashion_mnist_mini"));
    let csv = list("csv");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(&rows[3][0], "cifar10");
    let json: serde_json::Value = serde_json::from_str(&list("json")).unwrap();
    assert_eq!(json["schema_version"], 1);
    let states: Vec<_> =
        json["data_sets"].as_array().unwrap().iter().map(|set| set["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["missing", "missing", "built in", "missing", "missing", "missing"]);
}

#[test]
fn exit_codes_tell_usage_from_environment() {
    let root = crate::support::temporary_folder();
    let run = |arguments: &[&str]| {
        let mut command = crate::support::program();
        command.arg("data").args(arguments).arg("--data-dir").arg(root.path());
        command.assert()
    };
    run(&["verify", "mnits"]).code(2).stdout("").stderr(contains("did you mean `mnist`"));
    run(&["fetch"]).code(2).stdout("").stderr(contains("NAME"));
    run(&["verify"]).code(3).stdout("").stderr(contains("data fetch"));
    run(&["verify", "svhn"]).code(3).stderr(contains("svhn").and(contains("Looked for it in")));
    run(&["import", "mnist", "/nowhere"]).code(3).stderr(contains("/nowhere"));
    run(&["fetch", "fashion_mnist_mini"]).success().stdout("").stderr(contains("nothing to fetch"));
}

#[test]
fn verify_fails_on_files_that_are_not_the_published_ones() {
    let root = crate::support::temporary_folder();
    let folder = root.path().join("cifar-100-binary");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, count) in [("train.bin", 50_000), ("test.bin", 10_000)] {
        let mut record = vec![1, 2];
        record.resize(3074, 3);
        std::fs::write(folder.join(name), record.repeat(count)).unwrap();
    }
    let verify = |format: &str| {
        let mut command = crate::support::program();
        command.args(["data", "verify", "cifar100", "--format", format, "--data-dir"]).arg(root.path());
        command.assert().code(1).stderr(contains("cifar100")).get_output().stdout.clone()
    };
    let json: serde_json::Value = serde_json::from_slice(&verify("json")).unwrap();
    let set = &json["data_sets"][0];
    assert_eq!((set["ok"].as_bool(), set["defect"].is_null()), (Some(false), true));
    assert_eq!(set["files"][0]["hash"], "differs");
    std::fs::write(folder.join("test.bin"), vec![200; 3074 * 10_000]).unwrap();
    let csv = String::from_utf8(verify("csv")).unwrap();
    assert!(csv.contains("label 200"), "{csv}");
}

#[test]
fn a_mirror_that_is_not_there_is_named() {
    let root = crate::support::temporary_folder();
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = crate::support::program();
    command.args(["data", "fetch", "mnist", "--data-dir"]).arg(root.path());
    command.env("BACKPACK_RUN_MIRROR", format!("http://{address}/sets"));
    command.assert().code(3).stdout("").stderr(contains(format!("http://{address}/sets/train-images-idx3-ubyte.gz")));
    assert!(!root.path().join("mnist/train-images-idx3-ubyte.gz").exists());
}
