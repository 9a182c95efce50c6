//! Taking over files that the user already has, from a folder or an archive, into a data folder.

use std::path::{Path, PathBuf};

use super::install::{extract, write_whole};
use super::verify::verify_place;
use crate::error::{Error, IoContext, Result};
use crate::problems::data::catalog::{Format, Published};
use crate::problems::data::defect::read_file;
use crate::problems::data::folders::{DataFolders, Place, file_in};

/// How files are taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Symbolic links instead of copies; an archive is linked, not extracted.
    pub link: bool,
    /// Accept files with other hashes than the published ones, as long as their content is right.
    pub unpublished: bool,
}

/// Checks the set's files at `from` and copies them to its folder below `root`, which is returned. `from` is an archive,
/// a folder with the files, or a data folder in any layout that is recognised.
///
/// # Errors
/// [`Error::MissingData`] where `from` does not hold the set; [`Error::Data`] where its content is wrong;
/// [`Error::Environment`] where it is not the published one; [`Error::Io`].
pub fn import(set: &Published, from: &Path, root: &Path, options: ImportOptions) -> Result<PathBuf> {
    let place = locate(set, from)?;
    let report = verify_place(set, &place)?;
    if let Some(defect) = &report.defect {
        return Err(Error::Environment(format!("data set {}: nothing was imported: {defect}", set.name)));
    }
    if !report.ok() {
        if !options.unpublished {
            return Err(Error::Environment(format!(
                "data set {}: nothing was imported: {}. Its content is well formed: the option `unpublished` accepts it",
                set.name,
                report.first_defect()
            )));
        }
        tracing::warn!("data set {}: {}", set.name, report.first_defect());
    }
    let folder = root.join(set.folder);
    match &place {
        Place::Archive(archive) if options.link => {
            let target = root.join(set.files[0].name);
            link(archive, &target)?;
            return Ok(target);
        }
        Place::Archive(archive) => extract(set, archive, root, !options.unpublished)?,
        Place::Folder(source) => {
            if same_place(source, &folder) {
                return Err(Error::Usage(format!("{}: these files are already where they belong", source.display())));
            }
            for name in set.file_names() {
                let file = file_in(source, name).unwrap_or_else(|| source.join(name));
                let target = folder.join(file.file_name().unwrap_or_default());
                if options.link {
                    link(&file, &target)?;
                } else {
                    write_whole(&target, &read_file(&file)?)?;
                }
            }
        }
    }
    Ok(folder)
}

fn locate(set: &Published, from: &Path) -> Result<Place> {
    if from.is_file() {
        return match set.format {
            Format::Cifar(_) => Ok(Place::Archive(from.to_owned())),
            _ => Err(Error::Usage(format!(
                "{}: {} consists of the files {}; name the folder that holds them",
                from.display(),
                set.title,
                set.file_names().join(", ")
            ))),
        };
    }
    std::fs::metadata(from).at("opening", from)?;
    if set.file_names().into_iter().all(|name| file_in(from, name).is_some()) {
        return Ok(Place::Folder(from.to_owned()));
    }
    DataFolders(vec![from.to_owned()]).find(set).map_err(|_| {
        Error::MissingData(format!(
            "{}: {} was not found here; expected {}{}, in this folder or in {}/",
            from.display(),
            set.title,
            set.file_names().join(", "),
            if set.members.is_empty() { String::new() } else { format!(" or {}", set.files[0].name) },
            set.folder
        ))
    })
}

fn same_place(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(unix)]
fn link(from: &Path, target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).at("creating the folder", folder)?;
    let from = from.canonicalize().at("finding", from)?;
    if target.is_symlink() {
        std::fs::remove_file(target).at("replacing", target)?;
    }
    std::os::unix::fs::symlink(from, target).at("linking", target)
}

#[cfg(not(unix))]
fn link(_from: &Path, target: &Path) -> Result<()> {
    Err(Error::Environment(format!(
        "{}: no symbolic links on this system; leave out the option `link`",
        target.display()
    )))
}
