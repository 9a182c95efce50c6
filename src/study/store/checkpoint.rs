//! Checkpoints: everything a run needs to go on as if it had never stopped, in one safetensors file with a checksum.
//!
//! The file's metadata holds `progress` (JSON: where the run stands and the rows so far) and `sha256`, taken over the
//! progress and over each tensor's name, type, shape and bytes. The checkpoint before the newest one is kept beside it
//! and used where the newest is damaged.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Tensor;

use super::rows::{self, DiagnosticRow, EpochRow, StepRow};
use super::seal::defect_of_kind;
use super::{RunFolder, SCHEMA_VERSION};
use crate::error::{Error, Result};
use crate::{atomic, files, tensor_head};

/// Where a run stands, apart from its tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Whole epochs trained.
    pub epoch: usize,
    /// Steps made in the epoch after them.
    pub step: usize,
    /// Seconds of training since the last evaluation.
    pub train_seconds: f64,
    /// How often a curvature could not be inverted as it was.
    pub failed_inverses: u64,
    /// The evaluations so far. Their number is `epoch` where that of the present epoch is still to be made, else
    /// `epoch + 1`.
    pub epochs: Vec<EpochRow>,
    /// The mini-batch losses so far.
    pub steps: Vec<StepRow>,
    /// The diagnostics so far.
    pub diagnostics: Vec<DiagnosticRow>,
}

/// A run at one instant, between two steps.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where it stands.
    pub progress: Progress,
    /// Parameters, buffers and the optimizer's state, by names of the run's choice. On the CPU.
    pub tensors: Vec<(String, Tensor)>,
}

/// [`Progress`] as the file holds it: rows are CSV, which unlike JSON has numbers that are not finite.
#[derive(Serialize, Deserialize)]
struct StoredProgress {
    schema_version: u32,
    epoch: usize,
    step: usize,
    train_seconds: f64,
    /// Not yet counted by the first runs.
    #[serde(default)]
    failed_inverses: u64,
    epochs: String,
    steps: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    diagnostics: String,
}

/// What [`load`] found.
#[derive(Debug)]
pub struct Loaded {
    /// The newest checkpoint that is whole.
    pub checkpoint: Option<Checkpoint>,
    /// What was wrong with those that are not, one sentence each.
    pub damage: Vec<String>,
}

/// Writes the checkpoint; the one before it becomes the predecessor.
///
/// # Errors
/// [`Error::Io`] when the disk is full or the folder cannot be written to; the former checkpoint is then still there.
pub fn save(folder: &RunFolder, checkpoint: &Checkpoint) -> Result<()> {
    let progress = &checkpoint.progress;
    let stored = StoredProgress {
        schema_version: SCHEMA_VERSION,
        epoch: progress.epoch,
        step: progress.step,
        train_seconds: progress.train_seconds,
        failed_inverses: progress.failed_inverses,
        epochs: rows::to_csv(&progress.epochs)?,
        steps: rows::to_csv(&progress.steps)?,
        diagnostics: match progress.diagnostics.is_empty() {
            true => String::new(),
            false => rows::to_csv(&progress.diagnostics)?,
        },
    };
    let path = folder.checkpoint();
    let text = serde_json::to_string(&stored)
        .map_err(|error| Error::Environment(format!("{}: cannot be written: {error}", path.display())))?;
    let contents = contents(&checkpoint.tensors)?;
    let views = views(&contents, &path)?;
    let metadata = HashMap::from([("sha256".to_owned(), checksum(&text, &views)), ("progress".to_owned(), text)]);
    let bytes = safetensors::serialize(views.iter().map(|(name, view)| (*name, view)), Some(metadata))
        .map_err(|error| Error::Environment(format!("{}: cannot be written: {error}", path.display())))?;
    atomic::write_keeping(&path, &folder.previous_checkpoint(), &bytes)
}

/// Writes named tensors alone, as `torch` users read them with `safetensors`. Equal tensors give equal bytes.
pub fn save_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let contents = contents(tensors)?;
    let bytes = safetensors::serialize(views(&contents, path)?, None)
        .map_err(|error| Error::Environment(format!("{}: cannot be written: {error}", path.display())))?;
    atomic::write(path, &bytes, atomic::Durability::Machine)
}

