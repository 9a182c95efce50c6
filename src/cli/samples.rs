//! A problem's network at samples of a file or of its own data: the flags that say which, and what they open; and the
//! weights that a flag names.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::flags::{memory_size, open_device};
use super::terminal;
use crate::backpack::extraction::Batch;
use crate::backpack::losses::Loss;
use crate::backpack::match_by_shape::{match_by_shape, natural_order};
use crate::backpack::{Network, memory, tensor_file};
use crate::error::{Error, Result};
use crate::problems::builder::{build_loss, build_network, fit_data};
use crate::problems::data::{self, Chosen, DataFolders, DataSource, Selection, SelectionOptions, describe, digest_of};
use crate::problems::definition::{self, ProblemDefinition, parse_set};
use crate::runtime::{DeviceChoice, set_threads};
use crate::{files, import};

/// Which network at which samples, and how it is computed.
#[derive(Args, Clone, Debug)]
pub struct SampleArgs {
    /// The problem: a built-in name (see `list problems`) or the path of a problem file
    #[arg(long, value_name = "P")]
    pub problem: String,
    /// Override a key of the problem file, for example loss=mse; repeatable
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Computing")]
    pub set: Vec<String>,
    /// The file with the batch; this or --split is needed
    #[arg(long, value_name = "B", conflicts_with = "split")]
    pub batch: Option<PathBuf>,
    /// Samples of the problem's data instead of a batch: the split of --seed in the file's order, normalised, not augmented
    #[arg(long, value_enum)]
    pub split: Option<SplitChoice>,
    /// Only the first K samples of the split
    #[arg(long, value_name = "K", requires = "split", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub samples: Option<u64>,
    /// Samples to process at a time [default: all at once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1 << 40), help_heading = "Computing")]
    pub batch_size: Option<i64>,
    /// Data sets [default: $BACKPACK_RUN_DATA, else the usual places]
    #[arg(long, value_name = "DIR", help_heading = "Computing")]
    pub data_dir: Option<PathBuf>,
    /// The file with the parameters [default: the problem's initial values]
    #[arg(long, value_name = "W")]
    pub weights: Option<PathBuf>,
    /// Match weights with other names by shape, in order, and show the matches
    #[arg(long, requires = "weights")]
    pub match_by_shape: bool,
    /// The type of all floats
    #[arg(long, value_enum, default_value_t, help_heading = "Computing")]
    pub dtype: Dtype,
    /// Memory that may be taken, in B, KiB, MiB or GiB [default: three quarters of what is free]
    #[arg(long, value_name = "SIZE", value_parser = memory_size, help_heading = "Computing")]
    pub memory_budget: Option<ByteSize>,
    /// The seed of initial parameters, of the split, and of dropout masks or random vectors
    #[arg(long, value_name = "SEED", default_value_t = 42, help_heading = "Computing")]
    pub seed: u64,
    /// Where tensors live: cpu, cuda or cuda:INDEX [env: BACKPACK_RUN_DEVICE] [default: cpu]
    #[arg(long, value_name = "DEVICE", help_heading = "Computing")]
    pub device: Option<DeviceChoice>,
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Computing")]
    pub threads: Option<u16>,
}

/// The type of every float in and out.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// Single precision.
    #[default]
    F32,
    /// Double precision.
    F64,
}

/// A part of a data set.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitChoice {
    /// The training samples left after the validation split.
    Train,
    /// The validation samples.
    Valid,
    /// The test samples.
    Test,
}

impl From<SplitChoice> for Chosen {
    fn from(choice: SplitChoice) -> Self {
        match choice {
            SplitChoice::Train => Chosen::Train,
            SplitChoice::Valid => Chosen::Valid,
            SplitChoice::Test => Chosen::Test,
        }
    }
}

/// Where samples come from.
pub(super) enum Source {
    /// A batch of a file.
    Given(Batch),
    /// A data set, from which they are taken in floats of this type, to this device.
    Chosen(Selection, Kind, Device),
}

impl Source {
    /// How many samples.
    pub fn len(&self) -> i64 {
        match self {
            Source::Given(batch) => batch.x.size()[0],
            Source::Chosen(selection, ..) => selection.len() as i64,
        }
    }

    /// Those of a range.
    ///
    /// # Errors
    /// Where the data cannot be read.
    pub fn part(&self, range: Range<i64>) -> Result<Batch> {
        match self {
            Source::Given(batch) => Ok(batch.part(range)),
            Source::Chosen(selection, kind, device) => {
                let data::Batch { x, y } = selection.batch(range)?;
                let mut batch = Batch { x, y, mc_labels: None };
                batch.to(*kind, *device);
                Ok(batch)
            }
        }
    }
}

/// What the flags open.
pub(super) struct Opened {
    pub network: Network,
    pub loss: Box<dyn Loss>,
    pub samples: Source,
}

