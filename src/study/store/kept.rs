//! What a run's folder holds of a result: none, one that is what the run wrote, or one that is damaged.

use std::io::ErrorKind;
use std::path::Path;

use super::super::state::RunState;
use super::seal::{Damage, defect_of_kind};
use super::status::StatusFile;
use super::{EpochRow, RunFolder, RunStatus, rows};
use crate::error::{Error, Result};
use crate::files;
use crate::words::count;

/// What a folder holds of a run's result.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// No result: the run was not started, is under way, was stopped, or failed. Its status, if it has one.
    Nothing(Option<RunStatus>),
    /// A file that is not what the run wrote: the result counts as none, and the run is carried out again.
    Damaged(Damage),
    /// The run is done or diverged, and this is what it measured.
    Result {
        /// Its status.
        status: RunStatus,
        /// Its evaluations.
        epochs: Vec<EpochRow>,
    },
}

/// The word in tables for a run with a file that is not what the run wrote.
pub const DAMAGED: &str = "damaged";

impl RunFolder {
    /// The result, held against its seal as far as the numbers go: status and epochs.csv.
    ///
    /// # Errors
    /// [`Error::Io`] where this machine cannot read a file; [`Error::Config`] for a status of a newer version.
    pub fn read_result(&self) -> Result<Kept> {
        let status = match self.status_file()? {
            StatusFile::Missing => return Ok(Kept::Nothing(None)),
            StatusFile::Damaged(damage) => return Ok(Kept::Damaged(damage)),
            StatusFile::Whole(status) if !status.status.is_final() => return Ok(Kept::Nothing(Some(status))),
            StatusFile::Whole(status) => status,
        };
        let path = self.epochs();
        let damaged = |reason: String| Kept::Damaged(Damage { path: path.clone(), reason });
        let bytes = match files::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(damaged("it is missing".to_owned())),
            Err(error) => return defect_of_kind(error, &path).map(damaged),
        };
        if let Some(seal) = &status.seal
            && let Some(reason) = seal.defect("epochs.csv", &bytes)
        {
            return Ok(damaged(reason));
        }
        let rows = match parse(&bytes) {
            Ok(rows) => rows,
            Err(reason) => return Ok(damaged(reason)),
        };
        if status.seal.is_none()
            && let Some(reason) = wrong_count(&status, &rows)
        {
            return Ok(damaged(reason));
        }
        Ok(Kept::Result { status, epochs: rows })
    }

    /// As [`read_result`](RunFolder::read_result), with every other file of the run held against the seal too.
    ///
    /// # Errors
    /// As [`read_result`](RunFolder::read_result).
    pub fn verify_result(&self) -> Result<Kept> {
        let kept = self.read_result()?;
        let Kept::Result { status, .. } = &kept else { return Ok(kept) };
        let defect = match &status.seal {
            Some(seal) => seal.first_defect(self, "epochs.csv")?,
            None => self.config_defect(status)?.map(|reason| (self.config(), reason)),
        };
        Ok(match defect {
            Some((path, reason)) => Kept::Damaged(Damage { path, reason }),
            None => kept,
        })
    }

    /// What is wrong with the configuration of a run without a seal.
    fn config_defect(&self, status: &RunStatus) -> Result<Option<String>> {
        #[derive(serde::Deserialize)]
        struct Config {
            problem: Problem,
        }
        #[derive(serde::Deserialize)]
        struct Problem {
            epochs: usize,
        }
        let path = self.config();
        let bytes = match files::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return defect_of_kind(error, &path).map(Some),
        };
        Ok(match serde_json::from_slice::<Config>(&bytes) {
            Ok(config) if config.problem.epochs == status.epochs => None,
            Ok(config) => {
                let (found, told) = (config.problem.epochs, status.epochs);
                Some(format!("it has {found} epochs, and status.json {told}"))
            }
            Err(error) => Some(format!("it is not a run's configuration ({error})")),
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<EpochRow>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not UTF-8 ({error})"))?;
    if let Some(rows) = rows::plain_epochs(text) {
        return Ok(rows);
    }
    rows::from_csv(text, Path::new("")).map_err(|error| match error {
        Error::Config(text) => text.trim_start_matches(": ").to_owned(),
        other => other.to_string(),
    })
}

/// What is wrong with the rows of a run without a seal: the first versions of the program wrote none.
fn wrong_count(status: &RunStatus, rows: &[EpochRow]) -> Option<String> {
    let expected = if status.status == RunState::Done { status.epochs } else { status.epoch } + 1;
    if rows.len() != expected {
        let found = count(rows.len(), "row");
        return Some(format!("it has {found}, and a run that is {} has {expected}", status.status));
    }
    let misplaced = rows.iter().enumerate().find(|(place, row)| row.epoch != *place);
    misplaced.map(|(place, row)| format!("row {place} is that of epoch {}", row.epoch))
}
