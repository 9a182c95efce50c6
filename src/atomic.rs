//! Files that are whole at every instant: written beside their place, then renamed over it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, IoContext, Result};

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
