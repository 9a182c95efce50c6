//! A SLURM controller, a node and munge on loopback, for the time of a test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support;

/// A cluster of one node. Its processes end with the value.
pub struct Cluster {
    folder: TempDir,
    processes: Vec<Child>,
}

impl Cluster {
    /// Starts the daemons; the error says what is missing on this machine.
    pub fn start() -> Result<Self, String> {
        for program in ["munged", "slurmctld", "slurmd", "sbatch"] {
            find(program).ok_or_else(|| format!("{program} is not installed (Debian: slurm-wlm, munge)"))?;
        }
        let folder = support::temporary_folder();
        let mut cluster = Cluster { folder, processes: Vec::new() };
        cluster.start_munge();
        cluster.write_config();
        let config = cluster.config();
        cluster.spawn("slurmctld", &["-D", "-c", "-f", config.to_str().unwrap()]);
        cluster.start_node();
        cluster.wait_until("the node to be idle", || cluster.say("sinfo", &["-h", "-o", "%t"]).trim() == "idle");
        Ok(cluster)
    }

    /// slurm.conf, for the variable SLURM_CONF.
    pub fn config(&self) -> PathBuf {
        self.path("slurm.conf")
    }

    /// What a SLURM command prints.
    pub fn say(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A SLURM command for this cluster.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.config());
        command
    }

    /// Starts slurmd.
    pub fn start_node(&mut self) {
        let config = self.config();
        self.spawn("slurmd", &["-D", "-N", "node", "-f", config.to_str().unwrap()]);
    }

    /// What a loss of power does to the node: slurmd, its helpers and all that they run are gone at once.
    pub fn kill_node(&mut self) {
        let mut slurmd = self.processes.pop().unwrap();
        let spool = self.path("spool").display().to_string();
        slurmd.kill().unwrap();
        slurmd.wait().unwrap();
        for (pid, command) in processes() {
            // Each step's helper names the node's spool folder in its files; its own child is the task.
            if command.contains("slurmstepd") && opens(pid, &spool) {
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
        self.spawn("munged", &arguments);
        let socket = self.path("munge.socket");
        self.wait_until("munge's socket", || socket.exists());
    }

    fn write_config(&self) {
        let [controller, node] = [free_port(), free_port()];
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let folder = self.folder.path().display();
        for name in ["state", "spool"] {
            fs::create_dir(self.path(name)).unwrap();
        }
        let text = format!(
            "ClusterName=test\nSlurmctldHost={}(127.0.0.1)\nSlurmctldPort={controller}\nSlurmdPort={node}\n\
             AuthType=auth/munge\nAuthInfo=socket={folder}/munge.socket,cred_expire=5\nSlurmUser=root\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core\nJobAcctGatherType=jobacct_gather/none\nReturnToService=2\nMpiDefault=none\n\
             SlurmdTimeout=5\nStateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool\n\
             SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/slurmd.pid\n\
             SlurmctldLogFile={folder}/slurmctld.log\nSlurmdLogFile={folder}/slurmd.log\n\
             NodeName=node NodeAddr=127.0.0.1 NodeHostname={} CPUs=2 State=UNKNOWN\n\
             PartitionName=all Nodes=node Default=YES MaxTime=INFINITE State=UP\n",
            host.trim(),
            host.trim()
        );
        fs::write(self.config(), text).unwrap();
    }

    fn spawn(&mut self, program: &str, arguments: &[&str]) {
        let program = find(program).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .env("SLURM_CONF", self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.processes.push(child);
    }

    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            if began.elapsed() > Duration::from_secs(60) {
                let log = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
                panic!("waited in vain for {what}\n{}\n{}", log("slurmctld.log"), log("slurmd.log"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.say("scancel", &["--full", "--signal=KILL", "--user=root"]);
        for child in self.processes.iter_mut().rev() {
            // A daemon that has ended by itself needs no end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// All processes with their command lines.
fn processes() -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(|pid: u32| (pid, fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default())).collect()
}

/// Whether a process has this SLURM configuration's folder in its environment or a file below it open.
fn opens(pid: u32, folder: &str) -> bool {
    let parent = Path::new(folder).parent().unwrap().display().to_string();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    if String::from_utf8_lossy(&environment).contains(&parent) {
        return true;
    }
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.starts_with(folder))
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
