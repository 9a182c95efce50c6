//! The seal of a run that has its result: what each of its files held when the run ended, and a digest of the status
//! itself, so that damage to any of them is noticed.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::RunFolder;
use crate::atomic::SealedFile;
use crate::error::{Error, IoContext, Result};
use crate::files;

/// The files that are sealed where they are there, and whether a sealed run needs them: the others may be deleted to
/// save space, but not altered.
const FILES: [(&str, bool); 7] = [
    ("config.json", true),
    ("epochs.csv", true),
    ("steps.csv", false),
    ("diagnostics.csv", false),
    ("provenance.json", false),
    ("weights.safetensors", false),
    ("end.safetensors", false),
];

/// What stands in the place of the status's own digest while that is computed.
const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a run's files held when it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seal {
    /// By their names.
    pub files: BTreeMap<String, SealedFile>,
    /// SHA-256 of status.json with 64 zeros in this place.
    pub sha256: String,
}

/// Puts the digest of a status's text into its blank.
pub(super) fn stamp(mut text: String) -> String {
    let digest = hex::encode(Sha256::digest(&text));
    if let Some(place) = text.rfind(BLANK) {
        text.replace_range(place..place + BLANK.len(), &digest);
    }
    text
}

/// Whether a status's text is the one that [`stamp`] gave.
pub(super) fn is_stamped(text: &str, seal: &Seal) -> bool {
    let Some(place) = text.rfind(&seal.sha256).filter(|_| seal.sha256.len() == BLANK.len()) else { return false };
    let mut hash = Sha256::new();
    hash.update(&text[..place]);
    hash.update(BLANK);
    hash.update(&text[place + BLANK.len()..]);
    hex::encode(hash.finalize()) == seal.sha256
}

impl Seal {
    /// That of the files that are in the folder now; [`stamp`] fills in its blank.
    ///
    /// # Errors
    /// [`Error::Io`] where one of them cannot be read.
    pub(super) fn over(folder: &RunFolder) -> Result<Self> {
        let mut files = BTreeMap::new();
        for (name, _) in FILES {
            let path = folder.path().join(name);
            match files::read_with_metadata(&path) {
                Ok((bytes, metadata)) => {
                    files.insert(name.to_owned(), SealedFile::of(name, &bytes).with_time(&metadata));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("reading", &path),
            }
        }
        Ok(Seal { files, sha256: BLANK.to_owned() })
    }

    /// What is wrong with a file's content, in words that follow the file's name; nothing where it is the sealed one.
    pub fn defect(&self, name: &str, bytes: &[u8]) -> Option<String> {
        match self.files.get(name) {
            Some(sealed) => sealed.defect(name, bytes),
            None => Some("the run ended without this file".to_owned()),
        }
    }

    /// The first of the run's files, `known` aside, that is not what it was, and what is wrong with it.
    ///
    /// # Errors
    /// [`Error::Io`] where this machine cannot read one that is there.
    pub fn first_defect(&self, folder: &RunFolder, known: &str) -> Result<Option<(PathBuf, String)>> {
        for (name, sealed) in self.files.iter().filter(|(name, _)| *name != known) {
            let path = folder.path().join(name);
            if let Some(reason) = Seal::file_defect(name, sealed, &path)? {
                return Ok(Some((path, reason)));
            }
        }
        Ok(None)
    }

    fn file_defect(name: &str, sealed: &SealedFile, path: &Path) -> Result<Option<String>> {
        if sealed.modified.is_some() && files::metadata(path).is_ok_and(|metadata| sealed.is_believed(&metadata)) {
            return Ok(None);
        }
        match files::read(path) {
            Ok(bytes) => Ok(sealed.defect(name, &bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let needed = FILES.iter().any(|(known, needed)| *known == name && *needed);
                Ok(needed.then(|| "it is missing".to_owned()))
            }
            Err(error) => defect_of_kind(error, path).map(Some),
        }
    }
}

/// A file of a run that is not what the run wrote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl Damage {
    /// Warns of it, once in a process.
    pub fn tell(&self) {
        static TOLD: Mutex<Option<HashSet<Damage>>> = Mutex::new(None);
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get_or_insert_default().insert(self.clone()) {
            tracing::warn!("{self}; the run counts as not finished");
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
