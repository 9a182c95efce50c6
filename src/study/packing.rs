//! The runs of a study into one archive beside its results, and back into a folder of runs.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use super::experiment::{Experiment, stored};
use super::prepare::{self, Folders};
use super::results::collect_all;
use super::store::archive::{self, ARCHIVE, FILES, LARGE, Member};
use super::store::lock::{Attempt, Lock};
use super::store::{Kept, RunFolder};
use crate::error::{Error, IoContext, Result};
use crate::words::count;
use crate::{atomic, files};

/// Room that is left on a disk.
const SPARE: u64 = 64 << 20;

/// What a packing is to do beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PackOptions {
    /// Leave out the parameters and the last state, which are most of a run's bytes: it counts as done without them.
    pub without_weights: bool,
    /// Remove the runs that the archive holds from the folder of runs, once it is written and read back.
    pub remove: bool,
}

/// What came of a packing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The archive.
    pub archive: PathBuf,
    /// Runs in it.
    pub runs: usize,
    /// Of these, those that were in it before and are not in the folder of runs.
    pub kept: usize,
    /// Its bytes.
    pub bytes: u64,
    /// Runs of the study that have no result and are not in it.
    pub unfinished: usize,
    /// Runs that were removed from the folder of runs.
    pub removed: usize,
}

/// What came of an unpacking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Runs that were put into the folder of runs.
    pub runs: usize,
    /// Runs that have their result there already.
    pub there: usize,
    /// Runs that another process has, or that are under way there; they are left as they are.
    pub busy: usize,
}

/// The runs of the study whose results lie in `results`, as far as they are known, by its own description.
///
/// # Errors
/// Where the description cannot be read, or a data set of the user's own, after which run folders are named, is not there.
pub fn runs_of(results: &Path, folders: &Folders) -> Result<Vec<RunFolder>> {
    let experiment: Experiment = stored(results)?;
    let prepared = prepare::prepare(&experiment, &experiment.pairs(), &[experiment.grid_seed], folders)?;
    let mut known = HashSet::new();
    let mut runs = Vec::new();
    for pair in collect_all(&experiment, &prepared)? {
        let tasks = pair.grid.rungs.iter().flatten().chain(pair.seeds.iter().map(|run| &run.task));
        runs.extend(tasks.map(super::settings::RunTask::folder).filter(|folder| known.insert(folder.clone())));
    }
    runs.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(runs)
}

/// Puts the runs of the study in `results` that have their results into its archive. What the archive held before and the folder
/// of runs does not stays in it. Until the new archive is whole, nothing of the old one and of the runs is touched.
///
/// # Errors
/// As [`runs_of`]; [`Error::Usage`] where there is nothing to pack; where a file cannot be read or written.
pub fn pack(results: &Path, folders: &Folders, options: PackOptions) -> Result<Packed> {
    let archive = results.join(ARCHIVE);
    let (mut whole, mut unfinished) = (BTreeMap::new(), 0);
    for folder in runs_of(results, folders)? {
        match (folder.verify_result()?, archive::run_name(&folder, &folders.runs)) {
            (Kept::Result { .. }, Some(name)) => drop(whole.insert(name, folder)),
            _ => unfinished += 1,
        }
    }
    let before = if archive.exists() { names(&archive)? } else { HashSet::new() };
    if whole.is_empty() {
        return Err(Error::Usage(format!(
            "{}: {} has no run of this study with a result; --runs-dir says where they are",
            results.display(),
            folders.runs.display()
        )));
    }
    let beside = NamedTempFile::with_prefix_in(format!(".{ARCHIVE}."), results).at("writing", &archive)?;
    let mut writer = archive::Writer::new(std::io::BufWriter::new(beside), &archive)?;
    let mut digests = BTreeMap::new();
    let mut kept = HashSet::new();
    if !before.is_empty() {
        archive::read(&archive, &mut |member, content| {
            if whole.contains_key(&member.run) {
                return Ok(());
            }
            kept.insert(member.run.clone());
            let mut content = Hashing::new(content);
            writer.add(member, &mut content)?;
            digests.insert(key(member), content.digest());
            Ok(())
        })?;
    }
    for (name, folder) in &whole {
        for file in FILES.into_iter().filter(|file| !(options.without_weights && LARGE.contains(file))) {
            let path = folder.path().join(file);
            let bytes = match files::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                bytes => bytes.at("reading", &path)?,
            };
            let member = Member { run: name.clone(), file, size: bytes.len() as u64 };
            writer.add(&member, bytes.as_slice())?;
            digests.insert(key(&member), Sha256::digest(&bytes).to_vec());
        }
    }
    let buffered = writer.finish()?;
    let beside = buffered.into_inner().map_err(|error| Error::io("writing", &archive, error.into_error()))?;
    beside.as_file().sync_all().at("writing", &archive)?;
    check(beside.path(), &digests)?;
    let bytes = beside.as_file().metadata().at("writing", &archive)?.len();
    set_permissions(beside.path())?;
    beside.persist(&archive).map_err(|error| Error::io("writing", &archive, error.error))?;
    atomic::sync_folder(results)?;
    let mut removed = 0;
    if options.remove {
        for (name, folder) in &whole {
            removed += usize::from(remove(name, folder, &folders.runs, &digests)?);
        }
    }
    Ok(Packed { archive, runs: whole.len() + kept.len(), kept: kept.len(), bytes, unfinished, removed })
}

