//! Putting files into a data folder: written beside, then renamed, so that a file that is there is whole.

use std::io::Write;
use std::path::Path;

use super::hash::hash_bytes;
use crate::error::{Error, IoContext, Result};
use crate::problems::data::catalog::{Format, Published};
use crate::problems::data::defect::{REMEDY, defect};
use crate::problems::data::formats::cifar;

/// Writes `content` to `path` in one step.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
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
