//! `doctor`, `completions` and `man` through the program: what they print and the exit codes.

use predicates::prelude::*;

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
