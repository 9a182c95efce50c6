//! The SHA-256 of data files, kept beside what tells that a file is still the same, so that none is computed twice.
//!
//! They stand in `digests.json` in the program's cache folder (`BACKPACK_RUN_CACHE`, else the user's). A cache that
//! cannot be read counts as empty and one that cannot be written stays as it is: both cost time and nothing else.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};
use crate::files;

/// The version of the file's form; another one is read as empty.
const VERSION: u32 = 1;
/// So many files are known at a time, those that were looked at last.
const MOST: usize = 500;
/// A file that was written so short a time ago may be written again without its times telling.
const SETTLED: Duration = Duration::from_secs(2);
/// A cache larger than this is none of ours.
const LARGEST: u64 = 4 << 20;

/// What a file's digests are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Of {
    /// Its bytes.
    Bytes,
    /// What it holds, inflated where it is gzipped.
    Content,
    /// The files of the archive that it is.
    Members,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    size: u64,
    /// When its content changed, in nanoseconds since 1970.
    modified: i64,
    /// When it changed in any way, which unlike the former nobody can set. Zero where the system does not tell.
    changed: i64,
    /// Its number in the file system. Zero where the system does not tell.
    inode: u64,
}

impl Stamp {
    /// That of the file now.
    pub fn of(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).at("reading", path)?;
        let nanoseconds = |time: SystemTime| match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |time| -time),
        };
        let modified = metadata.modified().map_or(0, nanoseconds);
        #[cfg(unix)]
        let (changed, inode) = {
            use std::os::unix::fs::MetadataExt;
            let changed = metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec());
            (changed, metadata.ino())
        };
        #[cfg(not(unix))]
        let (changed, inode) = (0, 0);
        Ok(Stamp { size: metadata.len(), modified, changed, inode })
    }

    /// Whether the next write to the file is sure to change it.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let last = Duration::from_nanos(self.modified.max(self.changed).max(0) as u64);
        now.checked_sub(last).is_some_and(|age| age >= SETTLED)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    file: PathBuf,
    of: Of,
    #[serde(flatten)]
    stamp: Stamp,
    sha256: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    schema_version: u32,
    /// The newest last.
    files: Vec<Entry>,
    /// Fingerprints of sets that are not the published ones, but were read and found whole.
    whole: Vec<String>,
}

/// The digests that are kept, and those that were computed since.
#[derive(Debug)]
pub(super) struct Digests {
    path: Option<PathBuf>,
    kept: Kept,
    new: Kept,
}

impl Digests {
    /// Those in the program's cache folder.
    pub fn open() -> Self {
        let chosen = std::env::var_os("BACKPACK_RUN_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = chosen.or_else(|| {
            directories::ProjectDirs::from("", "", "backpack-run").map(|folders| folders.cache_dir().to_owned())
        });
        Self::at(folder.map(|folder| folder.join("digests.json")))
    }

    fn at(path: Option<PathBuf>) -> Self {
        let kept = path.as_deref().map(read).unwrap_or_default();
        Digests { path, kept, new: Kept::default() }
    }

    /// The digests of a file: kept ones where it is as it was, else what `compute` gives.
    pub fn of(&mut self, path: &Path, of: Of, compute: impl FnOnce() -> Result<Vec<String>>) -> Result<Vec<String>> {
        let stamp = Stamp::of(path)?;
        let file = std::path::absolute(path).at("finding", path)?;
        let known = |entry: &&Entry| entry.file == file && entry.of == of && entry.stamp == stamp;
        if let Some(entry) = self.new.files.iter().chain(&self.kept.files).find(known) {
            return Ok(entry.sha256.clone());
        }
        let sha256 = compute()?;
        // Such a name has no place in JSON, and a file that changed meanwhile has no digest.
        if file.to_str().is_some() && stamp.is_settled() && Stamp::of(path)? == stamp {
            self.new.files.push(Entry { file, of, stamp, sha256: sha256.clone() });
        }
        Ok(sha256)
    }

    /// Whether a set of this fingerprint was found whole before.
    pub fn is_whole(&self, fingerprint: &str) -> bool {
        self.kept.whole.iter().chain(&self.new.whole).any(|known| known == fingerprint)
    }

    /// Notes that a set of this fingerprint is whole.
    pub fn found_whole(&mut self, fingerprint: &str) {
        self.new.whole.push(fingerprint.to_owned());
    }

    /// Keeps what is new.
    pub fn keep(&mut self) {
        let Some(path) = &self.path else { return };
        if self.new.files.is_empty() && self.new.whole.is_empty() {
            return;
        }
        // What other processes have written since stays; of two that write at once one is lost, and computed again.
        let mut kept = read(path);
        let new = std::mem::take(&mut self.new);
        kept.schema_version = VERSION;
        kept.files.retain(|old| !new.files.iter().any(|entry| entry.file == old.file && entry.of == old.of));
        kept.files.extend(new.files);
        kept.whole.retain(|old| !new.whole.contains(old));
        kept.whole.extend(new.whole);
        kept.files.drain(..kept.files.len().saturating_sub(MOST));
        kept.whole.drain(..kept.whole.len().saturating_sub(MOST));
        if let Err(error) = write(path, &kept) {
            tracing::debug!("digests are not kept: {error}");
        }
        self.kept = kept;
    }
}