/// As any other file of the user's; a temporary one is private.
fn set_permissions(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).at("writing", path)?;
    }
    let _ = path;
    Ok(())
}

/// Reads an archive back and holds each file to what was put in.
fn check(archive: &Path, digests: &BTreeMap<(String, &'static str), Vec<u8>>) -> Result<()> {
    let mut found = 0;
    archive::read(archive, &mut |member, content| {
        let mut content = Hashing::new(content);
        std::io::copy(&mut content, &mut std::io::sink()).at("reading", archive)?;
        found += usize::from(digests.get(&key(member)) == Some(&content.digest()));
        Ok(())
    })?;
    match found == digests.len() {
        true => Ok(()),
        false => Err(Error::Environment(format!(
            "{}: reading the archive back gives other files than were put in; the runs are left as they are",
            archive.display()
        ))),
    }
}

/// Removes a run's folder where it still holds what was packed; whether it did so. Weights that were left out go with it.
fn remove(
    name: &str,
    folder: &RunFolder,
    runs: &Path,
    digests: &BTreeMap<(String, &'static str), Vec<u8>>,
) -> Result<bool> {
    let Attempt::Locked(lock) = Lock::try_acquire(&folder.lock())? else {
        tracing::warn!("{}: another process has this run; it is left there", folder.path().display());
        return Ok(false);
    };
    for file in FILES {
        let Some(packed) = digests.get(&(name.to_owned(), file)) else { continue };
        let path = folder.path().join(file);
        if Sha256::digest(files::read(&path).at("reading", &path)?).as_slice() != packed.as_slice() {
            tracing::warn!("{}: the file has changed since it was packed; the run is left there", path.display());
            return Ok(false);
        }
    }
    // Without its status a run counts as one that never was, wherever the rest of this is interrupted.
    atomic::remove(&folder.status())?;
    drop(lock);
    fs::remove_dir_all(folder.path()).at("removing", folder.path())?;
    // Folders above it that are empty now, up to that of all runs.
    for above in folder.path().ancestors().skip(1).take_while(|above| *above != runs) {
        if fs::remove_dir(above).is_err() {
            break;
        }
    }
    Ok(true)
}

/// The runs in an archive.
///
/// # Errors
/// As [`archive::read`].
pub fn names(archive: &Path) -> Result<HashSet<String>> {
    let mut names = HashSet::new();
    archive::read(archive, &mut |member, _| {
        names.insert(member.run.clone());
        Ok(())
    })?;
    Ok(names)
}

/// Puts the runs of an archive into a folder of runs. A run that has its result there is left as it is, and so is one that is
/// under way. Each run counts as done only when all of it is there.
///
/// # Errors
/// As [`archive::read`]; [`Error::Environment`] where the disk has no room; where a file cannot be written.
pub fn unpack(archive: &Path, runs: &Path) -> Result<Unpacked> {
    put(archive, runs, &FILES)
}

/// A folder for a short while with the runs of an archive, without their weights.
///
/// # Errors
/// As [`unpack`].
pub fn look_into(archive: &Path) -> Result<TempDir> {
    let folder = tempfile::tempdir().at("creating a folder for", archive)?;
    let small: Vec<&'static str> = FILES.into_iter().filter(|file| !LARGE.contains(file)).collect();
    put(archive, folder.path(), &small)?;
    Ok(folder)
}

fn put(archive: &Path, runs: &Path, wanted: &[&'static str]) -> Result<Unpacked> {
    // The whole archive is looked at before anything of it is believed.
    let mut total = 0u64;
    archive::read(archive, &mut |member, _| {
        total = total.saturating_add(if wanted.contains(&member.file) { member.size } else { 0 });
        Ok(())
    })?;
    fs::create_dir_all(runs).at("creating the folder", runs)?;
    let free = fs4::available_space(runs).at("asking for the free space of", runs)?;
    if total.saturating_add(SPARE) > free {
        return Err(Error::Environment(format!(
            "{}: its runs need {} and {} are free in {}",
            archive.display(),
            ByteSize(total),
            ByteSize(free),
            runs.display()
        )));
    }
    let staging = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(runs).at("creating a folder in", runs)?;
    let mut unpacked = Unpacked::default();
    let mut current: Option<(String, Vec<&'static str>)> = None;
    archive::read(archive, &mut |member, content| {
        if let Some((run, files)) = current.take_if(|(run, _)| *run != member.run) {
            place(&run, &files, staging.path(), runs, &mut unpacked)?;
        }
        if wanted.contains(&member.file) {
            let path = staging.path().join(member.file);
            let mut file = fs::File::create(&path).at("writing", &path)?;
            let written = std::io::copy(content, &mut file).at("writing", &path)?;
            if written != member.size {
                return Err(Error::Config(format!("{}: it ends within a file", archive.display())));
            }
            current.get_or_insert_with(|| (member.run.clone(), Vec::new())).1.push(member.file);
        }
        Ok(())
    })?;
    if let Some((run, files)) = current {
        place(&run, &files, staging.path(), runs, &mut unpacked)?;
    }
    Ok(unpacked)
}

/// Moves the files of a run to where they belong, its status last.
fn place(run: &str, files: &[&'static str], staging: &Path, runs: &Path, unpacked: &mut Unpacked) -> Result<()> {
    let folder = RunFolder::at(run.split('/').fold(runs.to_owned(), |path, part| path.join(part)));
    folder.create()?;
    let Attempt::Locked(_lock) = Lock::try_acquire(&folder.lock())? else {
        unpacked.busy += 1;
        return Ok(());
    };
    if matches!(folder.verify_result()?, Kept::Result { .. }) {
        unpacked.there += 1;
        return Ok(());
    }
    if super::store::checkpoint::exists(&folder) {
        unpacked.busy += 1;
        return Ok(());
    }
    atomic::remove(&folder.status())?;
    for file in FILES {
        let target = folder.path().join(file);
        match files.contains(&file) {
            true => fs::rename(staging.join(file), &target).at("writing", &target)?,
            false => atomic::remove(&target)?,
        }
    }
    unpacked.runs += 1;
    Ok(())
}

/// What to type where a study's archive holds runs that the folder of runs lacks; nothing where it holds none.
pub fn advice(results: &Path, runs: &Path) -> Option<String> {
    let archive = results.join(ARCHIVE);
    if !archive.is_file() {
        return None;
    }
    match names(&archive) {
        Ok(names) => {
            let lacks = |name: &&String| !RunFolder::at(runs.join(name.as_str())).status().exists();
            let missing = names.iter().filter(lacks).count();
            (missing > 0).then(|| {
                format!(
                    "{} holds {} that {} lacks: `backpack-run results unpack {} --runs-dir {}` brings them back, and they \
                     count as done",
                    archive.display(),
                    count(missing, "run"),
                    runs.display(),
                    results.display(),
                    runs.display()
                )
            })
        }
        Err(error) => Some(error.to_string()),
    }
}

fn key(member: &Member) -> (String, &'static str) {
    (member.run.clone(), member.file)
}

/// A reader that takes the SHA-256 of what goes through it.
struct Hashing<'a> {
    inner: &'a mut dyn Read,
    hash: Sha256,
}

impl<'a> Hashing<'a> {
    fn new(inner: &'a mut dyn Read) -> Self {
        Hashing { inner, hash: Sha256::new() }
    }

    fn digest(self) -> Vec<u8> {
        self.hash.finalize().to_vec()
    }
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
