//! Going on from the end of a run of fewer epochs: its numbers are those that a longer one begins with, as long as the
//! learning rate follows from the step alone.

use std::path::Path;

use super::super::settings::RunSettings;
use super::super::store::checkpoint::Checkpoint;
use super::super::store::{KeepEnd, RunFolder, end};
use super::super::task::RunTask;
use crate::error::{Error, Result};

/// The runs that differ from this one in having fewer epochs and whose ends are kept, each with its epochs; those of more
/// epochs first.
fn shorter(task: &RunTask) -> Vec<(usize, RunFolder)> {
    // Measurements of diagnosed steps must be of one interval from the first step on.
    if !task.settings.can_be_continued() || task.diagnostics.is_some() {
        return Vec::new();
    }
    let own = task.folder();
    let (Some(seed), Some(setting)) = (own.path().file_name(), own.path().parent()) else { return Vec::new() };
    let (Some(name), Some(all)) = (setting.file_name(), setting.parent()) else { return Vec::new() };
    let name = name.to_string_lossy();
    // The name without its hash.
    let Some((alike, _)) = name.rsplit_once("__") else { return Vec::new() };
    let entries = std::fs::read_dir(all).into_iter().flatten().flatten();
    let candidate = |entry: std::fs::DirEntry| {
        let other = entry.file_name();
        let other = other.to_string_lossy();
        if *other == *name || other.rsplit_once("__").is_none_or(|(begin, _)| begin != alike) {
            return None;
        }
        let folder = RunFolder::at(entry.path().join(seed));
        if !folder.end().exists() {
            return None;
        }
        let epochs = epochs(&folder)?;
        let fewer = (1..task.settings.problem.epochs).contains(&epochs);
        (fewer && with_epochs(&task.settings, epochs).folder() == *other).then_some((epochs, folder))
    };
    let mut found: Vec<(usize, RunFolder)> = entries.filter_map(candidate).collect();
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
pub fn epochs_behind(task: &RunTask) -> Option<usize> {
    shorter(task).first().map(|(epochs, _)| *epochs)
}

/// The end of the longest shorter run that is whole, and where it lies.
///
/// # Errors
/// Where a file was written by a newer version of this program. What cannot be read counts as not there.
pub(super) fn load(task: &RunTask) -> Result<Option<(Checkpoint, RunFolder)>> {
    for (_, folder) in shorter(task) {
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
