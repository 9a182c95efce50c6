//! Skips are printed and counted, and fail where CI forbids them; the closing line is what the runners reported.

use std::fs;

use assert_cmd::Command;
use predicates::prelude::*;

/// Runs the next test alone, in a process of its own in which it is skipped.
fn run_skipped() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "skip::skipping_is_printed_and_written_down", "--nocapture"])
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
        let printed = predicate::str::contains("SKIP scripts::skip::probe: there is no\nsuch thing\n");
        run_skipped().env("BACKPACK_RUN_SKIPS", &file).assert().success().stdout(printed);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "scripts::skip::probe: there is no such thing\n".repeat(2));
}

#[test]
fn skipping_is_a_failure_where_everything_is_required() {
    run_skipped().env("REQUIRE_ALL", "1").assert().failure().stdout(predicate::str::contains("SKIP").not());
    run_skipped().env("REQUIRE_ALL", "0").assert().success();
    let excused = |name: &str| run_skipped().env("REQUIRE_ALL", "1").env("BACKPACK_RUN_EXCUSED", name).assert();
    excused("scripts::skip::probe").success().stdout(predicate::str::contains("SKIP scripts::skip::probe"));
    excused("scripts::skip::other").failure();
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
