//! Flags that several subcommands share: what is trained and how, where files lie, how runs are started, how results
//! are printed.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytesize::ByteSize;
use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};

use crate::config::Place;
use crate::error::{Error, Result};
use crate::numbers::{self, MAX_SIZE};
use crate::optimizers::{Averaging, OptimizerName, OptionValue};
use crate::problems::definition::{Length, ProblemKeys};
use crate::runtime::DeviceChoice;
use crate::study::experiment::{
    DAMPING, Experiment, ExperimentKeys, GridKeys, LEARNING_RATE, MAX_BUDGET, MAX_HALVING, MAX_THREADS, OptionKeys,
    ProblemChoice, Request, SearchKind, fits_damping, fits_learning_rate, resolve,
};
use crate::study::launch::slurm;
use crate::suggest;

/// What `grid`, `train`, `seeds` and `study` run, and how.
#[derive(Args, Clone, Debug, Default)]
pub struct StudyFlags {
    /// An experiment file
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The same as FILE
    #[arg(long, value_name = "FILE", conflicts_with = "file", display_order = 901)]
    pub experiment: Option<PathBuf>,
    /// Problems: built-in names (see `list problems`) or paths of problem files, comma-separated; with FILE, which of its
    /// problems
    #[arg(long, value_name = "LIST", value_parser = words)]
    pub problem: Option<List<String>>,
    /// Damped curvature rules, comma-separated: diag_ggn, diag_ggn_mc, kfac, kflr, kfra, ekfac, foof (see `list optimizers`)
    #[arg(long, visible_alias = "curvature", value_name = "LIST", value_parser = curvatures)]
    pub curv: Option<List<OptimizerName>>,
    /// Optimizers, comma-separated: sgd, momentum, adam, adamw, muon, soap, shampoo (see `list optimizers`)
    #[arg(long, value_name = "LIST", value_parser = optimizers)]
    pub optimizer: Option<List<OptimizerName>>,
    /// Learning rates: a number, a comma-separated list, or logspace(a, b, n) for n values from 10^a to 10^b
    #[arg(long, visible_alias = "learning-rate", value_name = "LIST", value_parser = learning_rates)]
    #[arg(allow_hyphen_values = true)]
    pub lr: Option<List<f64>>,
    /// Dampings, given like --lr
    #[arg(long, value_name = "LIST", value_parser = dampings, allow_hyphen_values = true)]
    pub damping: Option<List<f64>>,
    /// Passes over the training samples
    #[arg(long, value_name = "N", value_parser = integer(0, MAX_SIZE), allow_negative_numbers = true)]
    pub epochs: Option<u64>,
    /// Samples per mini-batch
    #[arg(long, value_name = "N", value_parser = integer(1, MAX_SIZE), allow_negative_numbers = true)]
    pub batch_size: Option<u64>,
    /// Training samples to use, of those left after the validation split
    #[arg(long, value_name = "N", value_parser = integer(1, MAX_SIZE), allow_negative_numbers = true)]
    pub train_size: Option<u64>,
    /// How curvature is averaged over steps: none, cumulative, or ema:WEIGHT
    #[arg(long, value_name = "HOW", value_parser = averaging)]
    pub averaging: Option<Averaging>,
    /// Labels drawn per sample, for diag_ggn_mc, kfac, ekfac and foof
    #[arg(long, value_name = "M", value_parser = integer(1, MAX_SIZE), allow_negative_numbers = true)]
    pub mc_samples: Option<u64>,
    /// Seeds, comma-separated, or a range: 42..51 are the paper's ten
    #[arg(long, visible_alias = "seed", value_name = "LIST", value_parser = seeds, allow_hyphen_values = true)]
    pub seeds: Option<List<u64>>,
    /// Draw settings from the range of the learning rates and dampings instead of running the full grid
    #[arg(long, value_enum, value_name = "HOW")]
    pub search: Option<SearchKind>,
    /// How many settings --search draws for each optimizer
    #[arg(long, value_name = "N", value_parser = integer(1, MAX_BUDGET), allow_negative_numbers = true)]
    pub budget: Option<u64>,
    /// Successive halving: train all settings for a few epochs, then the best 1/ETA of them for ETA times as many, and so on
    #[arg(long, value_name = "ETA", value_parser = integer(2, MAX_HALVING), allow_negative_numbers = true)]
    pub halving: Option<u64>,
    /// Threads per run; results may depend on it in the last digits [default: 1]
    #[arg(long, value_name = "N", value_parser = integer(1, MAX_THREADS), allow_negative_numbers = true)]
    #[arg(help_heading = "Running", display_order = 101)]
    pub threads: Option<u64>,
    /// Where tensors live: cpu, cuda or cuda:INDEX [env: BACKPACK_RUN_DEVICE] [default: cpu]
    #[arg(long, value_name = "DEVICE", value_parser = device, help_heading = "Running", display_order = 102)]
    pub device: Option<DeviceChoice>,
    /// Seconds between checkpoints of a run [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    #[arg(help_heading = "Running", display_order = 103)]
    pub checkpoint_seconds: Option<f64>,
    /// Write diagnostics of gradient, step and curvature every K steps, as CSV and for TensorBoard [without a number: 100]
    #[arg(long, value_name = "K", value_parser = integer(1, i64::MAX), num_args = 0..=1)]
    #[arg(default_missing_value = "100", allow_negative_numbers = true)]
    pub diagnostics: Option<u64>,
    /// Set any key of a problem or experiment file, for example --set augment=false; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// How runs are started.
    #[command(flatten)]
    pub launch: LaunchFlags,
    /// Where files lie.
    #[command(flatten)]
    pub folders: FolderFlags,
    /// How the result is printed.
    #[command(flatten)]
    pub output: OutputFlags,
}

