//! The keys that a problem file, an experiment file and `--set` share: data, loss, and how a problem is trained.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Length, LossKind, ProblemDefinition, TargetsKind};
use crate::backpack::losses::Reduction;
use crate::config::{self, Item, Table, keys_of, set};
use crate::error::Result;
use crate::files::stored_path_option;
use crate::numbers::read;
use crate::problems::data::{DataSource, InputShape, SAMPLE_SHAPE};

/// What a text says of a problem apart from its name and layers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ProblemKeys {
    /// The data set.
    pub dataset: Option<DataSource>,
    /// The shape of an input in its place.
    #[serde(deserialize_with = "config::some_table")]
    pub input: Option<InputShape>,
    /// The loss.
    pub loss: Option<LossKind>,
    /// What the outputs are compared with.
    pub targets: Option<TargetsKind>,
    /// How the samples' losses make up that of a batch.
    pub reduction: Option<Reduction>,
    /// Samples in a mini-batch.
    #[serde(deserialize_with = "read::size")]
    pub batch_size: Option<usize>,
    /// Whether the last, smaller batch is left out.
    pub drop_last: Option<bool>,
    /// How long a run trains.
    pub epochs: Option<Length>,
    /// The factor of half the sum of squared weights.
    #[serde(deserialize_with = "read::from_0")]
    pub l2: Option<f64>,
    /// Whether training samples are augmented.
    pub augment: Option<bool>,
    /// Samples split off for validation.
    #[serde(deserialize_with = "read::size")]
    pub valid_size: Option<usize>,
    /// Training samples used, of those left after the split.
    #[serde(deserialize_with = "read::size")]
    pub train_size: Option<usize>,
    /// The file that initial values come from.
    #[serde(deserialize_with = "stored_path_option::deserialize")]
    pub weights: Option<PathBuf>,
}

/// The keys of [`ProblemKeys`].
pub fn problem_keys() -> &'static [&'static str] {
    keys_of::<ProblemKeys>()
}

impl ProblemKeys {
    /// Reads those that are there. Paths are made absolute, so that a worker or a copy of the configuration elsewhere finds
    /// the same files.
    ///
    /// # Errors
    /// For a value of the wrong type or out of its range.
    pub fn read(table: &Table) -> Result<Self> {
        let mut keys: ProblemKeys = table.part()?;
        if let (Some(data), Some(input)) = (table.get("dataset"), table.get("input")) {
            let title = "`input` is for a problem without data, and here is a `dataset`";
            return Err(input.key_place().error(title, "leave it out").at(&data.place(), "the data").into());
        }
        if let (Some(item), Some(DataSource::Absent(_))) = (table.get("dataset"), &keys.dataset) {
            return Err(item
                .error("expected data; for a problem without any, write input = { shape = [..] } instead")
                .into());
        }
        if let (Some(item), Some(input)) = (table.get("input"), &keys.input)
            && input.shape.is_empty()
            && input.integers.is_none()
        {
            // A sample may be a single token.
            return Err(item.expected(SAMPLE_SHAPE));
        }
        if let (Some(item), Some(path)) = (table.get("dataset"), keys.dataset.as_mut().and_then(DataSource::path_mut)) {
            *path = absolute(&item, path)?;
        }
        if let (Some(item), Some(path)) = (table.get("weights"), &mut keys.weights) {
            *path = absolute(&item, path)?;
        }
        Ok(keys)
    }

    /// Where samples come from, or what stands in the place of data.
    pub(super) fn source(&self) -> Option<DataSource> {
        self.dataset.clone().or_else(|| self.input.clone().map(DataSource::Absent))
    }

    /// These, and what they do not say from `lower`.
    pub fn or(self, lower: ProblemKeys) -> Self {
        ProblemKeys {
            input: if self.dataset.is_some() { None } else { self.input.clone().or(lower.input) },
            dataset: if self.input.is_some() { None } else { self.dataset.or(lower.dataset) },
            loss: self.loss.or(lower.loss),
            targets: self.targets.or(lower.targets),
            reduction: self.reduction.or(lower.reduction),
            batch_size: self.batch_size.or(lower.batch_size),
            drop_last: self.drop_last.or(lower.drop_last),
            epochs: self.epochs.or(lower.epochs),
            l2: self.l2.or(lower.l2),
            augment: self.augment.or(lower.augment),
            valid_size: self.valid_size.or(lower.valid_size),
            train_size: self.train_size.or(lower.train_size),
            weights: self.weights.or(lower.weights),
        }
    }

    /// Overrides what `problem` says.
    pub fn apply(&self, problem: &mut ProblemDefinition) {
        fn set<T: Clone>(target: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                target.clone_from(value);
            }
        }
        set(&mut problem.dataset, &self.source());
        problem.loss = self.loss.or(problem.loss);
        set(&mut problem.targets, &self.targets);
        set(&mut problem.reduction, &self.reduction);
        set(&mut problem.batch_size, &self.batch_size);
        set(&mut problem.drop_last, &self.drop_last);
        if let Some(length) = self.epochs {
            (problem.epochs, problem.limit) = length.parts();
        }
        set(&mut problem.l2, &self.l2);
        set(&mut problem.augment, &self.augment);
        problem.valid_size = self.valid_size.or(problem.valid_size);
        problem.train_size = self.train_size.or(problem.train_size);
        if self.weights.is_some() {
            problem.weights.clone_from(&self.weights);
        }
    }
}

/// Reads a `--set KEY=VALUE` of a command that is about one problem and trains nothing.
///
/// # Errors
/// [`crate::Error::Config`] for anything else than one of [`problem_keys`] with a value that it takes.
pub fn parse_set(argument: &str) -> Result<ProblemKeys> {
    set::read(argument, |table| ProblemKeys::read(&table.only(problem_keys())?))
}

/// A path of a text, which may be relative to the text's folder.
fn absolute(item: &Item, path: &Path) -> Result<PathBuf> {
    std::path::absolute(item.source().folder.join(path)).map_err(|_| item.expected("the path of a file"))
}
