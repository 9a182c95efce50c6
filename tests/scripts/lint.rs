//! The shell scripts pass shellcheck, and each says in its first lines what it does; every fuzz target has seeds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// Every shell script of the repository.
fn scripts() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(crate::support::repository("scripts")).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    let mut scripts: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "sh")).collect();
    scripts.push(crate::support::repository(".ci/run"));
    scripts
}

#[test]
fn scripts_pass_shellcheck() {
    if std::process::Command::new("shellcheck").arg("--version").output().is_err() {
        crate::support::skip!("scripts_pass_shellcheck", "shellcheck is not installed");
    }
    Command::new("shellcheck").args(scripts()).assert().success().stdout("");
}

#[test]
fn scripts_say_what_they_do() {
    for path in scripts() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#!/usr/bin/env bash"), "{}", path.display());
        assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{}", path.display());
        assert!(text.contains("set -euo pipefail"), "{}", path.display());
    }
}

/// They are not stored: a script makes them before fuzzing.
#[test]
fn every_fuzz_target_has_seeds() {
    let folder = crate::support::temporary_folder();
    let script = crate::support::repository("fuzz/make_seeds.py");
    Command::new("python3").arg(script).arg(folder.path()).assert().success().stdout("").stderr("");
    let names = |folder: &Path| -> BTreeSet<String> {
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(folder.path()), names(&crate::support::repository("fuzz/fuzz_targets")));
}