/// How runs are started.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Running")]
pub struct LaunchFlags {
    /// Runs at a time [default: 1]
    #[arg(long, value_name = "N", value_parser = integer(1, MAX_THREADS), allow_negative_numbers = true)]
    pub jobs: Option<u64>,
    /// What starts the runs: processes on this machine, or a SLURM job array
    #[arg(long, value_enum, default_value_t)]
    pub launcher: Launcher,
    /// Options for sbatch with --launcher slurm, for example partition=gpu,time=02:00:00; array_limit=N runs at most N tasks at
    /// a time. Options that would break the runs, such as wrap, output or array, are refused
    #[arg(long, value_name = "KEY=VALUE,..", value_parser = slurm::Options::parse)]
    pub slurm: Option<slurm::Options>,
    /// Suspend the runs at their next step while PATH exists; this changes no result
    #[arg(long, value_name = "PATH")]
    pub pause_file: Option<PathBuf>,
    /// Run nothing; print what would run, how long it would take, and how much memory and disk it would need. --dry-run=full
    /// also prints the resolved experiment file and every run
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "short")]
    pub dry_run: Option<DryRun>,
}

/// How much a dry run tells.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    /// What would run, and its time, memory and disk
    Short,
    /// Also the resolved experiment file and every run
    Full,
}

/// What starts the runs.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Launcher {
    /// On this machine.
    #[default]
    Local,
    /// A SLURM job array.
    Slurm,
}

/// Where files lie, the same for every subcommand.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Folders")]
pub struct FolderFlags {
    /// Data sets [default: $BACKPACK_RUN_DATA, else the usual places]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Run folders [default: $BACKPACK_RUN_RUNS, else runs/]
    #[arg(long, value_name = "DIR")]
    pub runs_dir: Option<PathBuf>,
    /// Results of studies [default: $BACKPACK_RUN_RESULTS, else results/]
    #[arg(long, value_name = "DIR")]
    pub results_dir: Option<PathBuf>,
}

/// How a result is printed on stdout.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub struct OutputFlags {
    /// The format of the result on stdout
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// The form of a result on stdout.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// A table for reading.
    #[default]
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// JSON with a schema version.
    Json,
}

/// The values of one flag.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T>(pub Vec<T>);

impl FolderFlags {
    /// Where data sets are looked for first; `None` means the usual places.
    pub fn data(&self) -> Option<PathBuf> {
        self.data_dir.clone().or_else(|| from_environment("BACKPACK_RUN_DATA"))
    }

    /// Where run folders are.
    pub fn runs(&self) -> PathBuf {
        self.runs_dir.clone().or_else(|| from_environment("BACKPACK_RUN_RUNS")).unwrap_or_else(|| "runs".into())
    }

