//! `backpack-run extract`: the quantities of a batch or of a part of a data set, to a safetensors file.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use tch::{Device, Kind, Tensor};

use super::extract_parts::{Source, identity, in_parts, remove_partial};
use super::flags::{Launcher, memory_size, open_device};
use super::{print, weights};
use crate::backpack::Network;
use crate::backpack::extraction::{Batch, Parts, Settings, Sums};
use crate::backpack::layers::Mode;
use crate::backpack::quantities::Scale;
use crate::backpack::{memory, tensor_file};
use crate::error::{Error, Result};
use crate::problems::builder::{build_loss, build_network, fit_data};
use crate::problems::data::{self, Chosen, DataFolders, DataSource, Selection, SelectionOptions, describe};
use crate::problems::definition::{self, ProblemDefinition, parse_set};
use crate::runtime::{DeviceChoice, set_threads};
use crate::study::launch::slurm;

/// The type of every float in and out.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// Single precision.
    #[default]
    F32,
    /// Double precision.
    F64,
}

/// How first-order statistics are normalised.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleChoice {
    /// As in BackPACK: a mean loss puts 1/N into individual gradients.
    #[default]
    Backpack,
    /// As in Table 1 of the paper: for a mean loss the second moment times N, the variance times N^2.
    Paper,
}

/// Extracts the quantities of one batch, or of a data set: B, W and V are safetensors files, as is Q, which is written.
///
/// B holds x [N, ...] (floats, used as they are) and y ([N] int64 classes, or floats [N, D] for mse and
/// bce_with_logits), and may hold mc_labels ([M, N] classes, or [M, N, D] floats) for the sampled quantities. W holds
/// the parameters by name, as PyTorch's state_dict of an nn.Sequential of the same layers. Q holds loss, output and
/// QUANTITY.LAYER.PARAMETER, for example grad.0.weight and kfac.0.weight.A. With B no data set is opened.
///
/// With --split the samples are the problem's own, and with --batch-size they are worked through in parts: the result is that
/// of all of them in one batch. An interrupted extraction leaves Q.partial, with which the same command goes on.
#[derive(Args, Clone, Debug)]
#[expect(rustdoc::broken_intra_doc_links, reason = "the shapes are for `extract --help`, which shows no markup")]
pub struct ExtractArgs {
    /// The problem: a built-in name (see `list problems`) or the path of a problem file
    #[arg(long, value_name = "P")]
    pub problem: String,
    /// Overrides a key of the problem file, for example loss=mse; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The batch
    #[arg(long, value_name = "B", required_unless_present = "split", conflicts_with = "split")]
    pub batch: Option<PathBuf>,
    /// Samples of the problem's data in place of a batch: the split of --seed in the file's order, normalised, not augmented
    #[arg(long, value_enum)]
    pub split: Option<SplitChoice>,
    /// The first so many of the split [default: all]
    #[arg(long, value_name = "K", requires = "split", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub samples: Option<u64>,
    /// So many samples at a time [default: all at once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1 << 40))]
    pub batch_size: Option<i64>,
    /// The I-th of N slices of the samples alone, I from 0; `merge` makes the whole of them
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<Shard>,
    /// What works through the samples: this process, or a SLURM job array over --shards slices, which are then merged
    #[arg(long, value_enum, default_value_t, requires_if("slurm", "shards"), conflicts_with = "shard")]
    pub launcher: Launcher,
    /// Slices, one for each task of the array
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub shards: Option<u16>,
    /// Options of sbatch, for example partition=gpu,time=02:00:00, and array_limit=N, the most tasks at a time
    #[arg(long, value_name = "KEY=VALUE,..", value_parser = slurm::Options::parse, requires = "shards")]
    pub slurm: Option<slurm::Options>,
    /// Data sets [default: $BACKPACK_RUN_DATA, else the usual places]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The parameters; without it they are the problem's initial ones
    #[arg(long, value_name = "W")]
    pub weights: Option<PathBuf>,
    /// Match weights of other names by their shapes, in order, and show which is taken for which
    #[arg(long, requires = "weights")]
    pub match_by_shape: bool,
    /// Quantities, comma-separated (see `list quantities`), or all: the gradient and the ten of Table 1, as far as
    /// layers and memory allow
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "all")]
    pub quantities: Vec<String>,
    /// The file to write
    #[arg(long, value_name = "Q")]
    pub out: PathBuf,
    /// The type of every float
    #[arg(long, value_enum, default_value_t)]
    pub dtype: Dtype,
    /// Labels drawn for each sample, where the batch holds none
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    pub mc_samples: i64,
    /// The seed of drawn labels
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub mc_seed: u64,
    /// How first-order statistics are normalised
    #[arg(long, value_enum, default_value_t)]
    pub scale: ScaleChoice,
    /// Runs the network in training mode: dropout is on
    #[arg(long)]
    pub train: bool,
    /// A vector shaped like the parameters, by their names; Q then holds its products with the GGN, the Hessian and the
    /// sampled Fisher
    #[arg(long, value_name = "V")]
    pub products: Option<PathBuf>,
    /// How much memory the pass may take, in B, KiB, MiB or GiB [default: three quarters of what is free]
    #[arg(long, value_name = "SIZE", value_parser = memory_size)]
    pub memory_budget: Option<ByteSize>,
    /// The seed of initial parameters and dropout masks
    #[arg(long, value_name = "SEED", default_value_t = 42)]
    pub seed: u64,
    /// Where tensors live: cpu, cuda or cuda:INDEX [env: BACKPACK_RUN_DEVICE] [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Threads to compute with [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// A part of a data set.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitChoice {
    /// What a run is trained on.
    Train,
    /// What it is validated with.
    Valid,
    /// The test file.
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

