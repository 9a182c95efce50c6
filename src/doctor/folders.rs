//! Examines folders, whether they can be written and how much room there is; and data sets, which of the published ones
//! are there and where.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::finding::{Finding, State};
use crate::problems::data::{CATALOG, DataFolders, Published};

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

// Examines data sets: which of the published ones are there, and where.

/// Every data set that problems may name, and where it was found; `data` is the one folder to look in, None the usual
/// ones.
pub(super) fn data_sets(data: Option<&Path>) -> Vec<Finding> {
    let folders = DataFolders::from_choice(data);
    let built_in = Finding::ok("data set fashion_mnist_mini", "in the program");
    std::iter::once(built_in).chain(CATALOG.iter().map(|set| find(set, &folders))).collect()
}

fn find(set: &Published, folders: &DataFolders) -> Finding {
    let check = format!("data set {}", set.name);
    match folders.find(set) {
        Ok(place) => {
            let path = std::path::absolute(place.path()).unwrap_or_else(|_| place.path().to_owned());
            Finding::ok(check, path.display().to_string())
        }
        Err(error) => {
            // A part of the files is worth saying; the many places where nothing was found are not.
            let reason = error.to_string();
            let part =
                reason.lines().map(str::trim).find(|line| line.contains(" (without ") || line.contains("pickles"));
            let found = part.map_or_else(|| "not found".to_owned(), |part| format!("incomplete: {part}"));
            let remedy = format!("Get it with `backpack-run data fetch {0}`, or `data import {0} PATH`", set.name);
            Finding::warn(check, found, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

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

    fn state_of<'a>(findings: &'a [Finding], set: &str) -> &'a Finding {
        findings.iter().find(|finding| finding.check == format!("data set {set}")).unwrap()
    }

    #[test]
    fn a_set_is_found_in_part_and_then_whole() {
        let folder = tempfile::tempdir().unwrap();
        let findings = data_sets(Some(folder.path()));
        assert_eq!(findings.len(), CATALOG.len() + 1);
        assert_eq!(state_of(&findings, "fashion_mnist_mini").state, State::Ok);
        let missing = state_of(&findings, "mnist");
        assert_eq!((missing.state, missing.found.as_str()), (State::Warn, "not found"));
        assert!(missing.remedy.contains("data fetch mnist"), "{missing:?}");

        std::fs::create_dir(folder.path().join("mnist")).unwrap();
        for (index, kind) in
            ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"].into_iter().enumerate()
        {
            std::fs::write(folder.path().join(format!("mnist/{kind}-ubyte.gz")), b"").unwrap();
            let findings = data_sets(Some(folder.path()));
            let finding = state_of(&findings, "mnist");
            if index < 3 {
                assert!(finding.state == State::Warn && finding.found.starts_with("incomplete: "), "{finding:?}");
            } else {
                assert!(finding.state == State::Ok && finding.found.ends_with("mnist"), "{finding:?}");
            }
        }
    }
}
