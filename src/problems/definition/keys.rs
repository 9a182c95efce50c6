//! The keys that a problem file, an experiment file and `--set` share: data, loss, and how a problem is trained.

use std::path::PathBuf;

use crate::config::{Item, Source, Table, set};
use crate::error::Result;
use crate::numbers::MAX_SIZE;
use crate::problems::data::{DataSource, InputShape, SyntheticOptions, set_names};

use super::loss::{LossKind, REDUCTIONS, TargetsKind};
use super::{Length, ProblemDefinition};
use crate::backpack::losses::Reduction;

/// Characters of a text's sample, at most.
const MAX_CONTEXT: i64 = 1 << 20;

/// The keys of [`ProblemKeys`].
pub const PROBLEM_KEYS: [&str; 13] = [
    "dataset",
    "input",
    "loss",
    "targets",
    "reduction",
    "batch_size",
    "drop_last",
    "epochs",
    "l2",
    "augment",
    "valid_size",
    "train_size",
    "weights",
];

/// What a text says of a problem apart from its name and layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProblemKeys {
    /// The data set, or the shape of an input in its place.
    pub dataset: Option<DataSource>,
    /// The loss.
    pub loss: Option<LossKind>,
    /// What the outputs are compared with.
    pub targets: Option<TargetsKind>,
    /// How the samples' losses make up that of a batch.
    pub reduction: Option<Reduction>,
    /// Samples in a mini-batch.
    pub batch_size: Option<usize>,
    /// Whether the last, smaller batch is left out.
    pub drop_last: Option<bool>,
    /// How long a run trains.
    pub epochs: Option<Length>,
    /// The factor of half the sum of squared weights.
    pub l2: Option<f64>,
    /// Whether training samples are augmented.
    pub augment: Option<bool>,
    /// Samples split off for validation.
    pub valid_size: Option<usize>,
    /// Training samples used, of those left after the split.
    pub train_size: Option<usize>,
    /// The file that initial values come from.
    pub weights: Option<PathBuf>,
}

impl ProblemKeys {
    /// Reads those that are there.
    ///
    /// # Errors
    /// For a value of the wrong type or out of its range.
    pub fn read(table: &Table) -> Result<Self> {
        let count = |key: &str, least| table.get(key).map(|item| item.count(least)).transpose();
        let l2 = |item: Item| item.number(|value| value >= 0.0 && value.is_finite(), "a number of at least 0");
        let source = match (table.get("dataset"), table.get("input")) {
            (Some(data), Some(input)) => {
                let title = "`input` is for a problem without data, and here is a `dataset`";
                return Err(input.key_place().error(title, "leave it out").at(&data.place(), "the data").into());
            }
            (Some(item), None) => Some(dataset(&item)?),
            (None, input) => input.map(|item| input_shape(&item)).transpose()?.map(DataSource::Absent),
        };
        Ok(ProblemKeys {
            dataset: source,
            loss: table.get("loss").map(|item| item.choice("loss", &LossKind::NAMES)).transpose()?,
            targets: table.get("targets").map(|item| item.choice("targets", &TargetsKind::NAMES)).transpose()?,
            reduction: table.get("reduction").map(|item| item.choice("reduction", &REDUCTIONS)).transpose()?,
            batch_size: count("batch_size", 1)?,
            drop_last: table.get("drop_last").map(|item| item.boolean()).transpose()?,
            epochs: table.get("epochs").map(|item| Length::read(&item)).transpose()?,
            l2: table.get("l2").map(l2).transpose()?,
            augment: table.get("augment").map(|item| item.boolean()).transpose()?,
            valid_size: count("valid_size", 1)?,
            train_size: count("train_size", 1)?,
            weights: table.get("weights").map(|item| path(&item, &item)).transpose()?,
        })
    }

