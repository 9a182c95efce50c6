//! Examines folders: whether they can be written, and how much room there is.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::finding::{Finding, State};

/// With less room than this a long study may end for want of it.
const COMFORTABLE_ROOM: u64 = 1 << 30;

/// Whether `folder` can be written, or created where it is missing; `choice` says how to choose another one, and
/// `severity` is the state where it cannot.
///
/// Nothing stays behind: a file is created in the folder, or in the nearest folder above it that exists, and removed.
pub(super) fn writable(check: &str, folder: &Path, choice: &str, severity: State) -> Finding {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let existing = nearest_existing(&absolute);
    if let Err(error) = tempfile::tempfile_in(&existing) {
        return Finding {
            check: check.to_owned(),
            state: severity,
            found: format!("{} cannot be written: {error}", existing.display()),
            remedy: format!("Make {} writable, or choose another folder with {choice}", existing.display()),
        };
    }
    let exists = if existing == absolute { "" } else { " (not there yet)" };
    let found = |room: u64| format!("{}{exists}, {} free", absolute.display(), ByteSize(room).display().iec());
    match fs4::available_space(&existing) {
        Ok(room) if room < COMFORTABLE_ROOM => {
            Finding::warn(check, found(room), format!("Free some space, or choose another folder with {choice}"))
        }
        Ok(room) => Finding::ok(check, found(room)),
        Err(error) => Finding::ok(check, format!("{}{exists} (free space unknown: {error})", absolute.display())),
    }
}

/// The path itself, or the nearest one above it that exists; of a path whose end is a file, that file.
fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_missing_is_judged_by_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("a/b");
        let finding = writable("runs folder", &missing, "--runs-dir", State::Fail);
        assert_ne!(finding.state, State::Fail, "{finding:?}");
        assert!(finding.found.contains("not there yet"), "{finding:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_file_in_the_way_is_named_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let finding = writable("runs folder", &file.join("below"), "--runs-dir", State::Fail);
        assert_eq!(finding.state, State::Fail, "{finding:?}");
        assert!(finding.found.contains(file.to_str().unwrap()), "{finding:?}");
        assert!(finding.remedy.contains("--runs-dir"), "{finding:?}");
    }
}
