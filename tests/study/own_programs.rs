//! Programs of one's own, which the examples are: what is entered there goes through all that built-in things go through.

use std::path::Path;

use crate::study_support::{Bench, finish, state, text, wait_for};
use crate::support;

/// The folder of a test with this example as its program.
fn example(name: &str) -> Bench {
    let program = support::program_path().with_file_name("examples").join(name);
    assert!(program.is_file(), "{} is not there: cargo test and cargo nextest run build it", program.display());
    Bench::of(program)
}

/// Runs a command that knows no runs to its good end, and gives its stdout.
fn succeed(bench: &Bench, arguments: &str) -> String {
    let output = bench.plain(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

const GRID: &str = "grid --problem small.toml --optimizer variance_sgd --lr 0.05,0.2 --set noise=0,2 --set clip_norm=5 \
                    --jobs 2 --checkpoint-seconds 0.02";

#[test]
fn a_grid_of_ones_own_optimizer_is_killed_and_resumed() {
    let bench = example("custom_optimizer");
    let table = bench.succeed("whole", GRID);
    let whole = bench.results("whole");
    assert_eq!(bench.run_folders("whole").len(), 4);
    // The option is told, and another value of it is another run.
    assert!(table.contains("noise"), "{table}");
    let configuration = |folder: &Path| read(folder.join("config.json"));
    let noisy = bench.run_folders("whole").iter().filter(|run| configuration(run).contains("\"noise\": 2")).count();
    assert!((2..4).contains(&noisy), "{noisy}");

    let mut parent = bench.start("killed", GRID);
    wait_for("a checkpoint", || {
        let is_under_way =
            |run: &std::path::PathBuf| state(run) == "running" && run.join("checkpoint.safetensors").exists();
        bench.run_folders("killed").iter().any(is_under_way) || parent.try_wait().unwrap().is_some()
    });
    parent.kill().unwrap();
    finish(parent);
    assert!(bench.run_folders("killed").iter().any(|run| state(run) == "running"), "nothing was under way");
    assert_eq!(bench.succeed("killed", GRID), table);
    assert!(bench.results("killed") == whole, "the runs that were killed are others");
}

#[test]
fn ones_own_optimizer_is_studied_reported_and_measured() {
    let bench = example("custom_optimizer");
    let study = r#"
        schema = 1
        name = "own"
        problem = "small.toml"
        epochs = 2
        seeds = [1, 2]
        [[optimizer]]
        name = "variance_sgd"
        learning_rate = 0.1
        noise = [0.0, 1.0]
        variance_decay = 0.5
        [[optimizer]]
        name = "sgd"
        learning_rate = 0.1
    "#;
    std::fs::write(bench.path().join("own.toml"), study).unwrap();
    bench.succeed("runs", "study own.toml --results-dir results");
    let results = bench.path().join("results/own");
    assert!(read(results.join("curves.csv")).contains("\nsmall,VarianceSGD,valid_accuracies,2,"));
    let grid = read(results.join("grid.csv"));
    assert!(grid.lines().next().unwrap().contains(",noise,"), "{grid}");
    let report = succeed(&bench, "report results/own");
    assert!(read(results.join("index.html")).contains("VarianceSGD"), "{report}");

    let typing = bench.plain("grid --problem small.toml --optimizer variance_sgd --set noise=-1").output().unwrap();
    assert_eq!(typing.status.code(), Some(2));
    assert!(text(&typing.stderr).contains("a number of at least 0"), "{}", text(&typing.stderr));

    succeed(&bench, "bench --figure steps --problem small.toml --optimizer variance_sgd --rounds 1 --out bench");
    assert!(read(bench.path().join("bench/bench.csv")).contains(",variance_sgd,"));
    assert!(succeed(&bench, "list optimizers").contains("variance_decay"));
}

#[test]
fn ones_own_layer_is_checked_trained_and_listed() {
    let bench = example("custom_layer");
    let table = succeed(&bench, "check --problem rescaled --format csv");
    let rows = table.lines().filter(|line| line.contains(",1,weight,"));
    assert!(rows.clone().count() >= 8 && rows.clone().all(|line| line.ends_with(",true")), "{table}");
    bench.succeed("runs", "train --problem rescaled --optimizer momentum --lr 0.1 --epochs 25");
    let curve = read(bench.only_run("runs").join("epochs.csv"));
    let loss = |line: usize| curve.lines().nth(line).unwrap().split(',').nth(1).unwrap().parse::<f64>().unwrap();
    assert!(loss(26) < 0.9 * loss(1), "{curve}");
    assert!(succeed(&bench, "list layers").contains("rescale"));
    succeed(&bench, "bench --figure 6 --problem rescaled --quantity variance --rounds 1 --out bench");
}

#[test]
fn ones_own_quantities_are_checked_and_measured() {
    let bench = example("custom_quantity");
    let names = "signal_to_noise,alignment";
    let table = succeed(&bench, &format!("check --problem small.toml --quantities {names} --format csv"));
    assert_eq!(table.lines().filter(|line| line.ends_with(",true")).count(), 8, "{table}");
    succeed(&bench, "bench --problem small.toml --quantity alignment --rounds 1 --out bench");
    assert!(read(bench.path().join("bench/bench.csv")).contains(",alignment,"));
    assert!(succeed(&bench, "list quantities").contains("alignment"));
}

#[test]
fn ones_own_problem_and_data_are_trained() {
    let bench = example("custom_problem");
    bench.succeed("runs", "train --problem moons --optimizer adam --lr 0.02");
    let curve = read(bench.only_run("runs").join("epochs.csv"));
    let accuracy: f64 = curve.lines().last().unwrap().split(',').nth(6).unwrap().parse().unwrap();
    assert!(accuracy > 0.85, "{curve}");
    assert!(succeed(&bench, "list problems").contains("moons"));
    assert!(succeed(&bench, "data list").contains("two_moons"));
    succeed(&bench, "check --problem moons --quantities variance");
    let fetch = bench.plain("data fetch two_moons").output().unwrap();
    assert!(text(&fetch.stderr).contains("nothing to fetch"), "{}", text(&fetch.stderr));
}

#[test]
fn a_study_from_rust_is_a_study_of_the_program() {
    let mut bench = example("study");
    let study = r#"
        schema = 1
        problem = "small.toml"
        epochs = 2
        seeds = [1, 2]
        [[optimizer]]
        name = "sgd"
        learning_rate = [0.01, 0.1]
    "#;
    std::fs::write(bench.path().join("own.toml"), study).unwrap();
    let told = succeed(&bench, "own.toml");
    assert_eq!(told.lines().filter(|line| line.contains(", epoch 2: train loss Some(")).count(), 4, "{told}");
    assert!(told.contains("\nsmall SGD test_accuracies: ") && told.contains(" with 2 seeds\n"), "{told}");
    let results = bench.path().join("results/own");
    let tables = || ["curves.csv", "seeds.csv", "grid.csv", "final.csv"].map(|name| read(results.join(name)));
    let from_rust = tables();
    bench.program = support::program_path();
    let again = bench.plain("study own.toml --jobs 2").output().unwrap();
    assert!(
        text(&again.stderr).contains("2 runs have their results already and are skipped"),
        "{}",
        text(&again.stderr)
    );
    assert!(tables() == from_rust, "the program writes other results");
}
