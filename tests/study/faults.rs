//! What goes wrong around runs: it is told, the other runs go on, and nothing that is done is lost.
#![cfg(unix)]

use std::fs;
use std::path::Path;

use crate::study_support::{Bench, state, task, text};
use backpack_run::study::run::{DataCache, record_loss};
use backpack_run::study::store::Cause;

const GRID: &str = "grid --problem small.toml --optimizer momentum --lr 0.001,0.1 --epochs 1 --jobs 2";

/// The setting's folder of the run with learning rate 0.1.
fn setting(bench: &Bench) -> std::path::PathBuf {
    let said = bench.succeed("runs", &format!("{GRID} --dry-run --format csv"));
    let line = said.lines().find(|line| line.contains("/lr-0.1__")).unwrap();
    let folder = Path::new(line.split(',').nth(1).unwrap());
    folder.parent().unwrap().to_owned()
}

#[test]
fn a_run_that_cannot_be_written_fails_and_the_others_go_on() {
    let bench = Bench::new();
    let setting = setting(&bench);
    fs::create_dir_all(setting.parent().unwrap()).unwrap();
    // A file where the run's folder should be: no user, root included, can write below it.
    fs::write(&setting, "in the way").unwrap();
    let output = bench.output("runs", GRID);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("1 of 2 runs failed") && said.contains("creating the folder"), "{said}");
    assert!(text(&output.stdout).contains("failed") && text(&output.stdout).contains("best: lr 0.001"));
    assert_eq!(state(&bench.only_run("runs")), "done");
    fs::remove_file(&setting).unwrap();
    bench.succeed("runs", GRID);
    assert_eq!(bench.run_folders("runs").len(), 2);
}

/// What stood in the way of a run is none of its own faults: once it is away, the same command carries the run out.
#[test]
fn what_failed_by_its_surroundings_is_tried_again_by_itself() {
    let bench = Bench::new();
    let folder = setting(&bench).join("seed-42");
    // A directory in the place of a file that the run writes.
    fs::create_dir_all(folder.join("steps.csv/x")).unwrap();
    assert_eq!(bench.output("runs", GRID).status.code(), Some(1));
    assert_eq!(state(&folder), "failed");
    let status = fs::read_to_string(folder.join("status.json")).unwrap();
    assert!(status.contains("steps.csv: writing failed") && status.contains("\"environment\""), "{status}");
    let survey = bench.succeed("runs", "status");
    assert!(survey.contains("1 done") && survey.contains("1 failed"), "{survey}");
    // It is still there: tried again, and told of.
    let again = bench.output("runs", GRID);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("steps.csv: writing failed"), "{}", text(&again.stderr));

    fs::remove_dir_all(folder.join("steps.csv")).unwrap();
    bench.succeed("runs", GRID);
    assert_eq!(state(&folder), "done");
    bench.succeed("whole", GRID);
    assert!(bench.results("whole") == bench.results("runs"));
}

/// A data file that was damaged and is whole again.
#[test]
fn a_run_whose_data_are_mended_is_tried_again_by_itself() {
    let bench = Bench::new();
    let data = bench.path().join("data/mnist");
    fs::create_dir_all(&data).unwrap();
    for (name, count, images) in
        [("train", 60_000u32, true), ("train", 60_000, false), ("t10k", 10_000, true), ("t10k", 10_000, false)]
    {
        let header: Vec<u32> = if images { vec![2051, count, 28, 28] } else { vec![2049, count] };
        let mut bytes: Vec<u8> = header.into_iter().flat_map(u32::to_be_bytes).collect();
        let pixels = if images { 784 } else { 1 };
        bytes.extend((0..count as usize * pixels).map(|place| (place % 10) as u8));
        let kind = if images { "images-idx3-ubyte" } else { "labels-idx1-ubyte" };
        fs::write(data.join(format!("{name}-{kind}")), bytes).unwrap();
    }
    let train = "train --problem mnist_logreg --optimizer sgd --lr 0.01 --epochs 1 --train-size 1000 --data-dir data";
    let labels = data.join("train-labels-idx1-ubyte");
    let whole = fs::read(&labels).unwrap();
    fs::write(&labels, &whole[..whole.len() - 100]).unwrap();
    let output = bench.output("runs", train);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("train-labels-idx1-ubyte"), "{said}");
    // Data are looked at before any run, and leave none that failed.
    assert!(bench.run_folders("runs").is_empty());
    fs::write(&labels, &whole).unwrap();
    bench.succeed("runs", train);
    assert_eq!(state(&bench.only_run("runs")), "done");
}

