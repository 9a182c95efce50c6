//! `backpack-run extract`: the quantities of one batch, from safetensors files to a safetensors file.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use tch::{Kind, Tensor};

use super::flags::{memory_size, open_device};
use super::print;
use crate::backpack::Network;
use crate::backpack::extraction::{Batch, Settings, extract};
use crate::backpack::layers::Mode;
use crate::backpack::quantities::Scale;
use crate::backpack::{memory, tensor_file};
use crate::error::{Error, Result};
use crate::problems::builder::{build_loss, build_network};
use crate::problems::data::{DataFolders, DataSource, describe};
use crate::problems::definition::{self, ProblemDefinition, parse_set};
use crate::runtime::{DeviceChoice, set_threads};

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

/// Extracts the quantities of one batch: B, W and V are safetensors files, as is Q, which is written.
///
/// B holds x [N, ...] (floats, used as they are) and y ([N] int64 classes, or floats [N, D] for mse and
/// bce_with_logits), and may hold mc_labels ([M, N] classes, or [M, N, D] floats) for the sampled quantities. W holds
/// the parameters by name, as PyTorch's state_dict of an nn.Sequential of the same layers. Q holds loss, output and
/// QUANTITY.LAYER.PARAMETER, for example grad.0.weight and kfac.0.weight.A. No data set is opened.
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
    #[arg(long, value_name = "B")]
    pub batch: PathBuf,
    /// The parameters; without it they are the problem's initial ones
    #[arg(long, value_name = "W")]
    pub weights: Option<PathBuf>,
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

/// Reads the files, extracts, and writes Q.
///
/// # Errors
/// [`Error::Usage`], [`Error::Config`], [`Error::Shape`] and [`Error::Unsupported`] for what does not fit together or
/// cannot be had, before the pass; [`Error::Data`] and [`Error::Io`] for files that cannot be read or written.
pub fn run(args: ExtractArgs) -> Result<()> {
    if let Some(threads) = args.threads {
        set_threads(threads.into());
    }
    let device = open_device(args.device)?;
    let kind = match args.dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
    };
    for (flag, input) in
        [("--batch", Some(&args.batch)), ("--weights", args.weights.as_ref()), ("--products", args.products.as_ref())]
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
    let mut definition = definition::load(&args.problem)?;
    for argument in &args.set {
        parse_set(argument)?.apply(&mut definition);
    }
    let loss = build_loss(&definition)?;
    if args.weights.is_some() {
        definition.weights = None;
    }
    let mut batch =
        Batch::from_tensors(tensor_file::read(&args.batch)?.tensors).map_err(|error| of(&args.batch, error))?;
    for (name, index) in batch.not_finite()? {
        let path = args.batch.display();
        tracing::warn!("{path}: the tensor `{name}` holds NaN or infinity, first at {index:?}; the results may too");
    }
    batch.to(kind, device);
    let shape = batch.x.size()[1..].to_vec();
    let hint = other_shape(&definition, &shape);
    let with_hint = |error| with_hint(hint.as_deref(), error);
    let mut network = build_network(&definition, &shape, args.seed).map_err(with_hint)?;
    if let Some(hint) = &hint {
        tracing::warn!("{hint}; the network was built for the shape of `x`");
    }
    network.to(kind, device);
    network.log_choices();
    if let Some(path) = &args.weights {
        let tensors = tensor_file::read(path)?.floats()?;
        network.load(tensors).map_err(|error| with_hint(of(path, error)))?;
    }
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
    let extraction = extract(&network, loss.as_ref(), &batch, vector.as_deref(), &settings)
        .map_err(|error| of(&args.batch, error))?;
    for same in extraction.skipped.chunk_by(|(_, one), (_, other)| one == other) {
        let names: Vec<&str> = same.iter().map(|(name, _)| name.as_str()).collect();
        tracing::warn!("left out: {}: {}", names.join(", "), same[0].1);
    }
    tensor_file::write(&args.out, &extraction.tensors, &extraction.metadata)?;
    print(&format!("{}: {} tensors\n", args.out.display(), extraction.tensors.len()))
}

/// Puts the file's name before an error about its tensors.
fn of(path: &Path, error: Error) -> Error {
    match error {
        Error::Shape(text) => Error::Shape(format!("{}: {text}", path.display())),
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
