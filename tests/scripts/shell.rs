//! Shell scripts by themselves: scripts/setup.sh takes a libtorch that is there, and refuses a wrong one with what to do;
//! scripts/seed_sweep.sh on a small problem, and what both sweeps say without arguments; of scripts/test.sh, that skips are
//! printed and counted, and fail where CI forbids them, and that the closing line is what the runners reported.
#![cfg(unix)]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;

use crate::study_support::{Bench, text};

/// setup.sh with `LIBTORCH` set.
fn setup(libtorch: &Path) -> Command {
    let mut command = Command::new("bash");
    command.arg(crate::support::repository("scripts/setup.sh"));
    command.env("LIBTORCH", libtorch).env_remove("LIBTORCH_USE_PYTORCH");
    command
}

/// A folder that looks like a libtorch as far as setup.sh looks, but for its version.
fn folder_without_version() -> tempfile::TempDir {
    let folder = crate::support::temporary_folder();
    fs::create_dir_all(folder.path().join("lib")).unwrap();
    fs::create_dir_all(folder.path().join("include")).unwrap();
    fs::write(folder.path().join("lib/libtorch_cpu.so"), "").unwrap();
    folder
}

fn accepts(folder: &Path) {
    let line = format!("export LIBTORCH={}\n", folder.display());
    setup(folder).assert().success().stdout(line).stderr(predicate::str::contains("using libtorch 2.13.0"));
}

#[test]
fn takes_an_official_archive() {
    let folder = folder_without_version();
    fs::write(folder.path().join("build-version"), "2.13.0+cpu\n").unwrap();
    accepts(folder.path());
}

#[test]
fn takes_an_installed_torch_by_its_version_file() {
    let folder = folder_without_version();
    fs::write(folder.path().join("version.py"), "__all__ = ['__version__']\n__version__ = '2.13.0+cu130'\n").unwrap();
    accepts(folder.path());
}

#[test]
fn takes_a_build_that_has_only_headers_to_go_by() {
    let folder = folder_without_version();
    let header = folder.path().join("include/torch/csrc/api/include/torch/version.h");
    fs::create_dir_all(header.parent().unwrap()).unwrap();
    let text = "#pragma once\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 13\n#define TORCH_VERSION_PATCH 0\n\
                #define TORCH_VERSION \"2.13.0\"\n";
    fs::write(&header, text).unwrap();
    accepts(folder.path());
    fs::write(&header, text.replace("MINOR 13", "MINOR 12")).unwrap();
    setup(folder.path()).assert().code(3).stdout("").stderr(predicate::str::contains("libtorch 2.12.0"));
}

#[test]
fn refuses_another_version() {
    let folder = folder_without_version();
    fs::write(folder.path().join("build-version"), "2.5.1+cpu\n").unwrap();
    let says_all = predicate::str::contains("libtorch 2.5.1")
        .and(predicate::str::contains("2.13.0 is needed"))
        .and(predicate::str::contains("unset it"));
    setup(folder.path()).assert().code(3).stdout("").stderr(says_all);
}

#[test]
fn refuses_a_folder_that_is_no_libtorch() {
    let folder = crate::support::temporary_folder();
    let missing = folder.path().join("missing");
    setup(&missing).assert().code(3).stdout("").stderr(predicate::str::contains("is no folder"));
    setup(folder.path()).assert().code(3).stdout("").stderr(predicate::str::contains("neither build-version"));
    fs::write(folder.path().join("build-version"), "2.13.0\n").unwrap();
    setup(folder.path()).assert().code(3).stdout("").stderr(predicate::str::contains("no lib/libtorch_cpu"));
}

#[test]
fn an_odd_path_survives_the_shell() {
    let folder = folder_without_version();
    let odd = folder.path().join("it's a $folder");
    fs::create_dir(&odd).unwrap();
    fs::rename(folder.path().join("lib"), odd.join("lib")).unwrap();
    fs::write(odd.join("build-version"), "2.13.0\n").unwrap();
    let line = setup(&odd).assert().success().get_output().stdout.clone();
    let script = format!("{}printf %s \"$LIBTORCH\"", String::from_utf8(line).unwrap());
    Command::new("bash").arg("-c").arg(script).assert().success().stdout(odd.display().to_string());
}

#[test]
fn says_which_tool_is_missing() {
    let folder = folder_without_version();
    fs::write(folder.path().join("build-version"), "2.13.0\n").unwrap();
    setup(folder.path()).env("CXX", "no-such-compiler").assert().code(3).stderr(
        predicate::str::contains("no C++ compiler (no-such-compiler)").and(predicate::str::contains("apt-get")),
    );
}