    /// Where run folders are, for who writes there.
    ///
    /// # Errors
    /// [`Error::Usage`] where it is an archive of runs, with what to do.
    pub fn runs_folder(&self) -> Result<PathBuf> {
        let runs = self.runs();
        match runs.is_file() {
            true => Err(Error::Usage(format!(
                "{0} is a file, not a folder of runs: `backpack-run results unpack {0} --runs-dir runs` puts the runs of an \
                 archive into runs/",
                runs.display()
            ))),
            false => Ok(runs),
        }
    }

    /// Where results of studies are.
    pub fn results(&self) -> PathBuf {
        let environment = || from_environment("BACKPACK_RUN_RESULTS");
        self.results_dir.clone().or_else(environment).unwrap_or_else(|| "results".into())
    }
}

impl LaunchFlags {
    /// Runs at a time.
    pub fn jobs(&self) -> usize {
        self.jobs.unwrap_or(1) as usize
    }
}

impl StudyFlags {
    /// The experiment file, if one is given.
    pub fn experiment_file(&self) -> Option<&Path> {
        self.file.as_deref().or(self.experiment.as_deref())
    }

    /// The experiment that flags, `--set`, experiment file, problem files and defaults make up, in this order of
    /// precedence. `BACKPACK_RUN_DEVICE` is the device where none is given.
    ///
    /// # Errors
    /// [`Error::Usage`] or [`Error::Config`], see [`resolve`].
    pub fn resolve(&self) -> Result<Experiment> {
        if self.launch.slurm.is_some() && self.launch.launcher != Launcher::Slurm {
            return Err(Error::Usage(
                "--slurm has options of sbatch: add --launcher slurm, or leave it out".to_owned(),
            ));
        }
        let fallback = ExperimentKeys { device: device_from_environment()?, ..Default::default() };
        resolve(Request { flags: self.keys()?, set: &self.set, file: self.experiment_file(), fallback })
    }

    /// Whether `--set` gives the key.
    pub fn sets(&self, key: &str) -> bool {
        self.set
            .iter()
            .filter_map(|set| set.split_once('='))
            .any(|(set, _)| set.trim().trim_matches(['"', '\'']) == key)
    }

    fn keys(&self) -> Result<ExperimentKeys> {
        let names = [&self.curv, &self.optimizer].into_iter().flatten().flat_map(|list| list.0.clone());
        let names: Vec<_> = names.collect();
        let named = |name: &String| ProblemChoice::Named(name.clone(), Place::default());
        let size = |value: Option<u64>| value.map(|value| value as usize);
        Ok(ExperimentKeys {
            problems: self.problem.as_ref().map(|list| list.0.iter().map(named).collect()),
            optimizers: (!names.is_empty()).then_some(names),
            problem: ProblemKeys {
                epochs: size(self.epochs).map(Length::Epochs),
                batch_size: size(self.batch_size),
                train_size: size(self.train_size),
                ..Default::default()
            },
            threads: size(self.threads),
            device: self.device.map(|device| device.to_string()),
            checkpoint_seconds: self.checkpoint_seconds,
            diagnostics: self.diagnostics,
            seeds: self.seeds.as_ref().map(|list| list.0.clone()),
            search: self.search,
            budget: size(self.budget),
            halving: size(self.halving),
            grid: GridKeys {
                learning_rates: self.lr.as_ref().map(|list| list.0.clone()),
                dampings: self.damping.as_ref().map(|list| list.0.clone()),
                options: OptionKeys::default()
                    .with("averaging", self.averaging.map(OptionValue::Averaging))
                    .with("mc_samples", self.mc_samples.map(OptionValue::Count)),
            },
            ..Default::default()
        })
    }
}

/// A variable of the environment, if it is set and not empty.
fn from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The device that BACKPACK_RUN_DEVICE names.
fn device_from_environment() -> Result<Option<String>> {
    let Some(value) = from_environment("BACKPACK_RUN_DEVICE") else { return Ok(None) };
    let choice: DeviceChoice = value
        .to_string_lossy()
        .parse()
        .map_err(|error: Error| Error::Usage(format!("BACKPACK_RUN_DEVICE: {error}")))?;
    Ok(Some(choice.to_string()))
}