impl SampleArgs {
    /// The problem, with what the flags override.
    ///
    /// # Errors
    /// [`Error::Config`] for a problem or an override that cannot be understood; [`Error::Usage`] without samples.
    pub fn resolved(&self) -> Result<ProblemDefinition> {
        let mut definition = definition::load(&self.problem)?;
        for argument in &self.set {
            parse_set(argument)?.apply(&mut definition);
        }
        if self.weights.is_some() {
            definition.weights.clone_from(&self.weights);
        }
        if self.batch.is_none() && self.split.is_none() {
            return Err(Error::Usage(no_samples(&definition)));
        }
        Ok(definition)
    }

    /// Sets the threads, builds the network with its parameters, and opens the samples.
    ///
    /// # Errors
    /// [`Error::Usage`], [`Error::Config`] and [`Error::Shape`] for what does not fit together; [`Error::Data`] and
    /// [`Error::Io`] for files that cannot be read; where the device is not there.
    pub(super) fn open(&self, definition: &ProblemDefinition) -> Result<Opened> {
        if let Some(threads) = self.threads {
            set_threads(threads.into());
        }
        let device = open_device(self.device)?;
        let kind = match self.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
        };
        let loss = build_loss(definition)?;
        let given = self.batch.as_deref().map(|path| given_batch(path, kind, device)).transpose()?;
        let folders = DataFolders::from_choice(self.data_dir.as_deref());
        let (shape, hint) = match &given {
            Some(batch) => {
                let shape = batch.x.size().split_off(1);
                let hint = other_shape(definition, &shape);
                (shape, hint)
            }
            None => (describe(&definition.dataset, &folders)?.shape, None),
        };
        let with_hint = |error| with_hint(hint.as_deref(), error);
        // The weights follow once the network has its type, so that they keep their digits.
        let drawn = ProblemDefinition { weights: None, ..definition.clone() };
        let mut network = build_network(&drawn, &shape, self.seed).map_err(with_hint)?;
        if let Some(hint) = &hint {
            tracing::warn!("{hint}; the network is built for the shape of `x`");
        }
        network.to(kind, device);
        network.log_choices();
        if let Some(path) = &definition.weights {
            let offer = |error| if self.match_by_shape { error } else { offer_by_shape(error) };
            let tensors = named_weights(&network, read_weights(path)?, self.match_by_shape);
            let loaded = tensors.and_then(|tensors| network.load(tensors));
            loaded.map_err(|error| with_hint(of(path, offer(error))))?;
        }
        let samples = match given {
            Some(batch) => Source::Given(batch),
            None => Source::Chosen(self.chosen(definition, &network, &folders, kind)?, kind, device),
        };
        Ok(Opened { network, loss, samples })
    }

    /// The samples of the problem's data.
    fn chosen(
        &self,
        definition: &ProblemDefinition,
        network: &Network,
        folders: &DataFolders,
        kind: Kind,
    ) -> Result<Selection> {
        let part = self.split.ok_or_else(|| Error::Usage(no_samples(definition)))?;
        let data = data::load(&definition.dataset, folders)?;
        let options = SelectionOptions {
            part: part.into(),
            samples: self.samples.map(|count| count as usize),
            seed: self.seed,
            valid_size: definition.valid_size.unwrap_or(data.default_valid_size),
            train_size: definition.train_size,
            fit: fit_data(definition, network, &data.info())?,
            kind,
        };
        Selection::new(data, options)
    }

    /// How much memory may be taken, in bytes.
    ///
    /// # Errors
    /// Where the system does not say how much is free.
    pub fn memory_budget(&self) -> Result<u64> {
        self.memory_budget.map_or_else(memory::default_budget, |budget| Ok(budget.as_u64()))
    }

    /// Puts the batch's file before an error about its tensors.
    pub(super) fn locate(&self, error: Error) -> Error {
        match &self.batch {
            Some(path) => of(path, error),
            None => error,
        }
    }

    /// What tells problem, parameters and samples apart from others, and their type.
    ///
    /// # Errors
    /// Where a file that takes part cannot be read.
    pub(super) fn identity(&self, definition: &ProblemDefinition) -> Result<Value> {
        let parameters = match &definition.weights {
            Some(path) => json!(digest_of(path)?),
            None => json!(self.seed),
        };
        Ok(json!({
            "layers": definition.layers,
            "loss": definition.loss,
            "reduction": definition.reduction,
            "targets": definition.targets,
            "data": self.data_identity(definition)?,
            "parameters": parameters,
            "dtype": format!("{:?}", self.dtype),
        }))
    }

    fn data_identity(&self, definition: &ProblemDefinition) -> Result<Value> {
        let Some(split) = self.split else {
            return Ok(json!({ "batch": self.batch.as_deref().map(digest_of).transpose()? }));
        };
        let folders = DataFolders::from_choice(self.data_dir.as_deref());
        Ok(json!({
            "data": data::identify(&definition.dataset, &folders)?.fingerprint,
            "split": format!("{split:?}"),
            "samples": self.samples,
            "valid_size": definition.valid_size,
            "train_size": definition.train_size,
            "seed": self.seed,
        }))
    }
}