/// A contiguous slice of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: i64,
    count: i64,
}

impl Shard {
    /// Its samples, of so many.
    ///
    /// # Errors
    /// [`Error::Usage`] where there are more slices than samples.
    fn of(self, samples: i64) -> Result<Range<i64>> {
        if self.count > samples {
            return Err(Error::Usage(format!(
                "{} shards of {samples} samples: some would be empty; take at most {samples}",
                self.count
            )));
        }
        let place = |index: i64| (i128::from(samples) * i128::from(index) / i128::from(self.count)) as i64;
        Ok(place(self.index)..place(self.index + 1))
    }
}

fn shard(text: &str) -> std::result::Result<Shard, String> {
    let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
    match numbers {
        Some((index, count)) if (0..count).contains(&index) && count <= 10_000 => Ok(Shard { index, count }),
        _ => Err("expected I/N with I from 0 to N - 1 and N at most 10000, for example 0/16".to_owned()),
    }
}

/// Reads the files, extracts, and writes Q.
///
/// # Errors
/// [`Error::Usage`], [`Error::Config`], [`Error::Shape`] and [`Error::Unsupported`] for what does not fit together or
/// cannot be had, before the pass; [`Error::Data`] and [`Error::Io`] for files that cannot be read or written;
/// [`Error::Interrupted`] after a signal, with what was done kept.
pub fn run(args: ExtractArgs) -> Result<()> {
    if let Some(threads) = args.threads {
        set_threads(threads.into());
    }
    for (flag, input) in
        [("--batch", args.batch.as_ref()), ("--weights", args.weights.as_ref()), ("--products", args.products.as_ref())]
    {
        let same =
            |input: &PathBuf| matches!((input.canonicalize(), args.out.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if input.is_some_and(same) {
            return Err(Error::Usage(format!(
                "--out {}: this is the file of {flag}, which would be lost; name another one",
                args.out.display()
            )));
        }
    }
    tensor_file::check_writable(&args.out)?;
    if args.launcher == Launcher::Slurm {
        return super::extract_array::run(&args);
    }
    let device = open_device(args.device)?;
    let kind = match args.dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
    };
    let definition = resolved(&args)?;
    let loss = build_loss(&definition)?;
    let given = args.batch.as_deref().map(|path| given_batch(path, kind, device)).transpose()?;
    let folders = DataFolders::from_choice(args.data_dir.as_deref());
    let (shape, hint) = match &given {
        Some(batch) => {
            let shape = batch.x.size().split_off(1);
            let hint = other_shape(&definition, &shape);
            (shape, hint)
        }
        None => (describe(&definition.dataset, &folders)?.shape, None),
    };
    let with_hint = |error| with_hint(hint.as_deref(), error);
    // The weights follow once the network has its type, so that they keep their digits.
    let drawn = ProblemDefinition { weights: None, ..definition.clone() };
    let mut network = build_network(&drawn, &shape, args.seed).map_err(with_hint)?;
    if let Some(hint) = &hint {
        tracing::warn!("{hint}; the network was built for the shape of `x`");
    }
    network.to(kind, device);
    network.log_choices();
    if let Some(path) = &definition.weights {
        let offer = |error| if args.match_by_shape { error } else { weights::offer(error) };
        let tensors = weights::named(&network, weights::read(path)?, args.match_by_shape);
        let loaded = tensors.and_then(|tensors| network.load(tensors));
        loaded.map_err(|error| with_hint(of(path, offer(error))))?;
    }
    let mut samples = match given {
        Some(batch) => Source::Given(batch),
        None => Source::Chosen(chosen(&args, &definition, &network, &folders, kind)?, kind, device),
    };
    let vector = args.products.as_ref().map(|path| vector(&network, path)).transpose()?;
    let (table_1, explicit): (Vec<_>, Vec<_>) =
        args.quantities.iter().map(|name| name.trim().to_owned()).partition(|name| name == "all");
    let settings = Settings {
        explicit,
        table_1: !table_1.is_empty(),
        scale: match args.scale {
            ScaleChoice::Backpack => Scale::Backpack,
            ScaleChoice::Paper => Scale::Paper,
        },
        mode: if args.train { Mode::Training { seed: args.seed, step: 0 } } else { Mode::Evaluation },
        mc_samples: args.mc_samples,
        mc_seed: args.mc_seed,
        memory_budget: args.memory_budget.map_or_else(memory::default_budget, |budget| Ok(budget.as_u64()))?,
    };
    let total = samples.len();
    let range = args.shard.map_or(Ok(0..total), |shard| shard.of(total))?;
    let parts = Parts {
        samples: total,
        size: args.batch_size.unwrap_or(range.end - range.start),
        range,
        identity: identity(&args, &definition)?,
    };
    let sums = in_parts((&network, loss.as_ref()), &parts, &mut samples, vector.as_deref(), &settings, &args.out)
        .map_err(|error| match &args.batch {
            Some(path) => of(path, error),
            None => error,
        })?;
    if args.shard.is_some() {
        sums.save(&args.out)?;
        remove_partial(&args.out);
        let Range { start, end } = sums.range();
        return print(&format!("{}: the samples {start} to {} of {total}\n", args.out.display(), end - 1));
    }
    write(&args.out, sums)?;
    remove_partial(&args.out);
    Ok(())
}

/// The problem, with what the arguments override.
pub(super) fn resolved(args: &ExtractArgs) -> Result<ProblemDefinition> {
    let mut definition = definition::load(&args.problem)?;
    for argument in &args.set {
        parse_set(argument)?.apply(&mut definition);
    }
    if args.weights.is_some() {
        definition.weights.clone_from(&args.weights);
    }
    Ok(definition)
}

/// Finishes quantities, writes them, and says so.
pub(super) fn write(out: &Path, sums: Sums) -> Result<()> {
    let extraction = sums.finish()?;
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, reason) in &extraction.skipped {
        match by_reason.iter_mut().find(|(known, _)| known == reason) {
            Some((_, names)) => names.push(name),
            None => by_reason.push((reason, vec![name])),
        }
    }
    for (reason, names) in by_reason {
        tracing::warn!("left out: {}: {reason}", names.join(", "));
    }
    let tensors = extraction.named();
    tensor_file::write(out, &tensors, &extraction.metadata)?;
    print(&format!("{}: {} tensors\n", out.display(), tensors.len()))
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

/// The samples of the problem's data.
fn chosen(
    args: &ExtractArgs,
    definition: &ProblemDefinition,
    network: &Network,
    folders: &DataFolders,
    kind: Kind,
) -> Result<Selection> {
    let part = args.split.ok_or_else(|| Error::Usage("give --batch B or --split train, valid or test".to_owned()))?;
    let data = data::load(&definition.dataset, folders)?;
    let options = SelectionOptions {
        part: part.into(),
        samples: args.samples.map(|count| count as usize),
        seed: args.seed,
        valid_size: definition.valid_size.unwrap_or(data.default_valid_size),
        train_size: definition.train_size,
        fit: fit_data(definition, network, &data.info())?,
        kind,
    };
    Selection::new(data, options)
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

/// The tensors of a file in the order of the network's parameters.
fn vector(network: &Network, path: &Path) -> Result<Vec<Tensor>> {
    let mut tensors = tensor_file::read(path)?.floats()?;
    let mut problems = Vec::new();
    let mut parts = Vec::new();
    for parameter in network.parameters() {
        let (name, shape) = (&parameter.name, parameter.value.size());
        match tensors.remove(name) {
            None => problems.push(format!("`{name}` of shape {shape:?} is missing")),
            Some(part) if part.size() != shape => {
                problems.push(format!("`{name}` has the shape {:?}, the parameter's is {shape:?}", part.size()));
            }
            Some(part) => parts.push(part.to_kind(parameter.value.kind()).to_device(parameter.value.device())),
        }
    }
    problems.extend(tensors.keys().map(|name| format!("`{name}` is not a parameter of the network")));
    if problems.is_empty() {
        Ok(parts)
    } else {
        Err(Error::Shape(format!("{}: {}", path.display(), problems.join("; "))))
    }
}
