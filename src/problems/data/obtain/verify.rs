//! Whether the files of a set are the published ones, and whether they hold what they should; and which of all sets are
//! there.

use std::path::{Path, PathBuf};

use super::hash::{hash_content, hash_file};
use crate::error::{Error, Result};
use crate::problems::data::catalog::{Digest, Published, PublishedFile};
use crate::problems::data::folders::{DataFolders, Place, file_in, read_published};
use crate::problems::data::set::DataInfo;
use crate::problems::data::{NamedSet, named_sets};

/// What a file's hash says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// The published file.
    Published,
    /// Compressed anew or not at all, with the published content.
    SameContent,
    /// Another file.
    Differs,
}

impl FileState {
    /// The word for tables.
    pub fn as_str(self) -> &'static str {
        match self {
            FileState::Published => "published",
            FileState::SameContent => "same content",
            FileState::Differs => "differs",
        }
    }
}

/// What is known of one file.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// What its hash says.
    pub state: FileState,
}

/// What is known of a set's files.
#[derive(Clone, Debug)]
pub struct SetReport {
    /// The set.
    pub set: &'static str,
    /// Where it lies.
    pub place: PathBuf,
    /// Each file.
    pub files: Vec<FileReport>,
    /// Why the content (structure, counts, labels) is not what it should be.
    pub defect: Option<String>,
}

impl SetReport {
    /// Whether everything is as published.
    pub fn ok(&self) -> bool {
        self.defect.is_none() && self.files.iter().all(|file| file.state != FileState::Differs)
    }

    /// A word on what is wrong.
    pub(crate) fn first_defect(&self) -> String {
        let differs = self.files.iter().find(|file| file.state == FileState::Differs);
        let differs = differs.map(|file| format!("{} has another hash than the published file", file.path.display()));
        self.defect.clone().or(differs).unwrap_or_default()
    }
}

/// Compares the hashes of a set's files with the published ones and checks their content.
///
/// # Errors
/// [`Error::MissingData`] where the set is not found; [`Error::Io`] where a file cannot be read. What is wrong with the
/// files is in the report.
pub fn verify(set: &'static Published, folders: &DataFolders) -> Result<SetReport> {
    verify_place(set, &folders.find(set)?)
}

pub(crate) fn verify_place(set: &Published, place: &Place) -> Result<SetReport> {
    let mut files = Vec::new();
    match place {
        Place::Archive(path) => {
            files.push(FileReport { path: path.clone(), state: file_state(path, &set.files[0])? });
        }
        Place::Folder(folder) if !set.members.is_empty() => {
            for (name, digest) in set.members {
                let path = folder.join(name);
                let fits = hash_file(&path)?.fit(digest);
                files.push(FileReport { path, state: if fits { FileState::Published } else { FileState::Differs } });
            }
        }
        Place::Folder(folder) => {
            for file in set.files {
                let path = file_in(folder, file.name).unwrap_or_else(|| folder.join(file.name));
                let state = file_state(&path, file)?;
                files.push(FileReport { path, state });
            }
        }
    }
    let defect = match read_published(set, place) {
        Ok(_) => None,
        Err(error @ Error::Data { .. }) => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    Ok(SetReport { set: set.name, place: place.path().to_owned(), files, defect })
}

/// What the hash of a file, or of what it holds, says.
pub(crate) fn file_state(path: &Path, file: &PublishedFile) -> Result<FileState> {
    let hashes = hash_file(path)?;
    if hashes.fit(&file.digest) {
        return Ok(FileState::Published);
    }
    let same = |content: &Digest| -> Result<bool> {
        Ok(hashes.fit(content) || hash_content(path)?.is_some_and(|hashes| hashes.fit(content)))
    };
    Ok(match &file.content {
        Some(content) if same(content)? => FileState::SameContent,
        _ => FileState::Differs,
    })
}

// Which data sets the program knows, and which of them are there.

/// Whether a set is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetState {
    /// Part of the program.
    Embedded,
    /// Found here, unread.
    Found(PathBuf),
    /// Not found; the text says where it was looked for and what to do.
    Missing(String),
}

impl SetState {
    /// The word for tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            SetState::Embedded => "built in",
            SetState::Found(_) => "found",
            SetState::Missing(_) => "missing",
        }
    }
}

/// A set that the program knows by name.
#[derive(Clone, Debug)]
pub struct SetStatus {
    /// Its shape and counts.
    pub info: DataInfo,
    /// Its usual name.
    pub title: &'static str,
    /// Whether it is there.
    pub state: SetState,
    /// How many bytes a fetch transfers.
    pub download_bytes: u64,
}

/// All sets, each looked for in the folders; nothing is read.
///
/// # Errors
/// What a program's own set says when it is described.
pub fn status(folders: &DataFolders) -> Result<Vec<SetStatus>> {
    let of = |set: &dyn NamedSet| {
        let (info, title) = (set.describe(folders)?, set.title());
        Ok(match set.published() {
            Some(set) => SetStatus {
                info,
                title,
                state: match folders.find(set) {
                    Ok(Place::Folder(path) | Place::Archive(path)) => SetState::Found(path),
                    Err(error) => SetState::Missing(error.to_string()),
                },
                download_bytes: set.files.iter().map(|file| file.size).sum(),
            },
            None => SetStatus { info, title, state: SetState::Embedded, download_bytes: 0 },
        })
    };
    named_sets().into_iter().map(of).collect()
}
