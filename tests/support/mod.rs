//! What the integration tests share: skipping, the program under test, and where data sets lie.
//!
//! A test that needs something that this machine may lack says so with [`skip!`] and a reason, and returns. The skip is
//! printed, and written to the file that `BACKPACK_RUN_SKIPS` names, where scripts/test.sh counts it. Under
//! `REQUIRE_ALL=1` a skip is a failure: CI installs everything that a test may ask for. What it could not install this time
//! (torch, from an index that is slow or away) it excuses by name.

#![allow(dead_code, unused_imports, unused_macros)]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;

/// Leaves the test, saying that it was skipped and why: `support::skip!("name of the test", "reason")`.
macro_rules! skip {
    ($name:expr, $reason:expr) => {{
        $crate::support::record_skip(&format!("{}::{}", module_path!(), $name), $reason.as_ref());
        return;
    }};
}
pub(crate) use skip;

/// Prints the skip and writes it down; panics under `REQUIRE_ALL=1`, but for the test that `BACKPACK_RUN_EXCUSED` names. For
/// [`skip!`].
#[track_caller]
pub fn record_skip(name: &str, reason: &str) {
    let excused = std::env::var("BACKPACK_RUN_EXCUSED").is_ok_and(|excused| excused == name);
    if !excused && std::env::var("REQUIRE_ALL").is_ok_and(|value| !value.is_empty() && value != "0") {
        panic!("{name} would be skipped ({reason}), which REQUIRE_ALL forbids; install what it needs");
    }
    println!("SKIP {name}: {reason}");
    if let Some(path) = std::env::var_os("BACKPACK_RUN_SKIPS") {
        // One write of one line to a file opened for appending: tests that run at the same time do not mix their lines.
        let line = format!("{name}: {}\n", reason.replace('\n', " "));
        let mut file =
            OpenOptions::new().create(true).append(true).open(&path).expect("BACKPACK_RUN_SKIPS is writable");
        file.write_all(line.as_bytes()).expect("BACKPACK_RUN_SKIPS is writable");
    }
}

/// The program, with the variables that change its ways taken out of its environment.
pub fn program() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("backpack-run"));
    for name in ["BACKPACK_RUN_DATA", "BACKPACK_RUN_RUNS", "BACKPACK_RUN_RESULTS", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.env("BACKPACK_RUN_CACHE", cache());
    command
}

/// The cache folder of programs under test, apart from the user's.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// The path of the program, for tests that start and kill it themselves.
pub fn program_path() -> PathBuf {
    assert_cmd::cargo::cargo_bin!("backpack-run").to_owned()
}

/// A folder of the test's own that goes away with the value.
pub fn temporary_folder() -> TempDir {
    tempfile::Builder::new().prefix("backpack-run-test-").tempdir().expect("the folder for temporary files is writable")
}

/// A file of this repository.
pub fn repository(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The folder that holds a data set's subfolder ("mnist", "fashion-mnist", "cifar-10-batches-bin"), to be handed to
/// `--data-dir`; None where this machine does not have it.
///
/// Looked for in `BACKPACK_RUN_DATA`, in data/ of the repository and where Debian's packages put data sets. Only sets
/// that Debian packages (Fashion-MNIST) may be asked for in tests: CI has no others.
pub fn data_folder(set: &str) -> Option<PathBuf> {
    let chosen = std::env::var_os("BACKPACK_RUN_DATA").map(PathBuf::from);
    let places = chosen.into_iter().chain([repository("data"), PathBuf::from("/usr/share/datasets")]);
    let mut places = places.filter(|place| place.is_dir());
    places.find(|place| place.join(set).is_dir())
}
