//! status.json: where a run stands; reading and writing it.

use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use super::super::state::RunState;
use super::seal::{self, Damage, Seal, defect_of_kind};
use super::{RunFolder, SCHEMA_VERSION};
use crate::atomic::{self, Durability};
use crate::error::{Error, Result};
use crate::files;

/// Where the reason of a failure lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Around the run: data, disk, memory, libraries. The next start tries the run again.
    Environment,
    /// In the run itself: it would fail again.
    Run,
}

/// The content of status.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The version of this file's form.
    pub schema_version: u32,
    /// Where the run stands; a run that is pending has no such file.
    pub status: RunState,
    /// Epochs trained so far.
    pub epoch: usize,
    /// Epochs that the run has in all.
    pub epochs: usize,
    /// Why it diverged or failed.
    pub reason: Option<String>,
    /// How often a curvature could not be inverted as it was and a fallback was taken.
    #[serde(default)]
    pub failed_inverses: u64,
    /// Steps made by a run that is done, where its length was one in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Why it failed; the first versions of the program did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What the files of a run with a result held when it ended; the first versions of the program did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

impl RunStatus {
    /// A status of today's form, without failed inverses, cause and seal.
    pub fn new(status: RunState, epoch: usize, epochs: usize, reason: Option<String>) -> Self {
        let schema_version = SCHEMA_VERSION;
        RunStatus {
            schema_version,
            status,
            epoch,
            epochs,
            reason,
            failed_inverses: 0,
            steps: None,
            cause: None,
            seal: None,
        }
    }

    /// The same status with a seal over the files that are in the folder now.
    ///
    /// # Errors
    /// [`Error::Io`] where one of them cannot be read.
    pub fn sealed(self, folder: &RunFolder) -> Result<Self> {
        Ok(RunStatus { seal: Some(Seal::over(folder)?), ..self })
    }

    /// Where a run stands whose folder holds this status and no result that counts: one that is damaged is none.
    pub fn unfinished(status: Option<&RunStatus>) -> RunState {
        status.map(|status| status.status).filter(|state| !state.is_final()).unwrap_or_default()
    }
}

/// The content of status.json.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StatusFile {
    Missing,
    Damaged(Damage),
    Whole(RunStatus),
}

impl RunFolder {
    /// The status, or nothing where the run was never started or its status is damaged (a run is then carried out anew
    /// from its checkpoint, if it has one).
    ///
    /// # Errors
    /// A status of a newer version of this program, which must not be overwritten; [`Error::Io`] where this machine
    /// cannot read it.
    pub fn read_status(&self) -> Result<Option<RunStatus>> {
        Ok(match self.status_file()? {
            StatusFile::Whole(status) => Some(status),
            StatusFile::Missing | StatusFile::Damaged(_) => None,
        })
    }

    /// As [`read_status`](RunFolder::read_status), telling a damaged status from one that is not there.
    pub(super) fn status_file(&self) -> Result<StatusFile> {
        #[derive(serde::Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let path = self.status();
        let damaged = |reason: String| StatusFile::Damaged(Damage { path: path.clone(), reason });
        let bytes = match files::read(&path) {
            Ok(bytes) => bytes,
            // What stands in the way of the folder is told by whoever comes to write into it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(StatusFile::Missing);
            }
            Err(error) => return defect_of_kind(error, &path).map(damaged),
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return Ok(damaged(format!("it is not UTF-8 ({})", error.utf8_error()))),
        };
        match serde_json::from_str::<Version>(&text) {
            Ok(version) if version.schema_version > SCHEMA_VERSION => {
                return Err(Error::Config(format!(
                    "{}: schema_version {}; this program knows versions up to {SCHEMA_VERSION}. Use a newer \
                     backpack-run, or another --runs-dir",
                    path.display(),
                    version.schema_version
                )));
            }
            _ => {}
        }
        Ok(match serde_json::from_str::<RunStatus>(&text) {
            Ok(status) if status.schema_version != SCHEMA_VERSION => {
                damaged(format!("its schema_version is {}, expected {SCHEMA_VERSION}", status.schema_version))
            }
            Ok(status) if status.seal.as_ref().is_none_or(|seal| seal::is_stamped(&text, seal)) => {
                StatusFile::Whole(status)
            }
            Ok(_) => damaged("its content is not what was written (its SHA-256 is another)".to_owned()),
            Err(error) => damaged(format!("it is not a run's status ({error})")),
        })
    }

    /// Writes the status; a final one survives a loss of power.
    pub fn write_status(&self, status: &RunStatus) -> Result<()> {
        let durability = if status.status.is_final() { Durability::Machine } else { Durability::Process };
        let text = atomic::to_json(&self.status(), status)?;
        atomic::write(&self.status(), seal::stamp(text).as_bytes(), durability)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_status_reads_back_and_a_damaged_one_counts_as_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::of(root.path(), "p", "kfac", "lr-0.1__deadbeef", 42);
        folder.create().unwrap();
        assert_eq!(folder.read_status().unwrap(), None);
        let status = RunStatus::new(RunState::Diverged, 3, 10, Some("loss NaN".into()));
        folder.write_status(&status).unwrap();
        assert_eq!(folder.read_status().unwrap(), Some(status));
        fs::write(folder.status(), "{\"schema_version\": 1, \"sta").unwrap();
        assert_eq!(folder.read_status().unwrap(), None);
        fs::write(folder.status(), "{\"schema_version\": 99}").unwrap();
        assert!(folder.read_status().unwrap_err().to_string().contains("schema_version 99"));
    }
}