/// The newest whole checkpoint of the folder, if any.
///
/// # Errors
/// [`Error::Io`] when a file is there and cannot be read; a file that is damaged is reported in [`Loaded::damage`].
pub fn load(folder: &RunFolder) -> Result<Loaded> {
    let mut damage = Vec::new();
    for path in [folder.checkpoint(), folder.previous_checkpoint()] {
        let bytes = match files::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                damage.push(format!("{}: damaged checkpoint ({})", path.display(), defect_of_kind(error, &path)?));
                continue;
            }
        };
        match parse(&bytes) {
            Ok(checkpoint) => return Ok(Loaded { checkpoint: Some(checkpoint), damage }),
            Err(defect) => damage.push(format!("{}: damaged checkpoint ({defect})", path.display())),
        }
    }
    Ok(Loaded { checkpoint: None, damage })
}

/// Whether a run has a checkpoint to go on from.
pub fn exists(folder: &RunFolder) -> bool {
    folder.checkpoint().exists() || folder.previous_checkpoint().exists()
}

/// Removes the checkpoints of a run that needs none any more.
pub fn remove(folder: &RunFolder) -> Result<()> {
    atomic::remove(&folder.previous_checkpoint())?;
    atomic::remove(&folder.checkpoint())
}

/// The checkpoint in `bytes`, or what is wrong with it.
fn parse(bytes: &[u8]) -> Result<Checkpoint, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| text(&error))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let stored = metadata.get("progress").ok_or("it holds no progress")?;
    let expected = metadata.get("sha256").ok_or("it holds no checksum")?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| text(&error))?;
    let named = file.tensors();
    let mut views: Vec<(&str, TensorView)> = named.iter().map(|(name, view)| (name.as_str(), view.clone())).collect();
    views.sort_by_key(|(name, _)| *name);
    let found = checksum(stored, &views);
    if found != *expected {
        return Err(format!("its SHA-256 is {found}, expected {expected}"));
    }
    let stored: StoredProgress = serde_json::from_str(stored).map_err(|error| text(&error))?;
    if stored.schema_version != SCHEMA_VERSION {
        return Err(format!("its schema_version is {}, expected {SCHEMA_VERSION}", stored.schema_version));
    }
    let read_epochs = rows::from_csv(&stored.epochs, Path::new("epochs"));
    let read_steps = rows::from_csv(&stored.steps, Path::new("steps"));
    let read_diagnostics = rows::from_csv(&stored.diagnostics, Path::new("diagnostics"));
    let progress = Progress {
        epoch: stored.epoch,
        step: stored.step,
        train_seconds: stored.train_seconds,
        failed_inverses: stored.failed_inverses,
        epochs: read_epochs.map_err(|error| text(&error))?,
        steps: read_steps.map_err(|error| text(&error))?,
        diagnostics: read_diagnostics.map_err(|error| text(&error))?,
    };
    Ok(Checkpoint { progress, tensors: tensors_of(&views)? })
}

/// The tensors that a file holds, or what is wrong with one of them.
pub(super) fn tensors_of(views: &[(&str, TensorView)]) -> Result<Vec<(String, Tensor)>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut tensors = Vec::with_capacity(views.len());
    for (name, view) in views {
        let kind =
            tensor_head::kind(view.dtype()).ok_or_else(|| format!("tensor {name} has the type {:?}", view.dtype()))?;
        let shape = tensor_head::sizes(view.shape())
            .ok_or_else(|| format!("tensor {name} has the sizes {:?}", view.shape()))?;
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|error| text(&error))?;
        tensors.push(((*name).to_owned(), tensor));
    }
    Ok(tensors)
}

/// A tensor's name, type, shape and bytes.
pub(super) struct Content {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The contents of tensors on any device, in order of their names.
pub(super) fn contents(tensors: &[(String, Tensor)]) -> Result<Vec<Content>> {
    let mut contents = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let kind = tensor.f_kind()?;
        let dtype = tensor_head::dtype(kind)
            .ok_or_else(|| Error::Unsupported(format!("tensor {name}: {kind:?} cannot be stored")))?;
        let mut bytes = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_contiguous()?.f_copy_data_u8(&mut bytes, tensor.numel())?;
        let shape = tensor.size().into_iter().map(|length| length as usize).collect();
        contents.push(Content { name: name.clone(), dtype, shape, bytes });
    }
    contents.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(contents)
}

pub(super) fn views<'a>(contents: &'a [Content], path: &Path) -> Result<Vec<(&'a str, TensorView<'a>)>> {
    let view = |content: &'a Content| {
        TensorView::new(content.dtype, content.shape.clone(), &content.bytes)
            .map(|view| (content.name.as_str(), view))
            .map_err(|error| Error::Environment(format!("{}: tensor {}: {error}", path.display(), content.name)))
    };
    contents.iter().map(view).collect()
}