/// A batch of one value a channel has no variance, which shows in the first step.
#[test]
fn what_failed_by_itself_is_tried_again_only_when_asked_to() {
    let bench = Bench::new();
    let problem = fs::read_to_string(bench.path().join("normed.toml")).unwrap();
    let single = problem.replace("kernel_size = 3", "kernel_size = 8").replace("\"normed\"", "\"single\"");
    fs::write(bench.path().join("single.toml"), single).unwrap();
    let grid = "grid --problem single.toml --optimizer sgd --lr 0.1,0.01 --batch-size 1 --epochs 1";
    assert_eq!(bench.output("runs", grid).status.code(), Some(1));
    let folder = bench.run_folders("runs").remove(0);
    let status = fs::read_to_string(folder.join("status.json")).unwrap();
    assert!(status.contains("has no variance") && status.contains("\"cause\": \"run\""), "{status}");
    let tried = || fs::metadata(folder.join("provenance.json")).unwrap().modified().unwrap();
    let first = tried();
    let again = bench.output("runs", grid);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("failed before"), "{}", text(&again.stderr));
    assert_eq!(tried(), first, "it was tried again without being asked to");
    // As the first versions of the program wrote it: why it failed is not known.
    fs::write(folder.join("status.json"), status.replace(",\n  \"cause\": \"run\"", "")).unwrap();
    assert!(text(&bench.output("runs", grid).stderr).contains("failed before"));
    assert_eq!(tried(), first);
    assert_eq!(bench.output("runs", &format!("{grid} --retry failed")).status.code(), Some(1));
    assert!(tried() > first, "it was not tried again");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_of_with_a_remedy() {
    let bench = Bench::new();
    fs::write(bench.path().join("file"), "in the way").unwrap();
    let output = bench.output("file/runs", GRID);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot be written") && said.contains("choose another folder with --runs-dir"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_dry_run_of_what_cannot_run_fails_too() {
    let bench = Bench::new();
    let output =
        bench.output("runs", "grid --problem mnist_logreg --optimizer sgd --lr 0.1 --data-dir empty --dry-run");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let output = bench.output("runs", &format!("{GRID} --device cuda:99 --dry-run"));
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    // What two optimizers lack is told once, and what each of two problems lacks.
    let both = "study --problem mnist_logreg,fmnist_logreg --optimizer sgd,adam --lr 0.1 --data-dir empty --dry-run";
    let output = bench.output("runs", both);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(
        ["data fetch mnist`", "data fetch fashion_mnist`"].map(|what| said.matches(what).count()),
        [1, 1],
        "{said}"
    );
    assert!(!said.contains("the option `"), "{said}");
    let said = bench.succeed("runs", &format!("{GRID} --launcher slurm --slurm partition=gpu,time=10:00 --dry-run"));
    assert!(said.contains("2 tasks in all, submitted with --partition=gpu --time=10:00"), "{said}");
    let slurm = "--launcher slurm --slurm partition=gpu,array_limit=8 --dry-run";
    let said = bench.succeed("runs", &format!("{GRID} {slurm}"));
    assert!(said.contains("2 tasks in all, submitted with --partition=gpu, at most 2 at a time;"), "{said}");
}

#[test]
fn missing_data_stop_everything_with_a_remedy() {
    let bench = Bench::new();
    fs::create_dir(bench.path().join("empty")).unwrap();
    let output = bench.output("runs", "grid --problem mnist_logreg --optimizer sgd --lr 0.1,0.2 --data-dir empty");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("data fetch mnist") && said.contains("--data-dir"), "{said}");
    assert!(bench.run_folders("runs").is_empty());
}

/// What every run would fail with is a mistake of configuration: it is told before anything starts.
#[test]
fn settings_that_no_run_can_have_are_refused_before_any_run() {
    let bench = Bench::new();
    for (flags, expected) in [
        ("--batch-size 100000", "do not fill a batch"),
        ("--train-size 9999999", "train_size = 9999999"),
        ("--train-size 1", "do not fill a batch"),
        ("--set loss=mse", "cross_entropy goes with class labels"),
        ("--set augment=true", "has no augmentation"),
    ] {
        for extra in ["", " --dry-run"] {
            let output = bench.output("runs", &format!("{GRID} {flags}{extra}"));
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{flags}{extra}: {said}");
            assert!(said.contains(expected), "{flags}{extra}: {said}");
        }
    }
    let search = "grid --problem small.toml --curv kfac --lr 0.1,1 --damping 0,1 --search random --budget 3";
    let output = bench.output("runs", search);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("damping 0 has no logarithm"), "{said}");
    assert!(bench.run_folders("runs").is_empty());
}

