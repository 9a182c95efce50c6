//! end.safetensors: the state at the end of a run, from which one of more epochs goes on.
//!
//! What the run measured stands in its tables alone, so that equal runs leave equal bytes, whenever and however often
//! they were interrupted. The file's metadata holds one text, `end`: JSON with the epoch, what the tables do not tell, and
//! a SHA-256 as in checkpoints.

use std::collections::HashMap;
use std::io::ErrorKind;

use safetensors::tensor::{SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::state::RunState;
use super::checkpoint::{Checkpoint, Progress, checksum, contents, tensors_of, views};
use super::{Kept, RunFolder, SCHEMA_VERSION, rows};
use crate::error::{Error, Result};
use crate::{atomic, files};

/// The most bytes of an end's tensors that are kept where nothing else is asked for.
pub const SMALL: u64 = 8 << 20;

/// Which ends of runs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepEnd {
    /// Those of at most [`SMALL`] bytes.
    #[default]
    Small,
    /// All.
    Always,
    /// None.
    Never,
}

impl KeepEnd {
    /// The name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            KeepEnd::Small => "small",
            KeepEnd::Always => "always",
            KeepEnd::Never => "never",
        }
    }

    /// Whether an end of so many bytes is kept.
    pub fn keeps(self, bytes: u64) -> bool {
        match self {
            KeepEnd::Small => bytes <= SMALL,
            KeepEnd::Always => true,
            KeepEnd::Never => false,
        }
    }

    /// Whether this is what holds where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == KeepEnd::default()
    }
}

/// The metadata: without its checksum, what that is taken over.
#[derive(Serialize, Deserialize)]
struct Stored {
    schema_version: u32,
    epoch: usize,
    failed_inverses: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sha256: String,
}

/// Bytes of these tensors.
pub fn bytes(tensors: &[(String, Tensor)]) -> u64 {
    tensors.iter().map(|(_, tensor)| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
}

/// Keeps the state after the last epoch.
///
/// # Errors
/// [`Error::Io`] when the disk is full or the folder cannot be written to.
pub fn save(folder: &RunFolder, progress: &Progress, tensors: &[(String, Tensor)]) -> Result<()> {
    let path = folder.end();
    let failed =
        |error: &dyn std::fmt::Display| Error::Environment(format!("{}: cannot be written: {error}", path.display()));
    let contents = contents(tensors)?;
    let views = views(&contents, &path)?;
    let (epoch, failed_inverses) = (progress.epoch, progress.failed_inverses);
    let mut stored = Stored { schema_version: SCHEMA_VERSION, epoch, failed_inverses, sha256: String::new() };
    let plain = serde_json::to_string(&stored).map_err(|error| failed(&error))?;
    stored.sha256 = checksum(&plain, &views);
    let text = serde_json::to_string(&stored).map_err(|error| failed(&error))?;
    let metadata = HashMap::from([("end".to_owned(), text)]);
    let bytes = safetensors::serialize(views.iter().map(|(name, view)| (*name, view)), Some(metadata));
    atomic::write(&path, &bytes.map_err(|error| failed(&error))?, atomic::Durability::Machine)
}

/// Where a run that is done stood at its end, with all that it measured; nothing where its state was not kept, or
/// anything that it takes is missing or damaged.
///
/// # Errors
/// Where this machine cannot read one of its files.
pub fn load(folder: &RunFolder) -> Result<Option<Checkpoint>> {
    let Kept::Result { status, epochs } = folder.verify_result()? else { return Ok(None) };
    let bytes = match files::read(&folder.end()) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("reading", folder.end(), error)),
    };
    let (Some((stored, tensors)), true) = (parse(&bytes), folder.steps().exists()) else { return Ok(None) };
    let Ok(steps) = rows::read(&folder.steps()) else { return Ok(None) };
    if status.status != RunState::Done || stored.epoch != status.epochs || epochs.len() != stored.epoch + 1 {
        return Ok(None);
    }
    let progress = Progress {
        epoch: stored.epoch,
        step: 0,
        train_seconds: 0.0,
        failed_inverses: stored.failed_inverses,
        epochs,
        steps,
        diagnostics: Vec::new(),
    };
    Ok(Some(Checkpoint { progress, tensors }))
}

