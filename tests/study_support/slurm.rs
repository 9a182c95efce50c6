//! A SLURM controller, its nodes and munge on loopback, for the time of a test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

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

    /// What a loss of power does to a node: slurmd, its helpers and all that they run are gone at once.
    pub fn kill_node(&mut self, node: usize) {
        end(&mut self.nodes[node]);
        let log = self.path(&format!("slurmd-{}.log", self.layout.nodes[node]));
        for (pid, command) in processes() {
            // Each step's helper has the node's log open; its own child is the task.
            if command.contains("slurmstepd") && has_open(pid, &log) {
                for child in crate::study_support::children(pid).into_iter().chain([pid as i32]) {
                    // SAFETY: sends a signal; a process that is gone makes it fail, which changes nothing.
                    unsafe { libc::kill(child, libc::SIGKILL) };
                }
            }
        }
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
             SlurmdTimeout=5\nSlurmdParameters=config_overrides\n\
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

    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            if began.elapsed() > Duration::from_secs(60) {
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
