//! Examines data sets: which of the published ones are there, and where.

use std::path::Path;

use super::finding::Finding;
use crate::problems::data::{CATALOG, DataFolders, Published};

/// Every data set that problems may name, and where it was found; `data` is the one folder to look in, None the usual
/// ones.
pub(super) fn examine(data: Option<&Path>) -> Vec<Finding> {
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
    use super::super::State;
    use super::*;

    fn state_of<'a>(findings: &'a [Finding], set: &str) -> &'a Finding {
        findings.iter().find(|finding| finding.check == format!("data set {set}")).unwrap()
    }

    #[test]
    fn a_set_is_found_in_part_and_then_whole() {
        let folder = tempfile::tempdir().unwrap();
        let findings = examine(Some(folder.path()));
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
            let findings = examine(Some(folder.path()));
            let finding = state_of(&findings, "mnist");
            if index < 3 {
                assert!(finding.state == State::Warn && finding.found.starts_with("incomplete: "), "{finding:?}");
            } else {
                assert!(finding.state == State::Ok && finding.found.ends_with("mnist"), "{finding:?}");
            }
        }
    }
}