#[test]
fn a_sweep_trains_the_best_setting_with_all_seeds() {
    let bench = Bench::new();
    let sweep = || {
        let mut command = Command::new(crate::support::repository("scripts/seed_sweep.sh"));
        command.current_dir(bench.path()).env("PROGRAM", crate::support::program_path()).env("SEEDS", "1..3");
        command.args(["--problem", "small.toml", "--optimizer", "adam", "--lr", "0.001,0.01", "--epochs", "1"]);
        command.args(["--runs-dir", "runs", "--results-dir", "results"]).output().unwrap()
    };
    let output = sweep();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(bench.run_folders("runs").len(), 2 + 3);
    let table = std::fs::read_to_string(bench.path().join("results/small/final.csv")).unwrap();
    assert!(table.contains("small,Adam,") && table.lines().nth(1).unwrap().ends_with(",3,0"), "{table}");
    assert_eq!(text(&sweep().stdout), text(&output.stdout));
}

#[test]
fn a_sweep_of_nothing_is_refused() {
    for script in ["scripts/seed_sweep.sh", "scripts/seed_sweep_slurm.sh"] {
        let output = Command::new(crate::support::repository(script))
            .env("PROGRAM", crate::support::program_path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{script}");
        assert!(text(&output.stderr).contains("what is to be swept"), "{}", text(&output.stderr));
    }
}

/// Runs the next test alone, in a process of its own in which it is skipped.
fn run_skipped() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "shell::skipping_is_printed_and_written_down", "--nocapture"])
        .env("BACKPACK_RUN_PROBE", "1");
    command.env_remove("REQUIRE_ALL").env_remove("BACKPACK_RUN_SKIPS").env_remove("BACKPACK_RUN_EXCUSED");
    command
}

#[test]
fn skipping_is_printed_and_written_down() {
    if std::env::var_os("BACKPACK_RUN_PROBE").is_some() {
        crate::support::skip!("probe", "there is no\nsuch thing");
    }
    let folder = crate::support::temporary_folder();
    let file = folder.path().join("skips");
    for _ in 0..2 {
        let printed = predicate::str::contains("SKIP scripts::shell::probe: there is no\nsuch thing\n");
        run_skipped().env("BACKPACK_RUN_SKIPS", &file).assert().success().stdout(printed);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "scripts::shell::probe: there is no such thing\n".repeat(2));
}

#[test]
fn skipping_is_a_failure_where_everything_is_required() {
    run_skipped().env("REQUIRE_ALL", "1").assert().failure().stdout(predicate::str::contains("SKIP").not());
    run_skipped().env("REQUIRE_ALL", "0").assert().success();
    let excused = |name: &str| run_skipped().env("REQUIRE_ALL", "1").env("BACKPACK_RUN_EXCUSED", name).assert();
    excused("scripts::shell::probe").success().stdout(predicate::str::contains("SKIP scripts::shell::probe"));
    excused("scripts::shell::other").failure();
}

/// Exit code and output of tally.py on the given contents of its three files.
fn tally(junit: Option<&str>, log: &str, skips: &str, failed_steps: &str) -> (i32, String) {
    let folder = crate::support::temporary_folder();
    let [junit_path, log_path, skips_path] = ["junit.xml", "log", "skips"].map(|name| folder.path().join(name));
    if let Some(text) = junit {
        fs::write(&junit_path, text).unwrap();
    }
    fs::write(&log_path, log).unwrap();
    fs::write(&skips_path, skips).unwrap();
    let mut command = Command::new("python3");
    command.arg(crate::support::repository("scripts/tally.py")).arg("--junit").arg(junit_path);
    command.arg("--log").arg(log_path).arg("--skips").arg(skips_path).args(["--failed-steps", failed_steps]);
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

const DOC_LOG: &str = "running 2 tests\ntest src/lib.rs - (line 3) ... ok\n\ntest result: \u{1b}[32mok\u{1b}[0m. 2 passed; 0 \
                       failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";

#[test]
fn the_tally_adds_up_both_runners() {
    let junit = r#"<?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="nextest-run" tests="10" failures="0" errors="0" time="1.0"></testsuites>"#;
    let skips = "a::b: no SLURM here\na::b: no SLURM here\nc::d: no browser\n";
    let (code, text) = tally(Some(junit), DOC_LOG, skips, "");
    assert_eq!(text, "SKIP a::b: no SLURM here\nSKIP c::d: no browser\n10 passed, 0 failed, 2 skipped\n");
    assert_eq!(code, 0);
}

#[test]
fn the_tally_fails_on_failures_failed_steps_and_no_tests() {
    let junit = r#"<testsuites name="nextest-run" tests="10" failures="2" errors="1"></testsuites>"#;
    assert_eq!(tally(Some(junit), DOC_LOG, "", ""), (1, "9 passed, 3 failed, 0 skipped\n".to_owned()));
    assert_eq!(tally(None, DOC_LOG, "", "lints").0, 1);
    assert!(tally(None, DOC_LOG, "", "lints").1.starts_with("failed: lints\n"));
    let (code, text) = tally(None, "", "", "");
    assert_eq!(code, 1);
    assert!(text.ends_with("\n0 passed, 0 failed, 0 skipped\n"), "{text}");
}