/// The device of a command without an experiment: the flag's, else that of BACKPACK_RUN_DEVICE, else the CPU.
///
/// # Errors
/// Where the variable cannot be read, or the device is not there.
pub(crate) fn open_device(flag: Option<DeviceChoice>) -> Result<tch::Device> {
    chosen_device(flag)?.open()
}

/// That device, before it is looked for.
pub(crate) fn chosen_device(flag: Option<DeviceChoice>) -> Result<DeviceChoice> {
    match (flag, device_from_environment()?) {
        (Some(choice), _) => Ok(choice),
        (None, Some(text)) => text.parse(),
        (None, None) => Ok(DeviceChoice(tch::Device::Cpu)),
    }
}

/// Reads a size with one of the units that are promised.
pub(crate) fn memory_size(text: &str) -> Result<ByteSize, String> {
    let number = ["KiB", "MiB", "GiB", "B"].iter().find_map(|unit| text.strip_suffix(unit));
    let number = number.is_some_and(|number| number.trim_end().ends_with(|letter: char| letter.is_ascii_digit()));
    match ByteSize::from_str(text) {
        Ok(size) if number && size.as_u64() > 0 => Ok(size),
        _ => Err("expected a size above 0 with B, KiB, MiB or GiB, for example 12GiB".to_owned()),
    }
}

/// Reads an integer from `least` to `most`.
fn integer(least: u64, most: i64) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(least..=most as u64)
}

fn words(text: &str) -> Result<List<String>, String> {
    let words: Vec<_> = text.split(',').map(|word| word.trim().to_owned()).collect();
    if words.iter().any(String::is_empty) {
        return Err("expected names or paths, comma-separated, none of them empty".to_owned());
    }
    Ok(List(words))
}

fn curvatures(text: &str) -> Result<List<OptimizerName>, String> {
    named(text, "a curvature rule", OptimizerName::has_damping)
}

fn optimizers(text: &str) -> Result<List<OptimizerName>, String> {
    named(text, "an optimizer", |_| true)
}

fn named(text: &str, what: &str, fits: fn(OptimizerName) -> bool) -> Result<List<OptimizerName>, String> {
    let known: Vec<_> = OptimizerName::all().filter(|name| fits(*name)).collect();
    let find = |word: &str| {
        let names = known.iter().map(|name| name.as_str());
        known.iter().copied().find(|name| name.as_str() == word).ok_or_else(|| {
            let all = names.clone().collect::<Vec<_>>().join(", ");
            let nearest = suggest::closest(word, names).map(|name| format!("; did you mean {name}?"));
            format!("expected {what}, one of {all}; found `{word}`{}", nearest.unwrap_or_default())
        })
    };
    text.split(',').map(|word| find(word.trim())).collect::<Result<_, _>>().map(List)
}

fn learning_rates(text: &str) -> Result<List<f64>, String> {
    checked(text, fits_learning_rate, LEARNING_RATE)
}

fn dampings(text: &str) -> Result<List<f64>, String> {
    checked(text, fits_damping, DAMPING)
}

fn checked(text: &str, fits: fn(f64) -> bool, expected: &str) -> Result<List<f64>, String> {
    let values = numbers::parse(text)?;
    match values.iter().find(|value| !fits(**value)) {
        Some(value) => Err(format!("expected {expected}, found {value}")),
        None if !values.iter().copied().all(numbers::is_single) => Err(format!("expected {}", numbers::SINGLE)),
        None => Ok(List(values.into_iter().map(|value| value + 0.0).collect())),
    }
}

fn averaging(text: &str) -> Result<Averaging, String> {
    Averaging::from_str(text).map_err(|error| error.to_string())
}

fn device(text: &str) -> Result<DeviceChoice, String> {
    DeviceChoice::from_str(text).map_err(|error| error.to_string())
}

fn seeds(text: &str) -> Result<List<u64>, String> {
    let seeds = numbers::parse_seeds(text)?;
    numbers::check_seeds(&seeds)?;
    Ok(List(seeds))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0 && seconds.is_finite());
    seconds.ok_or_else(|| "expected a number of seconds above 0".to_owned())
}
