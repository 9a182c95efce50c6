//! The keys that a problem file, an experiment file and `--set` share: data, loss, and how a problem is trained.

use crate::config::item::MAX_SIZE;
use crate::config::{Item, Table};
use crate::error::Result;
use crate::problems::data::{BUILT_IN_NAMES, DataSource, SyntheticOptions};

use super::ProblemDefinition;
use super::loss::{LossKind, REDUCTIONS};
use crate::backpack::losses::Reduction;

/// The keys of [`ProblemKeys`].
pub const PROBLEM_KEYS: [&str; 9] =
    ["dataset", "loss", "reduction", "batch_size", "epochs", "l2", "augment", "valid_size", "train_size"];

/// What a text says of a problem apart from its name and layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProblemKeys {
    /// The data set.
    pub dataset: Option<DataSource>,
    /// The loss.
    pub loss: Option<LossKind>,
    /// How the samples' losses make up that of a batch.
    pub reduction: Option<Reduction>,
    /// Samples in a mini-batch.
    pub batch_size: Option<usize>,
    /// Passes over the training samples.
    pub epochs: Option<usize>,
    /// The factor of half the sum of squared weights.
    pub l2: Option<f64>,
    /// Whether training samples are augmented.
    pub augment: Option<bool>,
    /// Samples split off for validation.
    pub valid_size: Option<usize>,
    /// Training samples used, of those left after the split.
    pub train_size: Option<usize>,
}

impl ProblemKeys {
    /// Reads those that are there.
    ///
    /// # Errors
    /// For a value of the wrong type or out of its range.
    pub fn read(table: &Table) -> Result<Self> {
        let count = |key: &str, least| table.get(key).map(|item| item.count(least)).transpose();
        let l2 = |item: Item| item.number(|value| value >= 0.0 && value.is_finite(), "a number of at least 0");
        Ok(ProblemKeys {
            dataset: table.get("dataset").map(|item| dataset(&item)).transpose()?,
            loss: table.get("loss").map(|item| item.choice("loss", &LossKind::NAMES)).transpose()?,
            reduction: table.get("reduction").map(|item| item.choice("reduction", &REDUCTIONS)).transpose()?,
            batch_size: count("batch_size", 1)?,
            epochs: count("epochs", 0)?,
            l2: table.get("l2").map(l2).transpose()?,
            augment: table.get("augment").map(|item| item.boolean()).transpose()?,
            valid_size: count("valid_size", 1)?,
            train_size: count("train_size", 1)?,
        })
    }

    /// These, and what they do not say from `lower`.
    pub fn or(self, lower: ProblemKeys) -> Self {
        ProblemKeys {
            dataset: self.dataset.or(lower.dataset),
            loss: self.loss.or(lower.loss),
            reduction: self.reduction.or(lower.reduction),
            batch_size: self.batch_size.or(lower.batch_size),
            epochs: self.epochs.or(lower.epochs),
            l2: self.l2.or(lower.l2),
            augment: self.augment.or(lower.augment),
            valid_size: self.valid_size.or(lower.valid_size),
            train_size: self.train_size.or(lower.train_size),
        }
    }

    /// Overrides what `problem` says.
    pub fn apply(&self, problem: &mut ProblemDefinition) {
        fn set<T: Clone>(target: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                target.clone_from(value);
            }
        }
        set(&mut problem.dataset, &self.dataset);
        set(&mut problem.loss, &self.loss);
        set(&mut problem.reduction, &self.reduction);
        set(&mut problem.batch_size, &self.batch_size);
        set(&mut problem.epochs, &self.epochs);
        set(&mut problem.l2, &self.l2);
        set(&mut problem.augment, &self.augment);
        problem.valid_size = self.valid_size.or(problem.valid_size);
        problem.train_size = self.train_size.or(problem.train_size);
    }
}

/// A name, `{ safetensors = "file" }` with a path relative to the text's folder, or `{ synthetic = { .. } }`.
fn dataset(item: &Item) -> Result<DataSource> {
    let expected = "a name, { safetensors = \"file\" } or { synthetic = { shape = [..], classes = .., .. } }";
    if item.is_text() {
        let name = item.text()?;
        if BUILT_IN_NAMES.contains(&name) {
            return Ok(DataSource::Named(name.to_owned()));
        }
        return Err(match name {
            "synthetic" => item.expected(expected),
            _ if name.ends_with(".safetensors") => item.expected(&format!("{{ safetensors = \"{name}\" }}")),
            _ => item.unknown("data set", name, BUILT_IN_NAMES),
        });
    }
    let table = item.table("dataset", &["safetensors", "synthetic"])?;
    match (table.get("safetensors"), table.get("synthetic")) {
        (Some(file), None) => {
            // Absolute, so that a worker or a copy of the configuration elsewhere finds the same file.
            let path = std::path::absolute(item.source().folder.join(file.path()?));
            Ok(DataSource::SafeTensors { path: path.map_err(|_| file.expected("the path of a file"))? })
        }
        (None, Some(options)) => synthetic(&options).map(DataSource::Synthetic),
        _ => Err(item.expected(expected)),
    }
}

fn synthetic(item: &Item) -> Result<SyntheticOptions> {
    let table = item.table("a synthetic data set", &["shape", "classes", "train", "test", "seed"])?;
    let shape_item = table.require("shape")?;
    let shape: Vec<i64> = shape_item.items()?.iter().map(|entry| entry.integer(1..=MAX_SIZE)).collect::<Result<_>>()?;
    let elements = shape.iter().try_fold(1i64, |product, size| product.checked_mul(*size));
    if shape.is_empty() || elements.is_none_or(|elements| elements > MAX_SIZE) {
        return Err(shape_item.expected(&format!("1 or more sizes of a sample with at most {MAX_SIZE} values")));
    }
    Ok(SyntheticOptions {
        shape,
        classes: table.require("classes")?.count(1)?,
        train: table.require("train")?.count(1)?,
        test: table.require("test")?.count(1)?,
        seed: table.get("seed").map_or(Ok(0), |seed| seed.seed())?,
    })
}
