//! What a file held when it was written, so that damage to it is noticed.

use std::fs::Metadata;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::words::count;

/// What one file held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SealedFile {
    /// Lines after the header, of a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// When it was written, in nanoseconds since 1970. A file of that time and size is believed to hold what it held, so
    /// that a start costs no more with weights of many megabytes; epochs.csv is always held against its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<u64>,
}

impl SealedFile {
    /// What a file of this name and content is sealed with, its time aside.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        let sha256 = hex::encode(Sha256::digest(bytes));
        SealedFile { rows: rows(name, bytes), bytes: bytes.len() as u64, sha256, modified: None }
    }

    /// The same with the time at which the file was written.
    pub(crate) fn with_time(self, metadata: &Metadata) -> Self {
        SealedFile { modified: modified(metadata), ..self }
    }

    /// Whether a file is believed to hold what it held, from its size and time alone.
    pub(crate) fn is_believed(&self, metadata: &Metadata) -> bool {
        self.modified.is_some() && metadata.len() == self.bytes && modified(metadata) == self.modified
    }

    /// What is wrong with a content, in words that follow the file's name; nothing where it is the sealed one.
    pub fn defect(&self, name: &str, bytes: &[u8]) -> Option<String> {
        match (rows(name, bytes), self.rows) {
            (Some(found), Some(written)) if found != written => {
                return Some(format!("it has {}, and {written} were written", count(found, "row")));
            }
            _ => {}
        }
        if bytes.len() as u64 != self.bytes {
            return Some(format!("it has {}, and {} were written", count(bytes.len(), "byte"), self.bytes));
        }
        (hex::encode(Sha256::digest(bytes)) != self.sha256)
            .then(|| "its content is not what was written (its SHA-256 is another)".to_owned())
    }
}

fn rows(name: &str, bytes: &[u8]) -> Option<usize> {
    let lines = || bytes.iter().filter(|byte| **byte == b'\n').count();
    name.ends_with(".csv").then(|| lines().saturating_sub(1))
}

fn modified(metadata: &Metadata) -> Option<u64> {
    let time = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(time.as_nanos()).ok()
}
