//! Provenance: what computed a run, on which machine, and when.

use std::io::ErrorKind;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::external;

/// The version of provenance.json.
const SCHEMA_VERSION: u32 = 1;
/// How long git may take: on a disk that does not answer, a run must not wait for it.
const GIT_ANSWER: Duration = Duration::from_secs(5);

/// The content of provenance.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The version of this file's form.
    pub schema_version: u32,
    /// This program's version.
    pub backpack_run: String,
    /// The version of the bindings to libtorch.
    pub tch: String,
    /// libtorch's version.
    pub libtorch: String,
    /// The processor's name.
    pub cpu: String,
    /// Its logical cores.
    pub cores: usize,
    /// libtorch's threads of the run.
    pub threads: usize,
    /// The device that the run computed on.
    pub device: String,
    /// The operating system and its version.
    pub system: String,
    /// The machine's name.
    pub host: String,
    /// The git revision of the folder that the program was started in, "-dirty" with changes; none outside of git, or where
    /// git does not answer.
    pub git_revision: Option<String>,
    /// When the run was started or last continued, UTC.
    pub time: String,
}

impl Provenance {
    /// That of a run on `device` with `threads`, now, on this machine.
    pub fn now(threads: usize, device: &str) -> Self {
        let system = sysinfo::System::new_with_specifics(
            sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing()),
        );
        let cpus = system.as_ref().map(sysinfo::System::cpus).unwrap_or_default();
        let cpu = cpus.first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default();
        Provenance {
            schema_version: SCHEMA_VERSION,
            backpack_run: env!("CARGO_PKG_VERSION").to_owned(),
            tch: TCH_VERSION.to_owned(),
            libtorch: libtorch_version(),
            cpu,
            cores: cpus.len(),
            threads,
            device: device.to_owned(),
            system: sysinfo::System::long_os_version().unwrap_or_default(),
            host: sysinfo::System::host_name().unwrap_or_default(),
            git_revision: git_revision(),
            time: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        }
    }
}

/// The version of tch, which Cargo.toml pins.
pub const TCH_VERSION: &str = "0.26.0";

/// libtorch's version, as its own file tells; that which tch asks for where the file is not there.
pub fn libtorch_version() -> String {
    let folder = std::path::Path::new(env!("BACKPACK_RUN_LIBTORCH"));
    let told = folder.parent().and_then(|parent| std::fs::read_to_string(parent.join("build-version")).ok());
    told.map_or_else(|| "2.13.0".to_owned(), |text| text.trim().to_owned())
}

fn git_revision() -> Option<String> {
    // Where git did not answer one run of this process, the next one does not wait for it again.
    static SILENT: AtomicBool = AtomicBool::new(false);
    if SILENT.load(Ordering::Relaxed) {
        return None;
    }
    let arguments = ["describe", "--always", "--dirty", "--abbrev=40", "--match="];
    let output = match external::output(Command::new("git").args(arguments), GIT_ANSWER) {
        Ok(output) => output,
        Err(error) => {
            if error.kind() == ErrorKind::TimedOut {
                SILENT.store(true, Ordering::Relaxed);
                tracing::warn!("git describe: {error}; provenance.json is without a git revision");
            }
            return None;
        }
    };
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_lock_file() {
        let lock = include_str!("../Cargo.lock");
        assert!(lock.contains(&format!("name = \"tch\"\nversion = \"{TCH_VERSION}\"")));
        assert!(libtorch_version().starts_with("2.13.0"), "{}", libtorch_version());
    }

    #[test]
    fn this_machine_is_described() {
        let provenance = Provenance::now(2, "cpu");
        assert_eq!(provenance.threads, 2);
        assert!(provenance.cores >= 1);
        assert!(!provenance.host.is_empty());
    }
}
