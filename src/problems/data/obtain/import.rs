//! Taking over files that the user already has, from a folder or an archive, into a data folder, and putting files
//! there whole, as fetching does too.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::hash::hash_bytes;
use super::verify::verify_place;
use crate::error::{Error, IoContext, Result};
use crate::problems::data::catalog::{Format, Published};
use crate::problems::data::defect::{REMEDY, defect, read_file};
use crate::problems::data::folders::{DataFolders, Place, file_in};
use crate::problems::data::formats::cifar;

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

// Putting files into a data folder: written beside, then renamed, so that a file that is there is whole.

/// Writes `content` to `path` in one step.
fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).at("creating the folder", folder)?;
    let mut file = tempfile::Builder::new().prefix(".incoming-").tempfile_in(folder).at("writing", folder)?;
    file.write_all(content).at("writing", path)?;
    file.as_file().sync_all().at("writing", path)?;
    // Temporary files are private; a data set is for everyone who may read the folder.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let permissions = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(permissions).at("setting the permissions", path)?;
    }
    file.persist(path).map_err(|error| Error::io("renaming", path, error.error))?;
    Ok(())
}

/// Extracts the files of a CIFAR archive into the set's folder below `root`. With `published`, each must be the
/// published one.
///
/// # Errors
/// [`Error::Data`] on a broken archive or a file with another hash; [`Error::Io`].
pub(crate) fn extract(set: &Published, archive: &Path, root: &Path, published: bool) -> Result<()> {
    let Format::Cifar(variant) = set.format else {
        return Err(Error::Usage(format!("{}: {} has no archive", archive.display(), set.title)));
    };
    let folder = root.join(set.folder);
    cifar::read_members(&cifar::read_archive(archive, variant)?, archive, variant, |member, content, path| {
        let digest = set.members.iter().find(|(name, _)| *name == member.name).map(|(_, digest)| digest);
        if let Some(digest) = digest.filter(|_| published) {
            let hashes = hash_bytes(&content);
            if !hashes.fit(digest) {
                let found = format!("SHA-256 {}", hashes.sha256);
                return Err(defect(path, 0, found, digest.sha256, REMEDY));
            }
        }
        write_whole(&folder.join(member.name), &content)
    })
}