/// What to do where no flag says which samples.
fn no_samples(definition: &ProblemDefinition) -> String {
    let file = "--batch FILE, a safetensors file with the tensors `x` and `y`";
    let name = &definition.name;
    match definition.dataset {
        DataSource::Absent(_) => format!("which samples? {name} has no data of its own; give {file}"),
        _ => format!(
            "which samples? Give --split train --samples 1000, which takes the first 1000 training samples of {name}'s own data (or \
             valid, or test; all of them without --samples), or {file}"
        ),
    }
}

/// A batch from its file.
fn given_batch(path: &Path, kind: Kind, device: Device) -> Result<Batch> {
    let mut batch = Batch::from_tensors(tensor_file::read(path)?.tensors).map_err(|error| of(path, error))?;
    for (name, index) in batch.not_finite()? {
        let path = path.display();
        tracing::warn!("{path}: the tensor `{name}` holds NaN or infinity, first at {index:?}; the results may too");
    }
    batch.to(kind, device);
    Ok(batch)
}

/// Puts the file's name before an error about its tensors.
fn of(path: &Path, error: Error) -> Error {
    match error {
        Error::Shape(_) | Error::Weights { .. } => Error::Shape(format!("{}: {error}", path.display())),
        other => other,
    }
}

/// Says that the samples of the problem's data set have another shape than those of `x`, where they do.
fn other_shape(definition: &ProblemDefinition, shape: &[i64]) -> Option<String> {
    let known = match &definition.dataset {
        DataSource::SafeTensors { .. } | DataSource::Text { .. } => None,
        source => describe(source, &DataFolders(Vec::new())).ok(),
    };
    let known = known.filter(|known| known.shape != shape)?;
    Some(format!(
        "`x` has samples of shape {shape:?}; those of {}, the data set of {}, have {:?}",
        known.name, definition.name, known.shape
    ))
}

/// Adds what [`other_shape`] says, the likely reason for a misfit.
fn with_hint(hint: Option<&str>, error: Error) -> Error {
    let Some(hint) = hint else { return error };
    match error {
        Error::Shape(text) => Error::Shape(format!("{text}. {hint}")),
        Error::Config(text) => Error::Config(format!("{}\n{hint}", text.trim_end())),
        other => other,
    }
}

// The weights that a flag names, by the names that the network has for them.

/// The tensors of a safetensors file or of an archive of torch.export, in the order in which they count.
///
/// # Errors
/// As [`tensor_file::read`] and [`import::state`]; [`Error::Shape`] for parameters that are no floats.
pub fn read_weights(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let (names, mut tensors) = match path.extension().is_some_and(|ending| ending == "pt2") {
        true => {
            let file = files::open(path).map_err(|error| Error::unreadable(path, error))?;
            import::state(std::io::BufReader::new(file), path)?
        }
        false => {
            let tensors = tensor_file::read(path)?.tensors;
            let mut names: Vec<String> = tensors.keys().cloned().collect();
            names.sort_by(|one, other| natural_order(one, other));
            (names, tensors)
        }
    };
    let odd =
        |(name, tensor): &(&String, &Tensor)| !tensor.is_floating_point() && !name.ends_with("num_batches_tracked");
    if let Some((name, tensor)) = tensors.iter().find(odd) {
        let found = format!("{}: the tensor `{name}` is {:?}", path.display(), tensor.kind());
        return Err(Error::Shape(format!("{found}; expected floats")));
    }
    Ok(names.into_iter().filter_map(|name| tensors.remove(&name).map(|tensor| (name, tensor))).collect())
}

/// The tensors by the network's names: as they are, or with `by_shape` matched by shape, which is shown.
///
/// # Errors
/// [`Error::Shape`] where shapes do not match one to one.
pub fn named_weights(
    network: &Network,
    tensors: Vec<(String, Tensor)>,
    by_shape: bool,
) -> Result<BTreeMap<String, Tensor>> {
    if !by_shape {
        return Ok(tensors.into_iter().collect());
    }
    let matched = match_by_shape(network, tensors)?;
    for (theirs, ours) in &matched.renamed {
        terminal::log_line(&format!("{theirs} is used as {ours}"));
    }
    Ok(matched.tensors)
}

/// Adds to an error about names that they can be matched by shape.
pub fn offer_by_shape(error: Error) -> Error {
    match error {
        Error::Shape(_) | Error::Weights { .. } => {
            Error::Shape(format!("{error}. --match-by-shape matches tensors with other names by shape"))
        }
        other => other,
    }
}
