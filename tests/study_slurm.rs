//! `--launcher slurm` against a real controller and node on loopback.
#![cfg(target_os = "linux")]

mod study_support;
mod support;

use std::process::Stdio;

use study_support::slurm::Cluster;
use study_support::{Bench, state, text, wait_for};

const GRID: &str = "grid --problem small.toml --optimizer momentum --lr 0.01,0.02,0.05,0.1 --epochs 3";

#[test]
fn an_array_gives_the_results_of_local_runs() {
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(reason) => support::skip!("an_array_gives_the_results_of_local_runs", &reason),
    };
    let bench = Bench::new();
    let table = bench.succeed("local", GRID);
    let slurm = format!("{GRID} --launcher slurm --slurm time=10");
    let output = bench.command("cluster", &slurm).env("SLURM_CONF", cluster.config()).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("SLURM job array") && said.contains("4 runs"), "{said}");
    assert_eq!(text(&output.stdout), table);
    assert!(bench.results("local") == bench.results("cluster"));

    // What sbatch refuses is told with its own words.
    let refused = slurm.replace("0.01,0.02,0.05,0.1", "0.3").replace("time=10", "partition=none");
    let output = bench.command("cluster", &refused).env("SLURM_CONF", cluster.config()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("partition"), "{}", text(&output.stderr));
}

#[test]
fn a_time_limit_costs_nothing() {
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(reason) => support::skip!("a_time_limit_costs_nothing", &reason),
    };
    let bench = Bench::new();
    let grid = "grid --problem small.toml --curv kfac --lr 0.01,0.05 --damping 1 --epochs 200";
    bench.succeed("local", grid);
    let slurm = format!("{grid} --launcher slurm --jobs 2");
    let mut command = bench.command("cluster", &slurm);
    command.env("SLURM_CONF", cluster.config()).stdout(Stdio::null()).stderr(Stdio::null());
    let parent = command.spawn().unwrap();
    wait_for("a run in its second epoch", || {
        bench.run_folders("cluster").iter().any(|folder| {
            std::fs::read_to_string(folder.join("epochs.csv")).is_ok_and(|table| table.lines().count() > 2)
        })
    });
    // The warning that SLURM sends before a limit: the runs leave checkpoints and go back to the queue.
    cluster.say("scancel", &["--batch", "--signal=USR1", "--user=root"]);
    wait_for("an interrupted run", || bench.run_folders("cluster").iter().any(|run| state(run) == "interrupted"));
    assert!(study_support::finish(parent).success());
    assert!(bench.results("local") == bench.results("cluster"));
}
