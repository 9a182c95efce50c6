//! `--launcher slurm` against a real controller and node on loopback, which live for the time of a test with munge.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::study_support::{Bench, send, state, text, wait_for};
use crate::support;

/// What a cluster is made of.
pub struct Layout {
    /// The nodes' names.
    pub nodes: &'static [&'static str],
    /// The cores that each node is said to have.
    pub cores: usize,
    /// Lines of slurm.conf for partitions and limits.
    pub lines: String,
    /// Whether each node takes its name for its hostname too, so that locks are those of other machines.
    pub hostnames: bool,
}

/// A task that was killed with its node.
pub struct Killed {
    pub pid: i32,
    /// Its command line.
    pub arguments: Vec<String>,
}

/// A cluster. Its processes end with the value.
pub struct Cluster {
    folder: TempDir,
    layout: Layout,
    munge: Option<Child>,
    controller: Option<Child>,
    /// The nodes' daemons, in the layout's order.
    nodes: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts a cluster of one node with two cores; the error says what is missing on this machine.
    pub fn start() -> Result<Self, String> {
        let lines = "PartitionName=all Nodes=node Default=YES MaxTime=INFINITE State=UP\n".to_owned();
        Cluster::of(Layout { nodes: &["node"], cores: 2, lines, hostnames: false })
    }

    /// Starts the daemons; the error says what is missing on this machine.
    pub fn of(layout: Layout) -> Result<Self, String> {
        for program in ["munged", "slurmctld", "slurmd", "sbatch"] {
            find(program).ok_or_else(|| format!("{program} is not installed (Debian: slurm-wlm, munge)"))?;
        }
        let folder = support::temporary_folder();
        let nodes = layout.nodes.iter().map(|_| None).collect();
        let mut cluster = Cluster { folder, layout, munge: None, controller: None, nodes };
        cluster.start_munge();
        cluster.write_config();
        cluster.start_controller(true);
        let said = || cluster.say("scontrol", &["show", "config"]);
        cluster.wait_until("the controller to answer", || said().contains("SLURM_VERSION"));
        let several = said().lines().any(|line| line.starts_with("MULTIPLE_SLURMD") && line.ends_with("Yes"));
        if cluster.nodes.len() > 1 && !several {
            return Err("this SLURM was built without --enable-multiple-slurmd (Debian's has it)".to_owned());
        }
        for node in 0..cluster.nodes.len() {
            cluster.start_node(node);
        }
        cluster.wait_until("the nodes to be idle", || {
            let states = cluster.say("sinfo", &["-h", "-N", "-o", "%t"]);
            states.lines().count() >= cluster.nodes.len() && states.lines().all(|state| state.trim() == "idle")
        });
        Ok(cluster)
    }

    /// slurm.conf, for the variable SLURM_CONF.
    pub fn config(&self) -> PathBuf {
        self.path("slurm.conf")
    }

    /// What a SLURM command prints.
    pub fn say(&self, program: &str, arguments: &[&str]) -> String {
        say(&self.config(), program, arguments)
    }

    /// Whether squeue answers that it has none of these jobs.
    pub fn has_no_jobs(&self, which: &[&str]) -> bool {
        let output = self.command("squeue").arg("-h").args(which).output().unwrap();
        output.status.success() && output.stdout.is_empty()
    }