    /// These, and what they do not say from `lower`.
    pub fn or(self, lower: ProblemKeys) -> Self {
        ProblemKeys {
            dataset: self.dataset.or(lower.dataset),
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
        set(&mut problem.dataset, &self.dataset);
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
/// [`crate::Error::Config`] for anything else than one of [`PROBLEM_KEYS`] with a value that it takes.
pub fn parse_set(argument: &str) -> Result<ProblemKeys> {
    let source = Source::set_argument(argument);
    let root = set::parse_argument(&source)?;
    ProblemKeys::read(&Table::root(&source, &root, set::WHAT, &PROBLEM_KEYS)?)
}

/// A name, `{ safetensors = "file" }` or `{ text = "file", context = .. }` with a path relative to the text's folder, or
/// `{ synthetic = { .. } }`.
fn dataset(item: &Item) -> Result<DataSource> {
    let expected = "a name, { safetensors = \"file\" }, { text = \"file\", context = 64 } or { synthetic = { shape = [..], \
                    classes = .., .. } }";
    if item.is_text() {
        let name = item.text()?;
        if set_names().contains(&name) {
            return Ok(DataSource::Named(name.to_owned()));
        }
        return Err(match name {
            "synthetic" => item.expected(expected),
            _ if name.ends_with(".safetensors") => item.expected(&format!("{{ safetensors = \"{name}\" }}")),
            _ if name.ends_with(".txt") => item.expected(&format!("{{ text = \"{name}\", context = 64 }}")),
            _ => item.unknown("data set", name, set_names()),
        });
    }
    let table = item.table("dataset", &["safetensors", "text", "context", "synthetic"])?;
    match (table.get("safetensors"), table.get("text"), table.get("context"), table.get("synthetic")) {
        (Some(file), None, None, None) => Ok(DataSource::SafeTensors { path: path(item, &file)? }),
        (None, Some(file), Some(context), None) => {
            let context = context.integer(1..=MAX_CONTEXT)? as usize;
            Ok(DataSource::Text { path: path(item, &file)?, context })
        }
        (None, None, None, Some(options)) => synthetic(&options).map(DataSource::Synthetic),
        _ => Err(item.expected(expected)),
    }
}

/// The path of a file, absolute, so that a worker or a copy of the configuration elsewhere finds the same one.
fn path(item: &Item, file: &Item) -> Result<PathBuf> {
    std::path::absolute(item.source().folder.join(file.path()?)).map_err(|_| file.expected("the path of a file"))
}

fn input_shape(item: &Item) -> Result<InputShape> {
    let table = item.table("input", &["shape", "integers"])?;
    let integers = table.get("integers").map(|count| count.integer(1..=MAX_SIZE)).transpose()?;
    let shape = table.require("shape")?;
    // A sample may be a single token.
    let is_token = integers.is_some() && shape.items()?.is_empty();
    let shape = if is_token { Vec::new() } else { sample_shape(&shape)? };
    Ok(InputShape { shape, integers })
}

/// Sizes of a sample.
fn sample_shape(item: &Item) -> Result<Vec<i64>> {
    let shape: Vec<i64> = item.items()?.iter().map(|entry| entry.integer(1..=MAX_SIZE)).collect::<Result<_>>()?;
    let elements = shape.iter().try_fold(1i64, |product, size| product.checked_mul(*size));
    if shape.is_empty() || elements.is_none_or(|elements| elements > MAX_SIZE) {
        return Err(item.expected(&format!("1 or more sizes of a sample with at most {MAX_SIZE} values")));
    }
    Ok(shape)
}

fn synthetic(item: &Item) -> Result<SyntheticOptions> {
    let table = item.table("a synthetic data set", &["shape", "classes", "train", "test", "seed"])?;
    Ok(SyntheticOptions {
        shape: sample_shape(&table.require("shape")?)?,
        classes: table.require("classes")?.count(1)?,
        train: table.require("train")?.count(1)?,
        test: table.require("test")?.count(1)?,
        seed: table.get("seed").map_or(Ok(0), |seed| seed.seed())?,
    })
}
