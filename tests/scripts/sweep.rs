//! scripts/seed_sweep.sh on a small problem, and what both sweeps say without arguments.

use std::process::Command;

use crate::study_support::{Bench, text};

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
