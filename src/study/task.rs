//! One run to carry out, as it is handed to this process, to a worker or to a cluster; and the data set that runs share.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::RunSettings;
use super::store::{KeepEnd, RunFolder};
use crate::error::{Error, Result};
use crate::files::{stored_path, stored_path_option};
use crate::problems::data::{self, DataFolders, DataSet, DataSource};

/// One run to carry out: its settings and seed, and where things lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunTask {
    /// What decides its numbers.
    pub settings: RunSettings,
    /// The key of all its random streams.
    pub seed: u64,
    /// The folder that holds all runs.
    #[serde(with = "stored_path")]
    pub runs_dir: PathBuf,
    /// Where data lie, if that was said; else they are looked for.
    #[serde(default, with = "stored_path_option")]
    pub data_dir: Option<PathBuf>,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: f64,
    /// Whether the state at its end is kept; it changes no number of the run.
    #[serde(default, skip_serializing_if = "KeepEnd::is_default")]
    pub keep_end: KeepEnd,
    /// Steps from one diagnosis to the next, where there are any; they change no number of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<u64>,
    /// While this file exists, the run is suspended.
    #[serde(default, with = "stored_path_option", skip_serializing_if = "Option::is_none")]
    pub pause_file: Option<PathBuf>,
}

impl RunTask {
    /// The run's folder.
    pub fn folder(&self) -> RunFolder {
        let optimizer = self.settings.optimizer.name.as_str();
        RunFolder::of(&self.runs_dir, &self.settings.problem.name, optimizer, &self.settings.folder(), self.seed)
    }

    /// `kfac lr 0.1, damping 1, seed 42`, after the problem's name where that is asked for.
    pub fn label(&self, with_problem: bool) -> String {
        let optimizer = &self.settings.optimizer;
        let problem = if with_problem { format!("{} ", self.settings.problem.name) } else { String::new() };
        format!("{problem}{} {}, seed {}", optimizer.name, optimizer.label(), self.seed)
    }

    /// The same task with paths that hold in any working folder.
    pub fn with_absolute_paths(mut self) -> std::io::Result<Self> {
        self.runs_dir = std::path::absolute(&self.runs_dir)?;
        for path in [&mut self.data_dir, &mut self.pause_file] {
            *path = path.as_deref().map(|path: &Path| std::path::absolute(path)).transpose()?;
        }
        Ok(self)
    }
}

/// The data set that was loaded last: the runs of a grid share it.
#[derive(Debug, Default)]
pub struct DataCache(Option<(DataSource, Option<std::path::PathBuf>, DataSet)>);

impl DataCache {
    /// The task's data set, in memory.
    ///
    /// # Errors
    /// As [`data::load`]; [`Error::Environment`] where the data are not those that the run was planned with: its folder is named
    /// after their content.
    pub fn get(&mut self, task: &RunTask) -> Result<&DataSet> {
        let source = &task.settings.problem.dataset;
        let kept = self.0.take().filter(|(kept, folder, _)| kept == source && *folder == task.data_dir);
        let entry = match kept {
            Some(kept) => kept,
            None => {
                let folders = DataFolders::from_choice(task.data_dir.as_deref());
                (source.clone(), task.data_dir.clone(), data::load(source, &folders)?)
            }
        };
        if entry.2.fingerprint != task.settings.data_fingerprint {
            return Err(Error::Environment(format!(
                "{}: the content has changed since the run was planned, or other data lie here (`{}`, planned with `{}`); \
                 give the command again, and its runs get folders of their own",
                entry.2.name, entry.2.fingerprint, task.settings.data_fingerprint
            )));
        }
        Ok(&self.0.insert(entry).2)
    }
}