/// A run whose workers are lost again and again is given up: its folder tells why, and no result is overwritten.
#[test]
fn a_lost_run_is_recorded_unless_it_has_its_result() {
    let bench = Bench::new();
    let problem = bench.path().join("small.toml");
    let task = &task(&bench, &format!("--problem {} --optimizer momentum --lr 0.1 --epochs 1", problem.display()));
    let train = "train --problem small.toml --optimizer momentum --lr 0.1 --epochs 1";
    record_loss(task, "lost to a fault", Cause::Run).unwrap();
    let folder = bench.only_run("runs");
    let status = fs::read_to_string(folder.join("status.json")).unwrap();
    assert!(status.contains("lost to a fault") && state(&folder) == "failed", "{status}");
    // What it had counted is kept.
    fs::write(folder.join("status.json"), status.replace("\"failed_inverses\": 0", "\"failed_inverses\": 7")).unwrap();
    record_loss(task, "lost to a fault", Cause::Run).unwrap();
    let status = fs::read_to_string(folder.join("status.json")).unwrap();
    assert!(status.contains("\"failed_inverses\": 7"), "{status}");
    let output = bench.output("runs", train);
    assert!(text(&output.stderr).contains("failed before: lost to a fault"), "{}", text(&output.stderr));
    // For want of memory it is tried again by itself.
    record_loss(task, "it got no memory", Cause::Environment).unwrap();
    bench.succeed("runs", train);
    assert_eq!(state(&folder), "done");
    let result = fs::read(folder.join("status.json")).unwrap();
    record_loss(task, "too late", Cause::Run).unwrap();
    assert!(fs::read(folder.join("status.json")).unwrap() == result);
}

/// What the optimizer asks of every pass and the network has not, would fail every run in its first step.
#[test]
fn an_optimizer_that_a_network_does_not_allow_is_refused_before_any_run() {
    let bench = Bench::new();
    let problem = fs::read_to_string(bench.path().join("small.toml")).unwrap();
    let layers = "[[layers]]\ntype = \"linear\"\nout_features = 2\n[[layers]]\ntype = \"flatten\"\n";
    let head = problem.split("[[layers]]").next().unwrap().replace("[1, 8, 8]", "[2, 8]").replace("small", "wide");
    fs::write(bench.path().join("wide.toml"), format!("{head}{layers}")).unwrap();
    for (name, curvature, expected) in [
        ("normed", "kfac", "kfac on normed"),
        ("normed", "kflr", "kflr on normed"),
        ("normed", "kfra", "kfra on normed"),
        ("normed", "diag_ggn", "frozen = true"),
        ("normed", "diag_ggn_mc", "frozen = true"),
        ("wide", "kfra", "extra dimensions"),
    ] {
        let flags = format!("--problem {name}.toml --curv {curvature} --lr 0.1,1 --damping 1 --epochs 1");
        for command in ["grid", "study", "grid --dry-run"] {
            let output = bench.output("runs", &format!("{command} {flags}"));
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command} {flags}: {said}");
            assert!(said.contains(expected) && said.contains(name), "{command} {flags}: {said}");
        }
    }
    assert!(bench.run_folders("runs").is_empty());
    // The gradient alone is there.
    bench.succeed("runs", "train --problem normed.toml --optimizer sgd --lr 0.1 --epochs 1");
}

#[test]
fn data_that_vanish_fail_the_runs_that_need_them() {
    let bench = Bench::new();
    let problem = fs::read_to_string(bench.path().join("small.toml")).unwrap();
    let own: String = problem
        .lines()
        .map(|line| if line.starts_with("dataset") { "dataset = { safetensors = \"own.safetensors\" }" } else { line })
        .map(|line| line.to_owned() + "\n")
        .collect();
    fs::write(bench.path().join("own.toml"), own).unwrap();
    let images = tch::Tensor::rand([500, 1, 8, 8], (tch::Kind::Float, tch::Device::Cpu));
    let labels = tch::Tensor::arange(500, (tch::Kind::Int64, tch::Device::Cpu)).remainder(4);
    let file = bench.path().join("own.safetensors");
    tch::Tensor::write_safetensors(&[("x", images), ("y", labels)], &file).unwrap();
    let train = "train --problem own.toml --optimizer sgd --lr 0.1 --epochs 1";
    bench.succeed("runs", train);
    // Known to be the same data by their content, they are gone when a run comes to need them.
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 8]).unwrap();
    let output = bench.output("runs", &format!("{train} --seed 43"));
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("own.safetensors"), "{}", text(&output.stderr));
    fs::write(&file, &bytes).unwrap();
    bench.succeed("runs", train);
}

