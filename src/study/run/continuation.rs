//! Going on from the end of a run of fewer epochs: its numbers are those that a longer one begins with, as long as the
//! learning rate follows from the step alone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::super::settings::{RunSettings, RunTask};
use super::super::store::checkpoint::Checkpoint;
use super::super::store::{KeepEnd, RunFolder, end};
use crate::error::{Error, Result};

/// The settings that have folders, by the folder of their optimizer and by their names without the hashes. Each optimizer's
/// folder is read once: for every run anew, that would grow with the square of their number.
#[derive(Debug, Default)]
pub struct Neighbours(HashMap<PathBuf, HashMap<String, Vec<String>>>);

impl Neighbours {
    /// The names in an optimizer's folder that are this one but for the hash.
    fn alike(&mut self, all: &Path, name: &str) -> &[String] {
        if !self.0.contains_key(all) {
            let mut names: HashMap<String, Vec<String>> = HashMap::new();
            for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
                let other = entry.file_name().to_string_lossy().into_owned();
                if let Some((begin, _)) = other.rsplit_once("__") {
                    names.entry(begin.to_owned()).or_default().push(other);
                }
            }
            self.0.insert(all.to_owned(), names);
        }
        self.0.get(all).and_then(|names| names.get(name)).map_or(&[], Vec::as_slice)
    }
}

/// The runs that differ from this one in having fewer epochs and whose ends are kept, each with its epochs; those of more
/// epochs first.
fn shorter(task: &RunTask, neighbours: &mut Neighbours) -> Vec<(usize, RunFolder)> {
    if !task.may_go_on_from_shorter() {
        return Vec::new();
    }
    let own = task.folder();
    let (Some(seed), Some(setting)) = (own.path().file_name(), own.path().parent()) else { return Vec::new() };
    let (Some(name), Some(all)) = (setting.file_name(), setting.parent()) else { return Vec::new() };
    let name = name.to_string_lossy();
    // The name without its hash.
    let Some((alike, _)) = name.rsplit_once("__") else { return Vec::new() };
    let candidate = |other: &String| {
        let folder = RunFolder::at(all.join(other).join(seed));
        if *other == *name || !folder.end().exists() {
            return None;
        }
        let epochs = epochs(&folder)?;
        let fewer = (1..task.settings.problem.epochs).contains(&epochs);
        (fewer && with_epochs(&task.settings, epochs).folder() == *other).then_some((epochs, folder))
    };
    let mut found: Vec<(usize, RunFolder)> = neighbours.alike(all, alike).iter().filter_map(candidate).collect();
    found.sort_by_key(|(epochs, _)| std::cmp::Reverse(*epochs));
    found
}

/// The epochs that a run's configuration says.
fn epochs(folder: &RunFolder) -> Option<usize> {
    #[derive(serde::Deserialize)]
    struct Config {
        problem: Problem,
    }
    #[derive(serde::Deserialize)]
    struct Problem {
        epochs: usize,
    }
    let config: Option<Config> = folder.read_json(&folder.config()).unwrap_or_default();
    config.map(|config| config.problem.epochs)
}

fn with_epochs(settings: &RunSettings, epochs: usize) -> RunSettings {
    let mut settings = settings.clone();
    settings.problem.epochs = epochs;
    settings
}

/// The epochs of the run from whose end this one will go on, as far as can be told without reading it whole.
pub fn epochs_behind(task: &RunTask, neighbours: &mut Neighbours) -> Option<usize> {
    shorter(task, neighbours).first().map(|(epochs, _)| *epochs)
}

/// The end of the longest shorter run that is whole, and where it lies.
///
/// # Errors
/// Where a file was written by a newer version of this program. What cannot be read counts as not there.
pub(super) fn load(task: &RunTask) -> Result<Option<(Checkpoint, RunFolder)>> {
    for (_, folder) in shorter(task, &mut Neighbours::default()) {
        match end::load(&folder) {
            Ok(Some(checkpoint)) => return Ok(Some((checkpoint, folder))),
            Ok(None) | Err(Error::Io { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Removes the end of a run that was kept for the rung above it alone.
pub fn drop_end(folder: &RunFolder, keep: KeepEnd) {
    let size = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.len());
    if let Ok(bytes) = size(&folder.end())
        && !keep.keeps(bytes)
        && let Err(error) = std::fs::remove_file(folder.end())
    {
        tracing::debug!("{}: {error}", folder.end().display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optimizers_folder_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| std::fs::create_dir(folder.path().join(name)).unwrap();
        ["lr-0.1__0123abcd", "lr-0.1__damping-1__0123abcd", "lr-0.1", "lr-0.1__89ef0123"].into_iter().for_each(make);
        let alike = |neighbours: &mut Neighbours, name: &str| {
            let mut names = neighbours.alike(folder.path(), name).to_vec();
            names.sort();
            names
        };
        let mut before = Neighbours::default();
        assert_eq!(alike(&mut before, "lr-0.1"), ["lr-0.1__0123abcd", "lr-0.1__89ef0123"]);
        make("lr-0.1__damping-1__89ef0123");
        // Another setting of the same optimizer does not look again.
        assert_eq!(alike(&mut before, "lr-0.1__damping-1"), ["lr-0.1__damping-1__0123abcd"]);
        assert_eq!(alike(&mut Neighbours::default(), "lr-0.1__damping-1").len(), 2);
        assert!(before.alike(&folder.path().join("none"), "lr-0.1").is_empty());
    }
}
