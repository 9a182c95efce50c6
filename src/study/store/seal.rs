//! The seal of a run that has its result: what each of its files held when the run ended, and a digest of the status
//! itself, so that damage to any of them is noticed.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{RunFolder, RunStatus};
use crate::error::{Error, IoContext, Result};
use crate::files;
use crate::words::hex;

/// The files that are sealed where they are there, and whether a sealed run needs them: the others may be deleted to
/// save space, but not altered.
const FILES: [(&str, bool); 6] = [
    ("config.json", true),
    ("epochs.csv", true),
    ("steps.csv", false),
    ("diagnostics.csv", false),
    ("provenance.json", false),
    ("weights.safetensors", false),
];

/// From this size on a file whose size and time are the sealed ones is believed to hold what it held: the weights of a
/// large grid would take minutes to hash.
const LARGE: u64 = 1 << 16;

/// What a run's files held when it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seal {
    /// By their names.
    pub files: BTreeMap<String, SealedFile>,
    /// SHA-256 of the status with an empty text in this place, as compact JSON.
    pub sha256: String,
}

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
    /// When a large file was written, in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<u64>,
}

impl RunStatus {
    /// The same status with a seal over the files that are in the folder now.
    ///
    /// # Errors
    /// [`Error::Io`] where one of them cannot be read.
    pub fn sealed(mut self, folder: &RunFolder) -> Result<Self> {
        let mut files = BTreeMap::new();
        for (name, _) in FILES {
            let path = folder.path().join(name);
            match files::read_with_metadata(&path) {
                Ok((bytes, metadata)) => {
                    files.insert(name.to_owned(), SealedFile::of(name, &bytes, &metadata));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("reading", &path),
            }
        }
        self.seal = Some(Seal { files, sha256: String::new() });
        let digest = self.digest()?;
        self.seal = self.seal.map(|seal| Seal { sha256: digest, ..seal });
        Ok(self)
    }

    /// Whether the status is what was written, as its seal tells; one without a seal may be anything.
    pub(super) fn is_whole(&self) -> bool {
        let Some(seal) = &self.seal else { return true };
        let mut blank = self.clone();
        blank.seal = Some(Seal { sha256: String::new(), ..seal.clone() });
        blank.digest().is_ok_and(|digest| digest == seal.sha256)
    }

    fn digest(&self) -> Result<String> {
        let bytes = serde_json::to_vec(self)
            .map_err(|error| Error::Environment(format!("a run's status cannot be written as JSON: {error}")))?;
        Ok(hex(Sha256::digest(bytes).as_slice()))
    }
}

impl Seal {
    /// What is wrong with a file's content, in words that follow the file's name; nothing where it is the sealed one.
    pub fn defect(&self, name: &str, bytes: &[u8]) -> Option<String> {
        let Some(sealed) = self.files.get(name) else {
            return Some("the run ended without this file".to_owned());
        };
        let rows = rows(name, bytes);
        match (rows, sealed.rows) {
            (Some(found), Some(written)) if found != written => {
                return Some(format!("it has {found} rows, and the run wrote {written}"));
            }
            _ => {}
        }
        if bytes.len() as u64 != sealed.bytes {
            return Some(format!("it has {} bytes, and the run wrote {}", bytes.len(), sealed.bytes));
        }
        (hex(Sha256::digest(bytes).as_slice()) != sealed.sha256)
            .then(|| "its content is not what the run wrote (its SHA-256 is another)".to_owned())
    }

    /// The first of the run's files, `known` aside, that is not what it was, and what is wrong with it.
    ///
    /// # Errors
    /// [`Error::Io`] where this machine cannot read one that is there.
    pub fn first_defect(&self, folder: &RunFolder, known: &str) -> Result<Option<(std::path::PathBuf, String)>> {
        for (name, sealed) in self.files.iter().filter(|(name, _)| *name != known) {
            let path = folder.path().join(name);
            if let Some(reason) = self.file_defect(name, sealed, &path)? {
                return Ok(Some((path, reason)));
            }
        }
        Ok(None)
    }

    fn file_defect(&self, name: &str, sealed: &SealedFile, path: &Path) -> Result<Option<String>> {
        if sealed.bytes >= LARGE
            && let Ok(metadata) = files::metadata(path)
            && metadata.len() == sealed.bytes
            && sealed.modified.is_some()
            && modified(&metadata) == sealed.modified
        {
            return Ok(None);
        }
        match files::read(path) {
            Ok(bytes) => Ok(self.defect(name, &bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let needed = FILES.iter().any(|(known, needed)| *known == name && *needed);
                Ok(needed.then(|| "it is missing".to_owned()))
            }
            Err(error) => defect_of_kind(error, path).map(Some),
        }
    }
}

/// What cannot be read because it is no regular file is damage; any other reason lies in this machine.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn defect_of_kind(error: std::io::Error, path: &Path) -> Result<String> {
    match error.kind() {
        ErrorKind::IsADirectory | ErrorKind::InvalidInput => Ok(error.to_string()),
        _ => Err(Error::io("reading", path, error)),
    }
}

impl SealedFile {
    fn of(name: &str, bytes: &[u8], metadata: &Metadata) -> Self {
        SealedFile {
            rows: rows(name, bytes),
            bytes: bytes.len() as u64,
            sha256: hex(Sha256::digest(bytes).as_slice()),
            modified: modified(metadata).filter(|_| bytes.len() as u64 >= LARGE),
        }
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
