//! A study on a cluster as users have one: three nodes, limits of partition, array, queue and time, tasks that are
//! preempted, a node and a controller that are lost. BACKPACK_RUN_CLUSTER_RUNS=300 makes it a large one, whose nodes have
//! hostnames of their own.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use backpack_run::study::settings::RunTask;

use crate::slurm::{Cluster, Killed, Layout, say};
use crate::study_support::{Bench, is_alive, state, text, wait_for};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// The most tasks at a time, of all arrays together.
const ARRAY_LIMIT: usize = 8;
/// The most cores of a node that the partition gives.
const NODE_LIMIT: usize = 3;
const EPOCHS: usize = 20;
/// In which time the controller writes its state down; its own limit is five seconds.
const STATE_SAVED: Duration = Duration::from_secs(7);

/// Limits as small to the study as a cluster's are to one of thousands of runs. Tasks may last for a minute, the shortest
/// that SLURM has, and are warned when the controller looks first, within half of it.
fn layout(runs: usize) -> Layout {
    let lines = format!(
        "MaxJobCount={}\nMinJobAge=2\nMaxArraySize={}\nPreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n\
         SchedulerParameters=sched_interval=2\n\
         PartitionName=low Nodes=n1,n2,n3 Default=YES MaxTime=1 MaxCPUsPerNode={NODE_LIMIT} PriorityTier=1 State=UP\n\
         PartitionName=high Nodes=n1,n2,n3 MaxTime=5 PriorityTier=10 State=UP\n",
        runs * 4 / 5,
        runs * 2 / 5 + 1
    );
    Layout { nodes: &NODES, cores: 4, lines, hostnames: runs >= 100 }
}

/// sbatch below a limit on the jobs that a user may have in the queue, for which SLURM itself needs a database
/// (MaxSubmitJobs). Where the queue of all users is full, it gives up after seconds rather than two minutes.
const SBATCH: &str = r#"#!/bin/sh
refuse() {
    echo "sbatch: error: Batch job submission failed: $1" >&2
    echo "$1" >> refusals
    exit 1
}
for argument; do case $argument in --array=*) tasks=${argument#--array=0-}; esac; done
tasks=${tasks%%\%*}
PATH=${PATH#*:}
if [ -n "$tasks" ] && [ $(($(squeue -h -r -p low | wc -l) + tasks + 1)) -gt "$SUBMIT_LIMIT" ]; then
    refuse "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
fi
timeout 2.5 sbatch "$@"
status=$?
[ $status != 124 ] || refuse "Resource temporarily unavailable"
exit $status
"#;

/// The program that follows the study; ended with the value.
struct Study(Child);

impl Drop for Study {
    fn drop(&mut self) {
        // One that has ended needs no end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A task at work: its process, its node, its run's folder and how many evaluations that has.
struct Task {
    pid: i32,
    node: String,
    folder: PathBuf,
    evaluations: usize,
}

/// A variable of a process's environment.
fn variable(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let name = format!("{name}=");
    environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name.as_bytes()).map(text))
}

fn at_work(bench: &Bench) -> Vec<Task> {
    let task = |folder: PathBuf| {
        let table = fs::read_to_string(folder.join("epochs.csv")).unwrap_or_default();
        let lock = fs::read_to_string(folder.join("lock.json")).ok()?;
        let pid = serde_json::from_str::<serde_json::Value>(&lock).ok()?["pid"].as_i64()? as i32;
        let node = variable(pid, "SLURMD_NODENAME")?;
        let evaluations = table.lines().count().saturating_sub(1);
        (state(&folder) == "running" && is_alive(pid)).then_some(Task { pid, node, folder, evaluations })
    };
    bench.run_folders("cluster").into_iter().filter_map(task).collect()
}

/// Those that have trained at least an epoch.
fn under_way(bench: &Bench) -> Vec<Task> {
    at_work(bench).into_iter().filter(|task| task.evaluations > 1).collect()
}

/// What was seen while the study went on.
#[derive(Default)]
struct Seen {
    /// The most tasks at a time, in all and on one node.
    most: usize,
    most_on_a_node: usize,
    /// How often each job was requeued.
    restarts: HashMap<String, usize>,
    /// When and where the tables of finished runs were written.
    finished: BTreeMap<PathBuf, (i64, i64, u64)>,
}

fn written(folder: &Path) -> (i64, i64, u64) {
    let metadata = fs::metadata(folder.join("epochs.csv")).unwrap();
    (metadata.mtime(), metadata.mtime_nsec(), metadata.ino())
}

/// Looks at the cluster and the runs' folders until it is told that the study is over.
struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it saw is of no use where the test has failed.
            let _ = thread.join();
        }
    }
}

