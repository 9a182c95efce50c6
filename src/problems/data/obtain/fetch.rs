//! Fetching a published set from its authors or their mirrors into a data folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Progress;
use super::download::{Download, Rate};
use super::import::extract;
use super::verify::{FileState, file_state, verify_place};
use crate::error::{Error, IoContext, Result};
use crate::problems::data::catalog::{Format, Published, PublishedFile};
use crate::problems::data::folders::{DataFolders, Place, file_in};

/// Fetches what is missing of a set into `root` and gives the folder in which it now lies. `mirror`, if given, is asked
/// instead of the authors' sites, for the file's name below it, alone and in the set's folder.
///
/// # Errors
/// [`Error::Environment`] where no server delivers; [`Error::Data`] where a file that is there is not the published one;
/// [`Error::Io`].
pub fn fetch(set: &Published, root: &Path, mirror: Option<&str>, progress: &mut dyn Progress) -> Result<PathBuf> {
    let folder = root.join(set.folder);
    if let Ok(Place::Folder(found)) = DataFolders(vec![root.to_owned()]).find(set)
        && found == folder
    {
        let report = verify_place(set, &Place::Folder(found))?;
        if report.ok() {
            progress.note(&format!("{}: already in {}", set.name, folder.display()));
            return Ok(folder);
        }
        return Err(Error::Environment(format!(
            "data set {}: what lies in {} is not the published set ({}). Delete the folder, then fetch again",
            set.name,
            folder.display(),
            report.first_defect()
        )));
    }
    match set.format {
        Format::Idx | Format::Svhn => {
            for file in set.files {
                if let Some(present) = file_in(&folder, file.name) {
                    match file_state(&present, file)? {
                        FileState::Differs => {
                            return Err(Error::Environment(format!(
                                "{}: not the published file. Delete it, then fetch again",
                                present.display()
                            )));
                        }
                        _ => continue,
                    }
                }
                download(set, file, folder.join(file.name), mirror, progress)?;
            }
        }
        Format::Cifar(_) => {
            let file = &set.files[0];
            let archive = root.join(file.name);
            if !archive.is_file() || file_state(&archive, file)? == FileState::Differs {
                download(set, file, archive.clone(), mirror, progress)?;
            }
            progress.note(&format!("{}: extracting to {}", file.name, folder.display()));
            extract(set, &archive, root, true)?;
            std::fs::remove_file(&archive).at("deleting", &archive)?;
        }
    }
    Ok(folder)
}

fn download(
    set: &Published,
    file: &PublishedFile,
    target: PathBuf,
    mirror: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<()> {
    let urls = match mirror {
        Some(mirror) => {
            let mirror = mirror.trim_end_matches('/');
            vec![format!("{mirror}/{}", file.name), format!("{mirror}/{}/{}", set.folder, file.name)]
        }
        None => file.urls.iter().map(|url| format!("{url}{}", file.name)).collect(),
    };
    let download = Download {
        urls,
        target,
        size: file.size,
        sha256: file.digest.sha256.to_owned(),
        attempts: 3,
        pause: Duration::from_secs(1),
        least: Rate::LEAST,
    };
    download.run(progress)
}
