//! What `backpack-run extract` is asked.

use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::flags::Launcher;
use super::samples::SampleArgs;
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
    pub(super) fn of(self, samples: i64) -> Result<Range<i64>> {
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
