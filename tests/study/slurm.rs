//! `--launcher slurm` against a real controller and node on loopback.
#![cfg(target_os = "linux")]

use std::process::Stdio;

use crate::study_support::slurm::Cluster;
use crate::study_support::{Bench, state, text, wait_for};

const GRID: &str = "grid --problem small.toml --optimizer momentum --lr 0.01,0.02,0.05,0.1 --epochs 3";

#[test]
fn an_array_gives_the_results_of_local_runs() {
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(reason) => crate::support::skip!("an_array_gives_the_results_of_local_runs", &reason),
    };
    let bench = Bench::new();
    let table = bench.succeed("local", GRID);
    let slurm = format!("{GRID} --launcher slurm --slurm time=10");
    let mut command = bench.command("cluster", &slurm);
    // To sbatch each is an option: the errors elsewhere, and nothing of the environment for the tasks.
    let errors = bench.path().join("errors");
    command.env("SLURM_CONF", cluster.config()).env("SBATCH_ERROR", &errors).env("SBATCH_EXPORT", "NONE");
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("SLURM job array") && said.contains("4 runs"), "{said}");
    assert!(said.contains("SBATCH_ERROR is kept") && said.contains("SBATCH_EXPORT is kept"), "{said}");
    assert!(!errors.exists(), "what tasks say went elsewhere");
    assert_eq!(text(&output.stdout), table);
    assert!(bench.results("local") == bench.results("cluster"));

    // What sbatch refuses is told with its own words.
    let refused = slurm.replace("0.01,0.02,0.05,0.1", "0.3").replace("time=10", "partition=none");
    let output = bench.command("cluster", &refused).env("SLURM_CONF", cluster.config()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("partition"), "{}", text(&output.stderr));
}

#[test]
fn an_array_keeps_to_its_limit_and_its_output_to_its_place() {
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(reason) => crate::support::skip!("an_array_keeps_to_its_limit_and_its_output_to_its_place", &reason),
    };
    let bench = Bench::new();
    // To sbatch, %A and %% in the name of an output file mean something else.
    let runs = "runs%A%%";
    let slurm = format!("{GRID} --launcher slurm --slurm time=10,array_limit=1");
    let mut command = bench.command(runs, &slurm);
    command.env("SLURM_CONF", cluster.config()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut parent = command.spawn().unwrap();
    // The node has room for two tasks.
    let (mut most, mut throttled) = (0, false);
    while parent.try_wait().unwrap().is_none() {
        most = most.max(cluster.say("squeue", &["-h", "-t", "running", "-r", "-o", "%K"]).lines().count());
        throttled |= cluster.say("scontrol", &["show", "job"]).contains("ArrayTaskThrottle=1");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(crate::study_support::finish(parent).success());
    assert_eq!((most, throttled), (1, true));
    let arrays = bench.runs(runs).join(".slurm");
    let array = std::fs::read_dir(arrays).unwrap().next().unwrap().unwrap().path();
    let logs = |index| array.join(format!("task-{index}.log"));
    assert!((0..4).all(|index| logs(index).is_file()), "{:?}", std::fs::read_dir(array).unwrap().collect::<Vec<_>>());
}

#[test]
fn an_extraction_in_shards_is_merged_behind_its_array() {
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(reason) => crate::support::skip!("an_extraction_in_shards_is_merged_behind_its_array", &reason),
    };
    let bench = Bench::new();
    let extract = |arguments: &str| {
        let mut command = std::process::Command::new(crate::support::program_path());
        command.current_dir(bench.path()).env("SLURM_CONF", cluster.config());
        command.env("BACKPACK_RUN_CACHE", crate::support::cache());
        let fixed = "extract --problem small.toml --split train --samples 301 --dtype f64 --quantities grad,variance,kfac,batch_l2";
        let output = command.args(fixed.split(' ')).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    extract("--out whole");
    let said = extract("--out q --batch-size 40 --launcher slurm --shards 3 --slurm time=10");
    assert!(said.contains("SLURM job array") && said.contains("3 shards"), "{said}");
    let read = |name: &str| -> std::collections::BTreeMap<String, tch::Tensor> {
        tch::Tensor::read_safetensors(bench.path().join(name)).unwrap().into_iter().collect()
    };
    let (whole, merged) = (read("whole"), read("q"));
    assert_eq!(whole.keys().collect::<Vec<_>>(), merged.keys().collect::<Vec<_>>());
    for (name, tensor) in &whole {
        let error = f64::try_from((tensor - &merged[name]).abs().max().to_kind(tch::Kind::Double)).unwrap();
        let largest = f64::try_from(tensor.abs().max().to_kind(tch::Kind::Double)).unwrap();
        assert!(error <= 1e-12 * largest, "{name}: {error:e}");
    }
    let left: Vec<_> = std::fs::read_dir(bench.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("-of-3")), "{left:?}");
}

