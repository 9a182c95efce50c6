//! What tells the content of a data set apart from any other, whatever its files are called and however they are packed.
//!
//! A set whose files hold what is published has its name for a fingerprint, in any layout. One that goes by the name of
//! a published set and holds something else (other labels, another order of the images) has a fingerprint of its own,
//! and so have runs with it. Digests are kept (see [`super::digests`]), so that naming a set again costs next to nothing.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::catalog::{Format, Published};
use super::digests::{Digests, Of, Stamp};
use super::folders::{Place, file_in, read_published};
use super::formats::cifar::{self, Variant};
use super::formats::idx;
use crate::error::{Error, IoContext, Result};
use crate::files;

/// What a data set holds, by digests of its files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Tells this content apart from others: the name of a built-in set, where it is the published one.
    pub fingerprint: String,
    /// Of a set that goes by the name of a published one and is another: which file tells, and what follows from it.
    pub unlike: Option<String>,
    files: Vec<(PathBuf, Stamp)>,
}

impl Identity {
    /// That of a content that a fingerprint tells apart.
    pub fn of_content(fingerprint: String) -> Self {
        Identity { fingerprint, unlike: None, files: Vec::new() }
    }

    /// That of a user's file, as it is now: its digest, or what this makes of it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn of_file(path: &Path, named: impl FnOnce(String) -> String) -> Result<Self> {
        let files = vec![(path.to_owned(), Stamp::of(path)?)];
        Ok(Identity { fingerprint: named(digest_of(path)?), unlike: None, files })
    }

    /// Checks that the files have not been written since they were looked at.
    ///
    /// # Errors
    /// [`Error::Environment`] that names the file which has.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        for (path, stamp) in &self.files {
            if Stamp::of(path)? != *stamp {
                return Err(Error::Environment(format!(
                    "{}: the file was changed while it was read; repeat the command once nothing writes to it",
                    path.display()
                )));
            }
        }
        Ok(())
    }
}

/// The SHA-256 of a user's file, in hex.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn digest_of(path: &Path) -> Result<String> {
    let mut digests = Digests::open();
    let sha256 = digests.of(path, Of::Bytes, || sha256_of(files::open(path), path, u64::MAX))?;
    digests.keep();
    Ok(sha256.concat())
}

/// That of a published set, from the files at `place`.
pub(super) fn identify_published(set: &Published, place: &Place) -> Result<Identity> {
    let mut digests = Digests::open();
    let identity = compare(set, place, &mut digests);
    digests.keep();
    identity
}

/// A file of the set: its name, the digest of its published content, and that of the content here.
struct Compared {
    name: &'static str,
    path: PathBuf,
    published: &'static str,
    here: String,
}

fn compare(set: &Published, place: &Place, digests: &mut Digests) -> Result<Identity> {
    let paths = paths(set, place);
    let files = paths.iter().map(|path| Ok((path.clone(), Stamp::of(path)?))).collect::<Result<Vec<_>>>()?;
    let here = match digests_here(set, &paths, place, digests) {
        Ok(here) => here,
        Err(error) => {
            // What a file cannot be unpacked for, its reader says with the place.
            read_published(set, place)?;
            return Err(error);
        }
    };
    let published = published_digests(set);
    let compared = published.into_iter().zip(here).enumerate().map(|(index, ((name, published), here))| {
        let path = if paths.len() == 1 { paths[0].join(name) } else { paths[index].clone() };
        Compared { name, path, published, here }
    });
    let compared: Vec<Compared> = compared.collect();
    let Some(other) = compared.iter().find(|file| file.here != file.published) else {
        return Ok(Identity { fingerprint: set.name.to_owned(), unlike: None, files });
    };
    let mut hash = Sha256::new();
    for file in &compared {
        hash.update(format!("{} {}\n", file.name, file.here));
    }
    let fingerprint = format!("{} {}", set.name, hex::encode(hash.finalize()));
    if !digests.is_whole(&fingerprint) {
        read_published(set, place)?;
        digests.found_whole(&fingerprint);
    }
    let unlike = format!(
        "data set {}: {} does not hold what is published (SHA-256 of its content {}, of the published one {}); runs with \
         it are kept apart from runs with the published set. `backpack-run data verify {}` compares every file",
        set.name,
        other.path.display(),
        other.here,
        other.published,
        set.name
    );
    Ok(Identity { fingerprint, unlike: Some(unlike), files })
}

/// The files that are read.
fn paths(set: &Published, place: &Place) -> Vec<PathBuf> {
    match place {
        Place::Archive(path) => vec![path.clone()],
        Place::Folder(folder) => {
            let path = |name: &str| file_in(folder, name).unwrap_or_else(|| folder.join(name));
            set.file_names().into_iter().map(path).collect()
        }
    }
}

/// Names and digests of what is published, in the order of [`Published::file_names`].
fn published_digests(set: &Published) -> Vec<(&'static str, &'static str)> {
    match set.format {
        Format::Cifar(_) => set.members.iter().map(|(name, digest)| (*name, digest.sha256)).collect(),
        _ => set.files.iter().map(|file| (file.name, file.content.unwrap_or(file.digest).sha256)).collect(),
    }
}

/// The digests of the contents here, in the same order.
fn digests_here(set: &Published, paths: &[PathBuf], place: &Place, digests: &mut Digests) -> Result<Vec<String>> {
    if let (Place::Archive(path), Format::Cifar(variant)) = (place, set.format) {
        return digests.of(path, Of::Members, || member_digests(set, path, variant));
    }
    let mut here = Vec::with_capacity(paths.len());
    for (path, name) in paths.iter().zip(set.file_names()) {
        // What is longer than any file of the set is not read to its end, wherever that may be.
        let most = set.most_file_bytes(name) + 1;
        here.extend(match set.format {
            Format::Idx => digests.of(path, Of::Content, || sha256_of(content(path), path, most))?,
            _ => digests.of(path, Of::Bytes, || sha256_of(files::open(path), path, most))?,
        });
    }
    Ok(here)
}

/// What a file holds, inflated where it is gzipped.
fn content(path: &Path) -> std::io::Result<Box<dyn Read>> {
    let mut head = Vec::new();
    files::open(path)?.take(2).read_to_end(&mut head)?;
    let file = BufReader::with_capacity(1 << 16, files::open(path)?);
    Ok(if idx::is_gzip(&head) { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// The digest of what a stream holds, of the first `most` bytes if that is more.
fn sha256_of(stream: std::io::Result<impl Read>, path: &Path, most: u64) -> Result<Vec<String>> {
    let mut stream = stream.at("opening", path)?.take(most);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(vec![hex::encode(hash.finalize())]),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("reading", path, error)),
        }
    }
}

/// The digests of an archive's files, in the order in which they count.
fn member_digests(set: &Published, path: &Path, variant: Variant) -> Result<Vec<String>> {
    let archive = files::open(path);
    if sha256_of(archive, path, variant.most_bytes() as u64 + 1)?.concat() == set.files[0].digest.sha256 {
        return Ok(set.members.iter().map(|(_, digest)| digest.sha256.to_owned()).collect());
    }
    let mut digests = vec![String::new(); variant.members().len()];
    let bytes = cifar::read_archive(path, variant)?;
    cifar::read_members(&bytes, path, variant, |member, content, _| {
        if let Some(place) = variant.members().iter().position(|other| other.name == member.name) {
            digests[place] = hex::encode(Sha256::digest(&content));
        }
        Ok(())
    })?;
    Ok(digests)
}
