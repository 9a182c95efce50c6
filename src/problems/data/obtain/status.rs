//! Which data sets the program knows, and which of them are there.

use std::path::PathBuf;

use crate::error::Result;
use crate::problems::data::folders::DataFolders;
use crate::problems::data::set::DataInfo;
use crate::problems::data::{NamedSet, Place, named_sets};

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