#[test]
fn a_time_limit_costs_nothing() {
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(reason) => crate::support::skip!("a_time_limit_costs_nothing", &reason),
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
    assert!(crate::study_support::finish(parent).success());
    assert!(bench.results("local") == bench.results("cluster"));
}

/// The process that carries a run out and its folder's name, of runs that are past their first epoch.
fn running(bench: &Bench) -> Vec<i32> {
    let folders = bench.run_folders("cluster").into_iter().filter(|folder| {
        std::fs::read_to_string(folder.join("epochs.csv")).is_ok_and(|table| table.lines().count() > 3)
    });
    let pid = |folder: std::path::PathBuf| {
        let lock = std::fs::read_to_string(folder.join("lock.json")).ok()?;
        serde_json::from_str::<serde_json::Value>(&lock).ok()?["pid"].as_i64()
    };
    folders.filter_map(pid).map(|pid| pid as i32).filter(|pid| crate::study_support::is_alive(*pid)).collect()
}

/// The place in its array of the task that a process belongs to.
fn array_task(pid: i32) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let name = b"SLURM_ARRAY_TASK_ID=".as_slice();
    let entry = environment.split(|byte| *byte == 0).find(|entry| entry.starts_with(name))?;
    Some(text(&entry[name.len()..]))
}

#[test]
fn killed_and_requeued_tasks_and_a_lost_node_cost_nothing() {
    let mut cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(reason) => crate::support::skip!("killed_and_requeued_tasks_and_a_lost_node_cost_nothing", &reason),
    };
    let bench = Bench::new();
    let grid = "grid --problem small.toml --curv kfac --lr 0.01,0.02,0.05,0.1 --damping 0.1,1,10 --epochs 40 \
                --checkpoint-seconds 0.2";
    let table = bench.succeed("local", &format!("{grid} --jobs 2"));
    let mut command = bench.command("cluster", &format!("{grid} --launcher slurm --slurm time=10"));
    command.env("SLURM_CONF", cluster.config()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let parent = command.spawn().unwrap();

    // A task's process is killed, as where memory runs out.
    let mut killed = None;
    wait_for("a run under way", || {
        let Some(pid) = running(&bench).first().copied() else { return false };
        killed = array_task(pid);
        // SAFETY: sends a signal to the process that the lock names and that was seen to live.
        killed.is_some() && unsafe { libc::kill(pid, libc::SIGKILL) == 0 }
    });
    // Until SLURM has seen it end, a requeue could hit this very task.
    let killed = killed.unwrap();
    cluster.wait_until("the killed task to be over", || {
        !cluster.say("squeue", &["-h", "-t", "running,completing", "-r", "-o", "%K"]).lines().any(|task| task == killed)
    });
    // A task is requeued by its administrator.
    wait_for("a requeued task", || {
        let tasks = cluster.say("squeue", &["-h", "-t", "running", "-r", "-o", "%F_%K"]);
        let requeue = |task| cluster.command("scontrol").args(["requeue", task]).status().unwrap().success();
        !running(&bench).is_empty() && tasks.lines().next().is_some_and(requeue)
    });
    // The node is lost with all that it runs, noticed as down, and comes back.
    wait_for("another run under way", || !running(&bench).is_empty());
    let before = running(&bench);
    cluster.kill_node(0);
    wait_for("the end of what the node ran", || before.iter().all(|pid| !crate::study_support::is_alive(*pid)));
    cluster.wait_until("the node to be down", || cluster.say("sinfo", &["-h", "-o", "%t"]).starts_with("down"));
    cluster.start_node(0);

    let output = parent.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("its task is gone; another continues"), "{said}");
    assert_eq!(text(&output.stdout), table);
    assert!(bench.results("local") == bench.results("cluster"));
    assert!(bench.succeed("cluster", "status").contains("12 runs: 12 done"));
}