/// SHA-256 over the progress and every tensor, in hexadecimal.
pub(super) fn checksum(progress: &str, views: &[(&str, TensorView)]) -> String {
    let mut hash = Sha256::new();
    hash.update((progress.len() as u64).to_le_bytes());
    hash.update(progress);
    for (name, view) in views {
        hash.update(format!("\n{name} {:?} {:?}\n", view.dtype(), view.shape()));
        hash.update(view.data());
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn checkpoint(step: usize) -> Checkpoint {
        let tensors = vec![
            ("parameter/1.weight".to_owned(), Tensor::from_slice(&[1.5f32, -0.0, f32::NAN, step as f32]).view([2, 2])),
            ("optimizer/count".to_owned(), Tensor::from(7i64)),
        ];
        let loss = f64::INFINITY;
        let progress = Progress {
            epoch: 2,
            step,
            train_seconds: 0.1,
            failed_inverses: 4,
            epochs: vec![],
            steps: vec![StepRow { epoch: 1, step: 0, loss }],
            diagnostics: vec![DiagnosticRow {
                step: 3,
                epoch: 1,
                name: "gradient_norm".to_owned(),
                layer: "all".to_owned(),
                value: 1.0 / 3.0,
            }],
        };
        Checkpoint { progress, tensors }
    }

    fn folder() -> (tempfile::TempDir, RunFolder) {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::at(root.path());
        (root, folder)
    }

    #[test]
    fn a_checkpoint_reads_back_bit_for_bit() {
        let (_root, folder) = folder();
        save(&folder, &checkpoint(3)).unwrap();
        let loaded = load(&folder).unwrap();
        assert!(loaded.damage.is_empty());
        let read = loaded.checkpoint.unwrap();
        assert_eq!(read.progress, checkpoint(3).progress);
        let names: Vec<_> = read.tensors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["optimizer/count", "parameter/1.weight"]);
        assert_eq!(read.tensors[1].1.size(), [2, 2]);
        let bits = |tensor: &Tensor| {
            let mut bytes = vec![0u8; 16];
            tensor.copy_data_u8(&mut bytes, 4);
            bytes
        };
        assert_eq!(bits(&read.tensors[1].1), bits(&checkpoint(3).tensors[0].1));
    }

    #[test]
    fn damage_anywhere_is_noticed_and_the_predecessor_used() {
        let (_root, folder) = folder();
        save(&folder, &checkpoint(1)).unwrap();
        save(&folder, &checkpoint(2)).unwrap();
        let whole = fs::read(folder.checkpoint()).unwrap();
        for place in [9, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            fs::write(folder.checkpoint(), &bytes).unwrap();
            let loaded = load(&folder).unwrap();
            assert_eq!(loaded.damage.len(), 1, "byte {place}");
            assert_eq!(loaded.checkpoint.unwrap().progress.step, 1, "byte {place}");
        }
        for length in [0, 4, 100, whole.len() - 1] {
            fs::write(folder.checkpoint(), &whole[..length]).unwrap();
            assert_eq!(load(&folder).unwrap().checkpoint.unwrap().progress.step, 1, "cut to {length}");
        }
    }

    #[test]
    fn a_checkpoint_of_the_first_runs_is_understood() {
        // As written before failed inverses were counted.
        let text = r#"{"schema_version":1,"epoch":2,"step":3,"train_seconds":0.5,"epochs":"","steps":""}"#;
        let stored: StoredProgress = serde_json::from_str(text).unwrap();
        assert_eq!((stored.epoch, stored.step, stored.failed_inverses), (2, 3, 0));
    }

    #[test]
    fn killed_between_the_renames_leaves_the_predecessor() {
        let (_root, folder) = folder();
        save(&folder, &checkpoint(1)).unwrap();
        fs::rename(folder.checkpoint(), folder.previous_checkpoint()).unwrap();
        let loaded = load(&folder).unwrap();
        assert!(loaded.damage.is_empty());
        assert_eq!(loaded.checkpoint.unwrap().progress.step, 1);
    }

    #[test]
    fn no_checkpoint_is_no_error_and_two_damaged_ones_are_named() {
        let (_root, folder) = folder();
        assert!(load(&folder).unwrap().checkpoint.is_none());
        fs::write(folder.checkpoint(), b"x").unwrap();
        fs::write(folder.previous_checkpoint(), b"y").unwrap();
        let loaded = load(&folder).unwrap();
        assert!(loaded.checkpoint.is_none());
        assert_eq!(loaded.damage.len(), 2);
    }
}
