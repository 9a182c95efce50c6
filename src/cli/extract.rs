//! `backpack-run extract`: the quantities of a batch or of a part of a data set, to a safetensors file.

use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use tch::Tensor;

use super::extract_parts::{identity, in_parts, remove_partial};
use super::flags::Launcher;
use super::samples::{Opened, SampleArgs};
use super::{print, quantity_names};
use crate::backpack::Network;
use crate::backpack::extraction::{Parts, Settings, Sums};
use crate::backpack::layers::Mode;
use crate::backpack::quantities::Scale;
use crate::backpack::tensor_file;
use crate::error::{Error, Result};
use crate::study::launch::slurm;

/// How first-order statistics are normalised.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleChoice {
    /// As in BackPACK: a mean loss puts its 1/N into the individual gradients.
    #[default]
    Backpack,
    /// As in the paper's Table 1: for a mean loss, the second moment times N and the variance times N^2.
    Paper,
}

/// Extract the quantities of a batch or a data set.
///
/// Example: backpack-run extract --problem net.toml --weights w.safetensors --batch b.safetensors --quantities variance,kfac
/// --out q.safetensors
///
/// The files B, W, V and Q are safetensors. B holds x [N, ...] (floats, used as they are) and y ([N] int64 classes, or floats
/// [N, D] for mse and bce_with_logits), and may hold mc_labels ([M, N] classes, or [M, N, D] floats) for the sampled
/// quantities. W holds the parameters by name, like PyTorch's state_dict of an nn.Sequential with the same layers. Q holds
/// loss, output and QUANTITY.LAYER.PARAMETER, for example grad.0.weight and kfac.0.weight.A.
///
/// With --split the samples are the problem's own data. With --batch-size they are processed in parts; the result is that of
/// one batch with all of them. An interrupted extraction leaves Q.partial, and the same command continues from it.
#[derive(Args, Clone, Debug)]
#[expect(rustdoc::broken_intra_doc_links, reason = "the shapes are for `extract --help`, which shows no markup")]
pub struct ExtractArgs {
    /// The network and its samples.
    #[command(flatten)]
    pub at: SampleArgs,
    /// Only the I-th of N slices of the samples, I from 0; `merge` puts the slices together
    #[arg(long, value_name = "I/N", value_parser = shard, help_heading = "In slices")]
    pub shard: Option<Shard>,
    /// What processes the samples: this process, or a SLURM job array over --shards slices, which are then merged
    #[arg(long, value_enum, default_value_t, requires_if("slurm", "shards"), conflicts_with = "shard")]
    #[arg(help_heading = "In slices")]
    pub launcher: Launcher,
    /// Slices, one per task of the array
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000), help_heading = "In slices")]
    pub shards: Option<u16>,
    /// Options for sbatch, for example partition=gpu,time=02:00:00; array_limit=N runs at most N tasks at a time
    #[arg(long, value_name = "KEY=VALUE,..", value_parser = slurm::Options::parse, requires = "shards")]
    #[arg(help_heading = "In slices")]
    pub slurm: Option<slurm::Options>,
    /// Quantities, comma-separated (see `list quantities`); `all` is the gradient and the ten of the paper's Table 1, as far as
    /// layers and memory allow
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "all")]
    pub quantities: Vec<String>,
    /// The file to write
    #[arg(long, value_name = "Q")]
    pub out: PathBuf,
    /// Labels drawn per sample, unless the batch holds mc_labels
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    pub mc_samples: i64,
    /// The seed of the drawn labels
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub mc_seed: u64,
    /// How first-order statistics are normalised
    #[arg(long, value_enum, default_value_t)]
    pub scale: ScaleChoice,
    /// Run the network in training mode, with dropout
    #[arg(long)]
    pub train: bool,
    /// A vector with a tensor per parameter, by name; Q then also holds its products with the GGN, the Hessian and the sampled
    /// Fisher
    #[arg(long, value_name = "V")]
    pub products: Option<PathBuf>,
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
                "{} shards of {samples} samples: some would be empty; use at most {samples}",
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
    for (flag, input) in [
        ("--batch", args.at.batch.as_ref()),
        ("--weights", args.at.weights.as_ref()),
        ("--products", args.products.as_ref()),
    ] {
        let same =
            |input: &PathBuf| matches!((input.canonicalize(), args.out.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if input.is_some_and(same) {
            return Err(Error::Usage(format!(
                "--out {}: this is the file given with {flag} and would be overwritten; name another one",
                args.out.display()
            )));
        }
    }
    tensor_file::check_writable(&args.out)?;
    if args.launcher == Launcher::Slurm {
        return super::extract_array::run(&args);
    }
    let definition = args.at.resolved()?;
    let Opened { network, loss, mut samples } = args.at.open(&definition)?;
    let vector = args.products.as_ref().map(|path| vector(&network, path)).transpose()?;
    quantity_names::check(args.quantities.iter().map(|name| name.trim()))?;
    let (table_1, explicit): (Vec<_>, Vec<_>) =
        args.quantities.iter().map(|name| name.trim().to_owned()).partition(|name| name == "all");
    let settings = Settings {
        explicit,
        table_1: !table_1.is_empty(),
        scale: match args.scale {
            ScaleChoice::Backpack => Scale::Backpack,
            ScaleChoice::Paper => Scale::Paper,
        },
        mode: if args.train { Mode::Training { seed: args.at.seed, step: 0 } } else { Mode::Evaluation },
        mc_samples: args.mc_samples,
        mc_seed: args.mc_seed,
        memory_budget: args.at.memory_budget()?,
    };
    let total = samples.len();
    let range = args.shard.map_or(Ok(0..total), |shard| shard.of(total))?;
    let parts = Parts {
        samples: total,
        size: args.at.batch_size.unwrap_or(range.end - range.start),
        range,
        identity: identity(&args, &definition)?,
    };
    let sums = in_parts((&network, loss.as_ref()), &parts, &mut samples, vector.as_deref(), &settings, &args.out)
        .map_err(|error| args.at.locate(error))?;
    if args.shard.is_some() {
        sums.save(&args.out)?;
        remove_partial(&args.out);
        let Range { start, end } = sums.range();
        return print(&format!("{}: samples {start} to {} of {total}\n", args.out.display(), end - 1));
    }
    write(&args.out, sums)?;
    remove_partial(&args.out);
    Ok(())
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