impl Watch {
    fn start(bench: &Arc<Bench>, config: PathBuf) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (bench, ended) = (Arc::clone(bench), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !ended.load(Ordering::Relaxed) {
                seen.look(&bench, &config);
                std::thread::sleep(Duration::from_millis(200));
            }
            seen
        });
        Watch { over, thread: Some(thread) }
    }

    fn end(mut self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Seen {
    fn look(&mut self, bench: &Bench, config: &Path) {
        let tasks = say(config, "squeue", &["-h", "-r", "-t", "running", "-p", "low", "-o", "%N"]);
        self.most = self.most.max(tasks.lines().count());
        for node in NODES {
            self.most_on_a_node = self.most_on_a_node.max(tasks.lines().filter(|line| line.trim() == node).count());
        }
        for job in say(config, "scontrol", &["-o", "show", "job"]).lines() {
            let field = |name: &str| job.split(' ').find_map(|field| field.strip_prefix(name)).unwrap_or_default();
            let restarts = self.restarts.entry(field("JobId=").to_owned()).or_default();
            *restarts = field("Restarts=").parse().unwrap_or(0).max(*restarts);
        }
        for folder in bench.run_folders("cluster") {
            if state(&folder) == "done" && !folder.join("lock.json").exists() {
                self.finished.entry(folder.clone()).or_insert_with(|| written(&folder));
            }
        }
    }
}

/// How often each run's evaluations were made, by what its tasks say.
fn evaluations(bench: &Bench) -> BTreeMap<PathBuf, [usize; EPOCHS + 1]> {
    let mut counts: BTreeMap<PathBuf, [usize; EPOCHS + 1]> = BTreeMap::new();
    for array in fs::read_dir(bench.runs("cluster").join(".slurm")).unwrap() {
        let array = array.unwrap().path();
        for (index, line) in fs::read_to_string(array.join("tasks.jsonl")).unwrap().lines().enumerate() {
            let task: RunTask = serde_json::from_str(line).unwrap();
            let counts = counts.entry(task.folder().path().to_owned()).or_insert([0; EPOCHS + 1]);
            let log = fs::read_to_string(array.join(format!("task-{index}.log"))).unwrap_or_default();
            for line in log.lines() {
                let epoch = line.split_once("epoch ").and_then(|(_, rest)| rest.split_once(": valid accuracy"));
                epoch.into_iter().for_each(|(epoch, _)| counts[epoch.parse::<usize>().unwrap()] += 1);
            }
        }
    }
    counts
}

/// What was done to a study.
#[derive(Default)]
struct Done {
    /// Tasks that were preempted, that reached their time limit, and that their node took with it.
    preempted: usize,
    limited: usize,
    lost: Vec<PathBuf>,
}

/// Suspends the study while runs are in their midst on two nodes, and gives these.
fn hold(bench: &Bench, pause: &Path) -> Vec<Task> {
    let mut tasks = Vec::new();
    let several = |tasks: &[Task]| tasks.iter().any(|task| task.node != tasks[0].node);
    wait_for("runs in their midst on two nodes", || {
        if several(&under_way(bench)) {
            fs::write(pause, "").unwrap();
            // Those that were about to end do so.
            std::thread::sleep(Duration::from_millis(500));
            tasks = under_way(bench);
            if !several(&tasks) {
                fs::remove_file(pause).unwrap();
            }
        }
        pause.exists()
    });
    tasks
}

/// The folder of the run that a task carries out, by its command line; nothing before its script has got to the program.
fn folder_of(task: &Killed) -> Option<PathBuf> {
    let after = |flag: &str| task.arguments.iter().skip_while(|word| *word != flag).nth(1);
    let tasks = fs::read_to_string(after("--tasks")?).unwrap();
    let line = tasks.lines().nth(after("--index")?.parse().unwrap()).unwrap();
    Some(serde_json::from_str::<RunTask>(line).unwrap().folder().path().to_owned())
}

/// Preempts the tasks of one node, loses another with its tasks, then the controller, and holds the rest until their time
/// is up.
fn round(bench: &Bench, cluster: &mut Cluster, tasks: &[Task], done: &mut Done) {
    let wait_for_ends = |what: &str, tasks: &[&Task]| {
        wait_for(what, || tasks.iter().all(|task| !is_alive(task.pid)));
    };
    let on = |node: &str| tasks.iter().filter(|task| task.node == node).collect::<Vec<_>>();

    let taken = tasks[0].node.clone();
    let job = ["-p", "high", "--exclusive", "-w", &taken, "-o", "/dev/null", "--no-requeue", "--wrap", "sleep 1"];
    assert!(cluster.command("sbatch").args(job).stdout(Stdio::null()).status().unwrap().success());
    wait_for_ends("the end of preempted tasks", &on(&taken));
    // A controller that was killed right after a job had ended would requeue it on its return, and then exit because the
    // job's script is gone: hence --no-requeue.
    cluster.wait_until("preempted tasks to be back in the queue, and what took their place to be over", || {
        cluster.has_no_jobs(&["-t", "completing"]) && cluster.has_no_jobs(&["-p", "high"])
    });
    done.preempted += on(&taken).len();

    // On its return, a controller has forgotten the last seconds before it was killed: it ends as orphans the tasks that
    // began then, and waits for those that ended. Tasks of the other nodes may have come to the end of their time meanwhile.
    let (mut jobs, mut since, mut broken) = (String::new(), Instant::now(), String::new());
    cluster.wait_until("nothing to happen in the queue for a while, and a task on another node", || {
        let now = cluster.say("squeue", &["-h", "-r", "-o", "%i %T"]);
        if now != jobs {
            (jobs, since) = (now, Instant::now());
        }
        broken = at_work(bench).into_iter().map(|task| task.node).find(|node| *node != taken).unwrap_or_default();
        since.elapsed() > STATE_SAVED && !broken.is_empty()
    });
    let place = NODES.iter().position(|node| *node == broken).unwrap();
    // What sinfo tells of the node changes while its tasks are given up.
    let times_down = |cluster: &Cluster| cluster.log().matches("not responding, setting DOWN").count();
    let before = times_down(cluster);
    let lost = cluster.kill_node(place);
    wait_for("the end of what the node ran", || lost.iter().all(|task| !is_alive(task.pid)));
    done.lost.extend(lost.iter().filter_map(folder_of));
    cluster.kill_controller();
    std::thread::sleep(Duration::from_secs(2));
    cluster.start_controller(false);

    let gone: Vec<i32> = lost.iter().map(|task| task.pid).collect();
    let others = tasks.iter().filter(|task| task.node != taken && !gone.contains(&task.pid));
    let mut held: Vec<(i32, PathBuf)> = others.map(|task| (task.pid, task.folder.clone())).collect();
    cluster.wait_until("runs whose time is up, and the node to be down", || {
        held.extend(at_work(bench).into_iter().filter(|task| task.node != broken).map(|task| (task.pid, task.folder)));
        held.sort();
        held.dedup();
        held.retain(|(pid, folder)| is_alive(*pid) || state(folder) == "interrupted");
        held.iter().any(|(pid, _)| !is_alive(*pid)) && times_down(cluster) > before
    });
    done.limited += held.iter().filter(|(pid, _)| !is_alive(*pid)).count();
    cluster.start_node(place);
}

#[test]
fn nothing_is_lost_and_nothing_is_done_twice() {
    const NAME: &str = "nothing_is_lost_and_nothing_is_done_twice";
    let runs: usize = std::env::var("BACKPACK_RUN_CLUSTER_RUNS").map_or(30, |runs| runs.parse().unwrap());
    let mut cluster = match Cluster::of(layout(runs)) {
        Ok(cluster) => cluster,
        Err(reason) => crate::support::skip!(NAME, &reason),
    };
    let bench = Arc::new(Bench::new());
    let rates: Vec<String> = (1..=runs).map(|run| format!("{:.4}", 0.002 * run as f64)).collect();
    let grid = format!(
        "grid --problem small.toml --curv kfac --damping 1 --lr {} --epochs {EPOCHS} --checkpoint-seconds 0.2",
        rates.join(",")
    );
    let pause = bench.path().join("pause");
    let [programs, said] = ["programs", "said"].map(|name| bench.path().join(name));
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("sbatch"), SBATCH).unwrap();
    fs::set_permissions(programs.join("sbatch"), fs::Permissions::from_mode(0o755)).unwrap();

    // Others have filled the queue.
    let full = runs * 4 / 5 - 1;
    for _ in 0..full {
        let job = ["-p", "high", "--hold", "-o", "/dev/null", "--wrap", "true"];
        assert!(cluster.command("sbatch").args(job).stdout(Stdio::null()).status().unwrap().success());
    }
    let began = Instant::now();
    let watch = Watch::start(&bench, cluster.config());
    let slurm = format!("{grid} --pause-file pause --launcher slurm --slurm array_limit={ARRAY_LIMIT}");
    let mut command = bench.command("cluster", &slurm);
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    command.env("SLURM_CONF", cluster.config()).env("PATH", path).env("SUBMIT_LIMIT", (runs * 2 / 5).to_string());
    command.stdout(fs::File::create(bench.path().join("table")).unwrap()).stderr(fs::File::create(&said).unwrap());
    let mut study = Study(command.spawn().unwrap());
    let told = || fs::read_to_string(&said).unwrap();
    wait_for("word of a full queue", || told().contains("to be submitted when SLURM takes them"));
    cluster.say("scancel", &["-p", "high"]);

    let (mut done, mut local) = (Done::default(), None);
    for _ in 0..runs.div_ceil(100) {
        let tasks = hold(&bench, &pause);
        // The same runs without a cluster, while that stands still.
        local.get_or_insert_with(|| Study(bench.start("local", &format!("{grid} --jobs 2"))));
        round(&bench, &mut cluster, &tasks, &mut done);
        fs::remove_file(&pause).unwrap();
    }
    let status = cluster.wait_for(&mut study.0);
    let (wall, seen, said) = (began.elapsed(), watch.end(), told());
    assert!(status.success(), "{status}: {said}");

    assert!(local.unwrap().0.wait().unwrap().success());
    let table = bench.succeed("local", &format!("{grid} --jobs 2"));
    assert_eq!(fs::read_to_string(bench.path().join("table")).unwrap(), table);
    let (local, remote) = (bench.results("local"), bench.results("cluster"));
    assert!(local == remote, "files differ");
    assert!(bench.succeed("cluster", "status").contains(&format!("{runs} runs: {runs} done")));
    let refusals = fs::read_to_string(bench.path().join("refusals")).unwrap();
    assert!(["job submit limit", "temporarily unavailable"].iter().all(|why| refusals.contains(why)), "{refusals}");

    // No more at a time than allowed, and never a second time: what has ended stays as it was, and an evaluation is
    // made again only where a node took what came after the last checkpoint.
    assert!(
        (2..=ARRAY_LIMIT).contains(&seen.most) && seen.most_on_a_node <= NODE_LIMIT,
        "{}, {}",
        seen.most,
        seen.most_on_a_node
    );
    assert!(!seen.finished.is_empty());
    for (folder, before) in &seen.finished {
        assert!(written(folder) == *before, "{} was written again", folder.display());
    }
    for (folder, counts) in evaluations(&bench) {
        let losses = done.lost.iter().filter(|lost| **lost == folder).count();
        assert!(
            counts.iter().all(|count| (1..=1 + losses).contains(count)),
            "{}, {losses}: {counts:?}\n{}",
            folder.display(),
            cluster.log()
        );
    }
    let requeued: usize = seen.restarts.values().sum();
    assert!(requeued >= done.preempted + done.limited, "{requeued}");
    println!(
        "{runs} runs in {:.0} s: {} arrays, {} refused, {} preempted, {} at their time limit, {} lost with a \
         node, {requeued} requeued; at most {} at a time; {} files compared",
        wall.as_secs_f64(),
        said.matches("SLURM job array").count(),
        refusals.lines().count(),
        done.preempted,
        done.limited,
        done.lost.len(),
        seen.most,
        local.len()
    );
}
