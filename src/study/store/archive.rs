//! Runs in one file: a tar archive of their folders' files, compressed by Zstandard. Entries are regular files by the name
//! PROBLEM/OPTIMIZER/SETTING/seed-S/FILE and nothing else; what an archive from elsewhere says is not believed.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use tar::{EntryType, Header};

use super::RunFolder;
use crate::config::name::is_folder_name;
use crate::error::{Error, IoContext, Result};
use crate::files;

/// The name of a study's archive in its result folder.
pub const ARCHIVE: &str = "runs.tar.zst";

/// The files of a run that an archive may hold, the status last: a run whose status is there is whole. Checkpoints, ends,
/// locks and TensorBoard's file, which is made of diagnostics.csv, are none of a result.
pub const FILES: [&str; 9] = [
    "config.json",
    "provenance.json",
    "vocabulary.json",
    "epochs.csv",
    "steps.csv",
    "diagnostics.csv",
    "weights.safetensors",
    "end.safetensors",
    "status.json",
];
/// Those of them that are large: a run counts as done without its parameters and its last state.
pub const LARGE: [&str; 2] = ["weights.safetensors", "end.safetensors"];

/// Small tables shrink to a tenth; higher levels take many times as long for a few percent.
const LEVEL: i32 = 9;
/// No archive of runs grows by more than this factor, an allowance for small ones aside. One of nothing but zeros would.
const MOST_GROWTH: u64 = 500;
const ALLOWANCE: u64 = 64 << 20;

/// A file of a run in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// PROBLEM/OPTIMIZER/SETTING/seed-S.
    pub run: String,
    /// One of [`FILES`].
    pub file: &'static str,
    /// Its bytes.
    pub size: u64,
}

/// Writes the entries of an archive.
pub struct Writer<W: Write> {
    tar: tar::Builder<zstd::Encoder<'static, W>>,
    path: PathBuf,
}

impl<W: Write> fmt::Debug for Writer<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct("Writer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// An archive that will lie at `path`.
    ///
    /// # Errors
    /// Where nothing can be written.
    pub fn new(out: W, path: &Path) -> Result<Self> {
        let encoder = zstd::Encoder::new(out, LEVEL).and_then(|mut encoder| {
            encoder.include_checksum(true)?;
            Ok(encoder)
        });
        Ok(Writer { tar: tar::Builder::new(encoder.at("writing", path)?), path: path.to_owned() })
    }

    /// Adds a file. Equal files give equal bytes: times and owners are left out.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add(&mut self, member: &Member, content: impl Read) -> Result<()> {
        let mut header = Header::new_ustar();
        let name = format!("{}/{}", member.run, member.file);
        header.set_path(&name).at("writing", &self.path)?;
        header.set_size(member.size);
        header.set_mode(0o644);
        header.set_entry_type(EntryType::Regular);
        header.set_cksum();
        self.tar.append(&header, content).at("writing", &self.path)
    }

    /// Ends the archive and hands back what it was written to.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(self) -> Result<W> {
        self.tar.into_inner().and_then(zstd::Encoder::finish).at("writing", &self.path)
    }
}

/// Calls `visit` with each file of an archive in turn; what it does not read is skipped.
///
/// # Errors
/// [`Error::Config`] where the archive is damaged, or holds what an archive of runs does not: other names, links, folders, a file
/// twice, more than its size allows; [`Error::Io`] where it cannot be read; what `visit` says.
pub fn read(archive: &Path, visit: &mut dyn FnMut(&Member, &mut dyn Read) -> Result<()>) -> Result<()> {
    let fail = |reason: &dyn std::fmt::Display| {
        let place = archive.display();
        Error::Config(format!(
            "{place}: {reason}; expected an archive of runs as `backpack-run results pack` writes it"
        ))
    };
    let file = files::open(archive).at("reading", archive)?;
    let most = limit(&file).at("reading", archive)?;
    let decoder = zstd::Decoder::new(BufReader::new(file)).map_err(|error| fail(&error))?;
    // Names longer than a header's would be read into memory whole, and are entries of a kind of their own when left as they
    // stand.
    let mut tar = tar::Archive::new(decoder.take(most));
    let mut seen = HashSet::new();
    for entry in tar.entries().map_err(|error| fail(&error))?.raw(true) {
        let mut entry = entry.map_err(|error| fail(&error))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type() != EntryType::Regular {
            return Err(fail(&format!("`{name}` is not a regular file")));
        }
        let size = entry.header().size().map_err(|error| fail(&format!("`{name}`: {error}")))?;
        let member = member(&name, size).ok_or_else(|| fail(&format!("`{name}` is not a file of a run")))?;
        if !seen.insert((member.run.clone(), member.file)) {
            return Err(fail(&format!("it holds `{name}` twice")));
        }
        if size > most {
            return Err(fail(&format!("`{name}` would have {}", ByteSize(size))));
        }
        visit(&member, &mut entry)?;
    }
    // To the end, where the checksum stands; and a stream that was cut off is one that the limit ended.
    let mut rest = tar.into_inner();
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(|error| fail(&error))?;
    if rest.limit() == 0 {
        return Err(fail(&format!("it would grow to more than {}", ByteSize(most))));
    }
    Ok(())
}

/// The most bytes that an archive of this size may hold.
fn limit(archive: &File) -> std::io::Result<u64> {
    Ok(archive.metadata()?.len().saturating_mul(MOST_GROWTH).saturating_add(ALLOWANCE))
}

/// The file of a run that a name stands for; nothing where it stands for something else.
fn member(name: &str, size: u64) -> Option<Member> {
    let (run, file) = name.rsplit_once('/')?;
    let file = FILES.into_iter().find(|known| *known == file)?;
    let parts: Vec<&str> = run.split('/').collect();
    let seed = parts.get(3)?.strip_prefix("seed-")?;
    let is_seed = seed.parse::<u64>().is_ok_and(|number| number.to_string() == seed);
    let fits = parts.len() == 4 && is_seed && parts[..3].iter().all(|part| is_folder_name(part));
    fits.then(|| Member { run: run.to_owned(), file, size })
}

/// The name of a run's folder in an archive, below the folder of all runs.
pub fn run_name(folder: &RunFolder, runs: &Path) -> Option<String> {
    let below = folder.path().strip_prefix(runs).ok()?;
    let parts: Option<Vec<&str>> = below.iter().map(std::ffi::OsStr::to_str).collect();
    parts.map(|parts| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_runs_have_a_place() {
        for name in ["p/kfac/lr-0.1__damping-1__deadbeef/seed-42/status.json", "a-b/sgd/lr-1e-5__0/seed-0/epochs.csv"] {
            let found = member(name, 3).unwrap();
            assert_eq!(format!("{}/{}", found.run, found.file), name);
        }
        for name in [
            "/p/kfac/lr/seed-42/status.json",
            "p/../lr/seed-42/status.json",
            "../kfac/lr/seed-42/status.json",
            "p/kfac/lr/seed-42/../status.json",
            "p/kfac/lr/seed-42/lock.json",
            "p/kfac/lr/seed-42/status.json/",
            "p/kfac/lr/seed-042/status.json",
            "p/kfac/lr/seed-x/status.json",
            "p/kfac/lr/extra/seed-42/status.json",
            "p//lr/seed-42/status.json",
            "C:/kfac/lr/seed-42/status.json",
            "p/kfac/l\\r/seed-42/status.json",
            "status.json",
            "",
        ] {
            assert_eq!(member(name, 3), None, "{name}");
        }
    }
}
