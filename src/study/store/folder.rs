//! A run's folder: which file is which, and reading and writing them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::rows::{self, Row};
use super::{DiagnosticRow, EpochRow, StepRow};
use crate::atomic::{self, Durability};
use crate::error::{Error, IoContext, Result};
use crate::files;

/// The folder of one run: RUNS/PROBLEM/OPTIMIZER/SETTING/seed-S.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder at `path`, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        RunFolder { path: path.into() }
    }

    /// The folder of the run of `setting` (a folder name) with `seed`.
    pub fn of(runs: &Path, problem: &str, optimizer: &str, setting: &str, seed: u64) -> Self {
        RunFolder::at(runs.join(problem).join(optimizer).join(setting).join(format!("seed-{seed}")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// The characters of the run's text, where its data are one.
    pub fn vocabulary(&self) -> PathBuf {
        self.path.join("vocabulary.json")
    }

    /// What computed the run, and when.
    pub fn provenance(&self) -> PathBuf {
        self.path.join("provenance.json")
    }

    /// One row an evaluation.
    pub fn epochs(&self) -> PathBuf {
        self.path.join("epochs.csv")
    }

    /// The loss of every tenth mini-batch.
    pub fn steps(&self) -> PathBuf {
        self.path.join("steps.csv")
    }

    /// What was measured of gradient, step and curvature, where that was asked for.
    pub fn diagnostics(&self) -> PathBuf {
        self.path.join("diagnostics.csv")
    }

    /// The same and the epochs' metrics as TensorBoard reads them.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// Where the run stands.
    pub fn status(&self) -> PathBuf {
        self.path.join("status.json")
    }

    /// The newest checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    /// The checkpoint before it.
    pub fn previous_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.previous.safetensors")
    }

    /// The parameters and buffers of a run that is done, by the names that `extract --weights` reads.
    pub fn weights(&self) -> PathBuf {
        self.path.join("weights.safetensors")
    }

    /// The state at the end of a run that is done, from which one of more epochs goes on; not of every run.
    pub fn end(&self) -> PathBuf {
        self.path.join("end.safetensors")
    }

    /// The lock of the process that carries the run out.
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock.json")
    }

    /// Makes the folder and those above it.
    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.path).at("creating the folder", &self.path)
    }

    /// Writes both tables.
    pub fn write_rows(&self, epochs: &[EpochRow], steps: &[StepRow], durability: Durability) -> Result<()> {
        atomic::write(&self.epochs(), rows::to_csv(epochs)?.as_bytes(), durability)?;
        atomic::write(&self.steps(), rows::to_csv(steps)?.as_bytes(), durability)
    }

    /// Writes the table of diagnostics.
    pub fn write_diagnostics(&self, rows: &[DiagnosticRow], durability: Durability) -> Result<()> {
        atomic::write(&self.diagnostics(), rows::to_csv(rows)?.as_bytes(), durability)
    }

    /// The rows of epochs.csv; none where the file is not there.
    pub fn read_epochs(&self) -> Result<Vec<EpochRow>> {
        self.read_rows(&self.epochs())
    }

    /// The rows of steps.csv; none where the file is not there.
    pub fn read_steps(&self) -> Result<Vec<StepRow>> {
        self.read_rows(&self.steps())
    }

    /// The rows of diagnostics.csv; none where the file is not there.
    pub fn read_diagnostics(&self) -> Result<Vec<DiagnosticRow>> {
        self.read_rows(&self.diagnostics())
    }

    fn read_rows<R: Row>(&self, path: &Path) -> Result<Vec<R>> {
        read_if_there(path)?.map_or(Ok(Vec::new()), |text| rows::from_csv(&text, path))
    }

    /// One of the folder's JSON files.
    ///
    /// # Errors
    /// [`Error::Config`] with the line and column where the file is not what it should be.
    pub fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        read_if_there(path)?
            .map(|text| {
                serde_json::from_str(&text).map_err(|error| Error::Config(format!("{}: {error}", path.display())))
            })
            .transpose()
    }

    /// All run folders below `runs`, in order of their paths.
    pub fn find_all(runs: &Path) -> Result<Vec<RunFolder>> {
        let mut found = Vec::new();
        for problem in folders(runs)? {
            for optimizer in folders(&problem)? {
                for setting in folders(&optimizer)? {
                    for seed in folders(&setting)? {
                        let name = seed.file_name().unwrap_or_default().to_string_lossy().into_owned();
                        if name.starts_with("seed-") {
                            found.push(RunFolder::at(seed));
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("reading the folder", path, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.at("reading the folder", path)?.path();
        if entry.is_dir() {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match files::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        // What stands in the way of the folder is told by whoever comes to write into it.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::io("reading", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_folders_are_found_in_order() {
        let root = tempfile::tempdir().unwrap();
        for (setting, seed) in [("lr-0.1__a", 43), ("lr-0.1__a", 42), ("lr-0.01__b", 42)] {
            RunFolder::of(root.path(), "p", "sgd", setting, seed).create().unwrap();
        }
        fs::write(root.path().join("note.txt"), "x").unwrap();
        let found = RunFolder::find_all(root.path()).unwrap();
        let names: Vec<_> = found.iter().map(|f| f.path().strip_prefix(root.path()).unwrap().to_owned()).collect();
        assert_eq!(
            names,
            ["p/sgd/lr-0.01__b/seed-42", "p/sgd/lr-0.1__a/seed-42", "p/sgd/lr-0.1__a/seed-43"].map(PathBuf::from)
        );
        assert!(RunFolder::find_all(&root.path().join("none")).unwrap().is_empty());
    }
}