fn parse(bytes: &[u8]) -> Option<(Stored, Vec<(String, Tensor)>)> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let mut stored: Stored = serde_json::from_str(header.metadata().as_ref()?.get("end")?).ok()?;
    let file = SafeTensors::deserialize(bytes).ok()?;
    let named = file.tensors();
    let mut views: Vec<(&str, TensorView)> = named.iter().map(|(name, view)| (name.as_str(), view.clone())).collect();
    views.sort_by_key(|(name, _)| *name);
    let sha256 = std::mem::take(&mut stored.sha256);
    let found = checksum(&serde_json::to_string(&stored).ok()?, &views);
    let whole = found == sha256 && stored.schema_version == SCHEMA_VERSION;
    Some((stored, tensors_of(&views).ok()?)).filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::Durability;
    use crate::study::store::{EpochRow, RunStatus, StepRow};

    fn row(epoch: usize) -> EpochRow {
        EpochRow {
            epoch,
            train_loss: 1.0 / 3.0,
            train_accuracy: 0.0,
            valid_loss: f64::NAN,
            valid_accuracy: 0.5,
            test_loss: 2.0,
            test_accuracy: 0.1,
            train_seconds: epoch as f64,
            eval_seconds: 0.25,
        }
    }

    #[test]
    fn bytes_are_those_of_all_tensors_of_any_type() {
        let tensors = [("a", Tensor::from(7i64)), ("b", Tensor::from_slice(&[1.5f32, -0.0, 2.0]).view([3, 1]))];
        assert_eq!(bytes(&tensors.map(|(name, tensor)| (name.to_owned(), tensor))), 8 + 3 * 4);
        assert_eq!(bytes(&[]), 0);
        assert!(KeepEnd::Small.keeps(SMALL) && !KeepEnd::Small.keeps(SMALL + 1));
        assert!(KeepEnd::Always.keeps(u64::MAX) && !KeepEnd::Never.keeps(0));
    }

    #[test]
    fn an_end_reads_back_with_the_tables_and_a_damaged_one_is_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::at(root.path());
        let steps = vec![StepRow { epoch: 1, step: 0, loss: 0.1 }];
        let progress =
            Progress { epoch: 1, failed_inverses: 3, epochs: vec![row(0), row(1)], steps, ..Progress::default() };
        let tensors = vec![
            ("b".to_owned(), Tensor::from_slice(&[1.5f32, -0.0]).view([2, 1])),
            ("a".to_owned(), Tensor::from(7i64)),
        ];
        folder.write_rows(&progress.epochs, &progress.steps, Durability::Process).unwrap();
        save(&folder, &progress, &tensors).unwrap();
        let bytes = std::fs::read(folder.end()).unwrap();
        save(&folder, &progress, &tensors).unwrap();
        assert!(std::fs::read(folder.end()).unwrap() == bytes, "equal ends have equal bytes");
        assert!(load(&folder).unwrap().is_none(), "a run without a status is not at its end");
        let done = RunStatus::new(RunState::Done, 1, 1, None).sealed(&folder).unwrap();
        folder.write_status(&done).unwrap();
        let found = load(&folder).unwrap().unwrap();
        assert_eq!(found.progress.steps, progress.steps);
        assert_eq!((found.progress.epoch, found.progress.failed_inverses, found.progress.epochs.len()), (1, 3, 2));
        assert_eq!(found.tensors.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(found.tensors[1].1.equal(&tensors[0].1));
        for place in [bytes.len() - 2, 40, bytes.len() / 2] {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert!(parse(&damaged).is_none(), "byte {place}");
        }
        std::fs::remove_file(folder.end()).unwrap();
        assert!(load(&folder).unwrap().is_none());
    }
}
