//! Files that are whole at every instant: written beside their place, then renamed over it; and what a file held when
//! it was written, by which damage is noticed.

use std::fs::{self, File, Metadata};
use std::io::Write;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, IoContext, Result};
use crate::words::count;

/// The ending of files that are being written; one that is left over belongs to a process that was killed.
const UNFINISHED: &str = ".tmp";

/// What a write must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The process being killed. For what a checkpoint can restore.
    Process,
    /// The machine losing power: the content and the folder's entry are on the disk when the write returns.
    Machine,
}

/// Writes `bytes` to `path`: a reader sees the former content or the new one, never a part.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be written to or the disk is full; the former content is then still there.
pub fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let folder = parent(path);
    let file = prepare(path, bytes, durability)?;
    file.persist(path).map_err(|error| Error::io("writing", path, error.error))?;
    if durability == Durability::Machine {
        sync_folder(folder)?;
    }
    Ok(())
}

/// As [`write`](fn@write), and what `path` held before is kept as `former`.
///
/// Between the two renames `path` is missing for an instant; `former` is then what it was.
pub fn write_keeping(path: &Path, former: &Path, bytes: &[u8]) -> Result<()> {
    let file = prepare(path, bytes, Durability::Machine)?;
    match fs::rename(path, former) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("keeping the predecessor", former, error));
        }
        _ => {}
    }
    file.persist(path).map_err(|error| Error::io("writing", path, error.error))?;
    sync_folder(parent(path))
}

/// Writes a value as indented JSON with a line end.
pub fn write_json(path: &Path, value: &impl serde::Serialize, durability: Durability) -> Result<()> {
    write(path, to_json(path, value)?.as_bytes(), durability)
}

/// A value as indented JSON with a line end; `path` is for the error alone.
pub(super) fn to_json(path: &Path, value: &impl serde::Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Environment(format!("{}: cannot be written as JSON: {error}", path.display())))?;
    text.push('\n');
    Ok(text)
}

/// Whether killed processes left something half-written in `folder`, or others are writing.
pub fn has_unfinished(folder: &Path) -> bool {
    fs::read_dir(folder)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_unfinished(&entry.file_name()))))
}

fn is_unfinished(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().ends_with(UNFINISHED)
}

/// Removes what killed processes left half-written in `folder`; only for who holds the folder's lock.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).at("reading the folder", folder)? {
        let entry = entry.at("reading the folder", folder)?;
        if is_unfinished(&entry.file_name()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file that may be missing.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", path, error)),
        _ => Ok(()),
    }
}

/// Makes a folder's entries survive a loss of power.
pub fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).at("syncing the folder", folder)
    } else {
        Ok(())
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn prepare(path: &Path, bytes: &[u8], durability: Durability) -> Result<NamedTempFile> {
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(UNFINISHED);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any other file of the user's, with the umask taken off; the crate's default is private to the user.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(parent(path)).at("writing", path)?;
    file.write_all(bytes).at("writing", path)?;
    if durability == Durability::Machine {
        file.as_file().sync_all().at("writing", path)?;
    }
    Ok(file)
}

// Seals.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        write(&path, b"one", Durability::Process).unwrap();
        write(&path, b"two", Durability::Machine).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_predecessor_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, former) = (folder.path().join("c"), folder.path().join("c.previous"));
        for content in [b"1", b"2", b"3"] {
            write_keeping(&path, &former, content).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"3");
        assert_eq!(fs::read(&former).unwrap(), b"2");
    }

    #[test]
    fn a_failing_write_names_the_file_and_keeps_the_former_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("a.csv");
        let error = write(&path, b"x", Durability::Process).unwrap_err().to_string();
        assert!(error.contains("a.csv"), "{error}");
    }

    #[test]
    fn unfinished_files_are_removed_and_others_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".a.csv.x1.tmp"), b"half").unwrap();
        fs::write(folder.path().join("a.csv"), b"whole").unwrap();
        assert!(has_unfinished(folder.path()));
        remove_unfinished(folder.path()).unwrap();
        assert!(!has_unfinished(folder.path()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