/// A run's folder is named after its data's content: it is not trained on another content that came later.
#[test]
fn data_that_change_after_the_plan_are_refused() {
    let bench = Bench::new();
    let file = bench.path().join("own.safetensors");
    let write = |value: f64| {
        let images = tch::Tensor::full([60, 4], value, (tch::Kind::Float, tch::Device::Cpu));
        let labels = tch::Tensor::arange(60, (tch::Kind::Int64, tch::Device::Cpu)).remainder(3);
        tch::Tensor::write_safetensors(&[("x", images), ("y", labels)], &file).unwrap();
    };
    write(0.5);
    let problem = bench.path().join("own.toml");
    let text = "name = \"own\"\nloss = \"cross_entropy\"\nbatch_size = 8\nepochs = 1\n\
                dataset = { safetensors = \"own.safetensors\" }\n[[layers]]\ntype = \"linear\"\nout_features = 3\n";
    fs::write(&problem, text).unwrap();
    let task = &task(&bench, &format!("--problem {} --optimizer sgd --lr 1", problem.display()));
    assert!(DataCache::default().get(task).is_ok());
    write(0.25);
    let error = DataCache::default().get(task).unwrap_err().to_string();
    assert!(error.contains("own.safetensors") && error.contains("has changed"), "{error}");
}

#[test]
fn a_result_of_a_newer_version_is_not_touched() {
    let bench = Bench::new();
    bench.succeed("runs", GRID);
    let folder = setting(&bench).join("seed-42");
    fs::write(folder.join("status.json"), "{\"schema_version\": 99, \"status\": \"perfect\"}").unwrap();
    let output = bench.output("runs", GRID);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("schema_version 99"), "{}", text(&output.stderr));
}

#[test]
fn the_lock_of_a_dead_process_is_taken_over_at_once() {
    let bench = Bench::new();
    bench.succeed("whole", GRID);
    let folder = setting(&bench).join("seed-42");
    fs::create_dir_all(&folder).unwrap();
    // A process that was killed while it held the lock: its file stays.
    let train = "train --problem small.toml --optimizer momentum --lr 0.1 --epochs 1 --checkpoint-seconds 0.001";
    loop {
        let mut child = bench.start("runs", train);
        crate::study_support::wait_for("the lock", || {
            folder.join("lock.json").exists() || !matches!(child.try_wait(), Ok(None))
        });
        child.kill().unwrap();
        child.wait().unwrap();
        if folder.join("lock.json").exists() {
            break;
        }
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir_all(&folder).unwrap();
    }
    let began = std::time::Instant::now();
    bench.succeed("runs", GRID);
    assert!(began.elapsed().as_secs() < 60, "the dead process was waited for");
    assert!(bench.results("whole") == bench.results("runs"));
}

#[test]
fn without_a_cluster_slurm_is_refused_with_a_remedy() {
    let bench = Bench::new();
    let output = bench.command("runs", &format!("{GRID} --launcher slurm")).env("PATH", "/nowhere").output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("sbatch") && said.contains("--launcher local"), "{said}");
    assert!(!bench.runs("runs").exists());
}