fn read(path: &Path) -> Kept {
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() <= LARGEST => files::read(path).unwrap_or_default(),
        _ => return Kept::default(),
    };
    match serde_json::from_slice::<Kept>(&bytes) {
        Ok(kept) if kept.schema_version == VERSION => kept,
        _ => {
            tracing::debug!("{}: unreadable; started over", path.display());
            Kept::default()
        }
    }
}

fn write(path: &Path, kept: &Kept) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).at("creating the folder", folder)?;
    let text = serde_json::to_vec(kept).map_err(std::io::Error::from).at("writing", path)?;
    let mut file = tempfile::Builder::new().prefix(".digests-").tempfile_in(folder).at("writing", path)?;
    file.write_all(&text).at("writing", path)?;
    file.persist(path).map_err(|error| Error::io("writing", path, error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was last written long ago, as far as its own times tell.
    fn settled(folder: &Path, content: &[u8]) -> PathBuf {
        let path = folder.join("data");
        std::fs::write(&path, content).unwrap();
        std::thread::sleep(SETTLED + Duration::from_millis(50));
        path
    }

    fn counted(digests: &mut Digests, path: &Path, count: &mut usize) -> Vec<String> {
        let compute = || {
            *count += 1;
            Ok(vec![String::from_utf8(std::fs::read(path).unwrap()).unwrap()])
        };
        digests.of(path, Of::Bytes, compute).unwrap()
    }

    #[test]
    fn a_digest_is_computed_once_and_anew_for_other_content() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache").join("digests.json");
        let path = settled(folder.path(), b"one");
        let mut count = 0;
        for _ in 0..2 {
            let mut digests = Digests::at(Some(cache.clone()));
            assert_eq!(counted(&mut digests, &path, &mut count), ["one"]);
            digests.keep();
        }
        assert_eq!(count, 1, "the second process finds it");

        // Content of the same length, written in place, with the former time of change.
        let before = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, b"two").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        assert_eq!(counted(&mut Digests::at(Some(cache.clone())), &path, &mut count), ["two"]);
    }

    #[test]
    fn what_was_just_written_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, path) = (folder.path().join("digests.json"), folder.path().join("data"));
        std::fs::write(&path, b"one").unwrap();
        let mut count = 0;
        let mut digests = Digests::at(Some(cache.clone()));
        counted(&mut digests, &path, &mut count);
        digests.keep();
        assert!(!cache.exists());
        counted(&mut digests, &path, &mut count);
        assert_eq!(count, 2);
    }

    #[test]
    fn a_cache_that_is_damaged_or_cannot_be_written_costs_only_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = settled(folder.path(), b"one");
        let cache = folder.path().join("digests.json");
        for content in [&b""[..], b"{\"schema_version\":1,\"files\":[{", b"\xff\xfe", b"{\"schema_version\":2}"] {
            std::fs::write(&cache, content).unwrap();
            let mut count = 0;
            let mut digests = Digests::at(Some(cache.clone()));
            assert_eq!(counted(&mut digests, &path, &mut count), ["one"]);
            assert_eq!(count, 1);
            digests.keep();
            counted(&mut Digests::at(Some(cache.clone())), &path, &mut count);
            assert_eq!(count, 1, "it is whole again");
        }
        // A file where the folder should be: no user, root included, can write below it.
        for nowhere in [Some(path.join("digests.json")), None] {
            let mut count = 0;
            let mut digests = Digests::at(nowhere);
            assert_eq!(counted(&mut digests, &path, &mut count), ["one"]);
            digests.keep();
        }
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("digests.json");
        let path = settled(folder.path(), b"one");
        let stamp = Stamp::of(&path).unwrap();
        let mut digests = Digests::at(Some(cache.clone()));
        let entry = |place: usize| Entry {
            file: format!("/data/{place}").into(),
            of: Of::Content,
            stamp,
            sha256: vec!["00".repeat(32)],
        };
        digests.new.files.extend((0..3 * MOST).map(entry));
        digests.keep();
        let kept = read(&cache);
        assert_eq!((kept.files.len(), &kept.files[MOST - 1].file), (MOST, &entry(3 * MOST - 1).file));
        assert!(std::fs::metadata(&cache).unwrap().len() < LARGEST);
    }
}