    /// A SLURM command for this cluster.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.config());
        command
    }

    /// Starts the controller, with nothing of what it knew or all of it.
    pub fn start_controller(&mut self, afresh: bool) {
        let config = self.config().display().to_string();
        let afresh = if afresh { ["-c"].as_slice() } else { &[] };
        self.controller = Some(self.spawn("slurmctld", &[&["-D", "-f", &config], afresh].concat()));
    }

    /// Ends the controller without a word.
    pub fn kill_controller(&mut self) {
        end(&mut self.controller);
    }

    /// What the controller wrote down.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("slurmctld.log")).unwrap_or_default()
    }

    /// Starts a node's slurmd.
    pub fn start_node(&mut self, node: usize) {
        let (name, config) = (self.layout.nodes[node], self.config().display().to_string());
        let arguments = ["-D", "-N", name, "-f", &config];
        self.nodes[node] = Some(if self.layout.hostnames {
            // A name for itself alone: a UTS namespace, which only root may make.
            let slurmd = find("slurmd").unwrap().display().to_string();
            let command = "hostname \"$1\" && shift && exec \"$@\"";
            self.spawn(
                "unshare",
                &[&["--uts", "sh", "-c", command, "sh", name, &slurmd], arguments.as_slice()].concat(),
            )
        } else {
            self.spawn("slurmd", &arguments)
        });
    }

    /// What a loss of power does to a node: slurmd, its helpers and all that they run are gone at once. Gives the tasks
    /// that went with it.
    pub fn kill_node(&mut self, node: usize) -> Vec<Killed> {
        end(&mut self.nodes[node]);
        let log = self.path(&format!("slurmd-{}.log", self.layout.nodes[node]));
        let mut killed = Vec::new();
        // Each step's helper has the node's log open; its own child is the task. One that slurmd had only just begun opens it
        // a little later.
        let helpers = || {
            let helpers = processes().into_iter().filter(|(_, command)| command.contains("slurmstepd"));
            helpers.map(|(pid, _)| pid).filter(|pid| has_open(*pid, &log)).collect::<Vec<u32>>()
        };
        for _ in 0..5 {
            for helper in helpers() {
                // A helper that stands still begins no task that would be overlooked.
                send(helper as i32, libc::SIGSTOP);
                crate::study_support::wait_for("a helper to stand still", || {
                    matches!(crate::study_support::process_state(helper as i32), 'T' | 'Z')
                });
                for task in crate::study_support::children(helper) {
                    let arguments = fs::read_to_string(format!("/proc/{task}/cmdline")).unwrap_or_default();
                    killed.push(Killed { pid: task, arguments: arguments.split('\0').map(str::to_owned).collect() });
                    send(task, libc::SIGKILL);
                }
                send(helper as i32, libc::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        killed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start_munge(&mut self) {
        // munged wants folders that nobody else can write to, and a key that nobody else can read.
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let key = self.path("munge.key");
        fs::write(&key, [7u8; 1024]).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
        let at = |option: &str, name: &str| format!("--{option}={}", self.path(name).display());
        let arguments = [
            "--foreground".to_owned(),
            "--force".to_owned(),
            at("key-file", "munge.key"),
            at("socket", "munge.socket"),
            at("pid-file", "munge.pid"),
            at("log-file", "munge.log"),
            at("seed-file", "munge.seed"),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.munge = Some(self.spawn("munged", &arguments));
        let socket = self.path("munge.socket");
        self.wait_until("munge's socket", || socket.exists());
    }

    fn write_config(&self) {
        let controller = free_port();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let (host, folder) = (host.trim(), self.folder.path().display());
        fs::create_dir(self.path("state")).unwrap();
        // Nodes are taken to have the cores that they are said to have.
        let mut text = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={controller}\n\
             AuthType=auth/munge\nAuthInfo=socket={folder}/munge.socket,cred_expire=5\nSlurmUser=root\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core\nJobAcctGatherType=jobacct_gather/none\nReturnToService=2\nMpiDefault=none\n\
             SlurmdTimeout=15\nSlurmdParameters=config_overrides\n\
             StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool/%n\n\
             SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/slurmd-%n.pid\n\
             SlurmctldLogFile={folder}/slurmctld.log\nSlurmdLogFile={folder}/slurmd-%n.log\n"
        );
        for node in self.layout.nodes {
            fs::create_dir_all(self.path("spool").join(node)).unwrap();
            let (port, cores) = (free_port(), self.layout.cores);
            text += &format!(
                "NodeName={node} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} CPUs={cores} State=UNKNOWN\n"
            );
        }
        fs::write(self.config(), text + &self.layout.lines).unwrap();
    }

    fn spawn(&self, program: &str, arguments: &[&str]) -> Child {
        let program = find(program).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).env("SLURM_CONF", self.config());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// SLURM's controller ends by itself where it finds its own state wanting.
    fn check_controller(&self) {
        let ended = self.controller.as_ref().is_some_and(|child| !crate::study_support::is_alive(child.id() as i32));
        assert!(!ended, "the controller has ended by itself\n{}", self.log());
    }

    /// Waits for a program that needs the cluster, as long as that may take.
    pub fn wait_for(&self, program: &mut Child) -> ExitStatus {
        loop {
            if let Some(status) = program.try_wait().unwrap() {
                return status;
            }
            self.check_controller();
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            self.check_controller();
            if began.elapsed() > Duration::from_secs(120) {
                let log =
                    |name: &&str| fs::read_to_string(self.path(&format!("slurmd-{name}.log"))).unwrap_or_default();
                let nodes: Vec<String> = self.layout.nodes.iter().map(log).collect();
                panic!("waited in vain for {what}\n{}\n{}", self.log(), nodes.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.say("scancel", &["--full", "--signal=KILL", "--user=root"]);
        for node in 0..self.nodes.len() {
            self.kill_node(node);
        }
        end(&mut self.controller);
        end(&mut self.munge);
    }
}

/// What a command of the SLURM with this configuration prints.
pub fn say(config: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("SLURM_CONF", config).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Kills a daemon; one that has ended by itself needs no end.
fn end(daemon: &mut Option<Child>) {
    if let Some(mut child) = daemon.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// All processes with their command lines.
fn processes() -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(|pid: u32| (pid, fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default())).collect()
}

/// Whether a process has a file open.
fn has_open(pid: u32, path: &Path) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target == path)
}

/// A program in PATH or where Debian puts daemons.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

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
        // The process that the lock names was seen to live.
        killed.is_some() && send(pid, libc::SIGKILL)
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