/// Variables of sbatch stand for its options: those that would break the runs are told, or refused.
#[test]
fn variables_of_sbatch_that_break_runs_are_not_believed() {
    let bench = Bench::new();
    for command in [format!("{GRID} --launcher slurm"), format!("{GRID} --launcher slurm --dry-run")] {
        let output = bench.command("runs", &command).env("SBATCH_CLUSTERS", "other").output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("SBATCH_CLUSTERS=other") && said.contains("set SLURM_CLUSTERS"), "{said}");
    }
    let mut command = bench.command("runs", &format!("{GRID} --launcher slurm --dry-run"));
    let output = command.env("SBATCH_WAIT", "1").env("SBATCH_EXPORT", "NONE").output().unwrap();
    let told = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(told.contains("SBATCH_WAIT is kept") && told.contains("SBATCH_EXPORT is kept"), "{told}");
    assert!(bench.run_folders("runs").is_empty());
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let bench = Bench::new();
    bench.succeed("runs", GRID);
    let mut child = bench.command("runs", "status").stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_run_that_memory_does_not_suffice_for_is_refused_and_the_others_go_on() {
    let bench = Bench::new();
    let problem = fs::read_to_string(bench.path().join("small.toml")).unwrap();
    // Batches whose activations take terabytes, of a data set that is not made.
    let huge = problem
        .replace("train = 1200, test = 300", "train = 1073741824, test = 1073741824")
        .replace("batch_size = 50", "batch_size = 500000000")
        .replace("valid_size = 200", "valid_size = 500000000")
        .replace("\"small\"", "\"huge\"");
    fs::write(bench.path().join("huge.toml"), huge).unwrap();
    let output = bench.output("runs", &GRID.replace("small.toml", "huge.toml"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("TiB of memory") && said.contains("are free"), "{said}");
    let output = bench.output("runs", &GRID.replace("small.toml", "huge.toml,small.toml"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("2 of 4 runs failed"), "{said}");
    assert_eq!(bench.run_folders("runs").len(), 2);
    assert!(bench.run_folders("runs").iter().all(|folder| state(folder) == "done"));
}

/// A dry run estimates from shapes what it has no room for, and makes none of it.
#[test]
fn a_dry_run_allocates_nothing_of_what_it_estimates() {
    let bench = Bench::new();
    let problem = fs::read_to_string(bench.path().join("small.toml")).unwrap();
    let data = problem.replace("train = 1200", "train = 1073741824").replace("\"small\"", "\"data\"");
    fs::write(bench.path().join("data.toml"), data).unwrap();
    // Layers of two billion weights each, terabytes together.
    let layer = "[[layers]]\ntype = \"linear\"\nout_features = 46000\n".repeat(400);
    let end = problem.rfind("[[layers]]").unwrap();
    let network = format!("{}{layer}{}", &problem[..end], &problem[end..]).replace("\"small\"", "\"network\"");
    fs::write(bench.path().join("network.toml"), network).unwrap();
    for (name, amount) in [("data", "GiB of memory"), ("network", "TiB of memory")] {
        for command in ["train", "grid", "study"] {
            let flags = format!("--problem {name}.toml --optimizer sgd --lr 0.1 --seeds 1");
            let output = bench.output("runs", &format!("{command} {flags} --dry-run"));
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{command} {name}: {said}");
            assert!(said.contains(amount) && said.contains("are free"), "{command} {name}: {said}");
        }
        let output = bench.output("runs", &format!("train --problem {name}.toml --optimizer sgd --lr 0.1"));
        assert_eq!(output.status.code(), Some(3), "{name}: {}", text(&output.stderr));
        // The machines of a cluster may have the room.
        let flags = format!("--problem {name}.toml --optimizer sgd --lr 0.1 --launcher slurm --dry-run");
        let told = bench.succeed("runs", &format!("grid {flags}"));
        assert!(told.contains("cannot be timed") && told.contains(amount), "{name}: {told}");
    }
    let listed =
        crate::support::program().args(["list", "problems", "network.toml"]).current_dir(bench.path()).output();
    let listed = text(&listed.unwrap().stdout);
    assert!(listed.contains("46000"), "{listed}");
}

/// Results as the first versions of the program left them, stored beside the tests: their status has no count of
/// failed inverses.
#[test]
fn results_of_an_older_version_are_read_and_left_alone() {
    let bench = Bench::new();
    bench.unpack_old_runs("runs");
    let before = bench.results("runs");
    assert_eq!(bench.run_folders("runs").len(), 2);
    let survey = bench.succeed("runs", "status");
    assert!(survey.contains("2 runs: 2 done"), "{survey}");
    let output = bench.output("runs", GRID);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert_eq!(said.trim(), "2 runs have their results already and are skipped", "nothing is done again");
    assert!(text(&output.stdout).contains("best: lr 0.1"), "{}", text(&output.stdout));
    let after = bench.results("runs");
    assert_eq!(after.len(), before.len());
    for (path, content) in &before {
        if !path.ends_with("status.json") {
            assert!(after[path] == *content, "{}", path.display());
            continue;
        }
        // What it said it still says; only what it did not is added.
        let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        let (was, is) = (read(content), read(&after[path]));
        assert!(was.as_object().unwrap().iter().all(|(key, value)| is[key] == *value), "{is}");
    }
}

#[test]
fn a_newer_version_is_told_by_status_and_hides_no_other_run() {
    let bench = Bench::new();
    bench.unpack_old_runs("runs");
    let folder = bench.run_folders("runs").remove(0);
    let newer = "{\"schema_version\": 2, \"status\": \"perfect\"}";
    fs::write(folder.join("status.json"), newer).unwrap();
    let before = bench.results("runs");
    let output = bench.output("runs", GRID);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("schema_version 2") && said.contains("newer backpack-run"), "{said}");
    let survey = bench.succeed("runs", "status --format csv");
    assert!(
        survey.contains("unreadable") && survey.contains("schema_version 2") && survey.contains(",done,"),
        "{survey}"
    );
    assert!(bench.results("runs") == before);
}
