//! The keys of an experiment beside those of a problem, as an experiment file and `--set` share them.

use crate::config::{Item, Table};
use crate::error::Result;
use crate::numbers;
use crate::optimizers::{OptimizerName, RETIRED};
use crate::problems::definition::{PROBLEM_KEYS, ProblemKeys, read_name};
use crate::runtime::DeviceChoice;
use crate::study::store::KeepEnd;

use super::{Metric, OptionKeys, ProblemChoice, SearchKind, SelectMode, TargetKeys, problems};

/// The keys of [`GridKeys`], at the top of an experiment file and in an optimizer's table.
pub(super) fn grid_keys() -> Vec<&'static str> {
    let options = OptimizerName::all_options().into_iter().map(|option| option.key);
    // Those that there were are told of where they are read.
    let retired = RETIRED.into_iter().map(|(key, _)| key);
    ["learning_rate", "alpha", "damping", "lambda"].into_iter().chain(options).chain(retired).collect()
}

/// The keys of [`ExperimentKeys`] that are neither a problem's nor a grid's.
pub(super) const EXPERIMENT_KEYS: [&str; 17] = [
    "name",
    "problem",
    "threads",
    "device",
    "chunk_bytes",
    "checkpoint_seconds",
    "keep_end",
    "grid_seed",
    "seeds",
    "select",
    "target",
    "tuning_repeats",
    "search",
    "budget",
    "halving",
    "diagnostics",
    "schema",
];

/// The keys that mean something else than an optimizer's option.
pub(crate) fn reserved_keys() -> Vec<&'static str> {
    let of_optimizers = ["learning_rate", "alpha", "damping", "lambda", "optimizer", "curvature", "label"];
    EXPERIMENT_KEYS.into_iter().chain(PROBLEM_KEYS).chain(of_optimizers).collect()
}

/// What one text (an experiment file, a `--set`, or the flags) says of an experiment.
#[derive(Clone, Debug, Default)]
pub struct ExperimentKeys {
    /// The experiment's name.
    pub name: Option<String>,
    /// The problems.
    pub problems: Option<Vec<ProblemChoice>>,
    /// The optimizers, where they are given by name alone.
    pub optimizers: Option<Vec<OptimizerName>>,
    /// What overrides every problem.
    pub problem: ProblemKeys,
    /// Threads a run computes with.
    pub threads: Option<usize>,
    /// `cpu`, `cuda` or `cuda:INDEX`.
    pub device: Option<String>,
    /// The budget by which a pass is cut into chunks, in bytes.
    pub chunk_bytes: Option<u64>,
    /// Seconds between checkpoints of a run.
    pub checkpoint_seconds: Option<f64>,
    /// Which runs keep the state at their ends.
    pub keep_end: Option<KeepEnd>,
    /// Steps from one diagnosis of a run to the next.
    pub diagnostics: Option<u64>,
    /// The seed of a grid's runs.
    pub grid_seed: Option<u64>,
    /// The seeds with which the best setting is run again.
    pub seeds: Option<Vec<u64>>,
    /// What is compared to choose the best setting.
    pub metric: Option<Metric>,
    /// What of its curve counts.
    pub mode: Option<SelectMode>,
    /// What runs are to reach.
    pub target: Option<TargetKeys>,
    /// How many further tunings are drawn from each finished grid.
    pub tuning_repeats: Option<usize>,
    /// How settings are drawn from the grid's range, instead of the full grid.
    pub search: Option<SearchKind>,
    /// How many settings are drawn.
    pub budget: Option<usize>,
    /// Of how many settings one goes on, in successive halving.
    pub halving: Option<usize>,
    /// What overrides every optimizer's grid.
    pub grid: GridKeys,
}

/// What a text says of an optimizer's grid.
#[derive(Clone, Debug, Default)]
pub struct GridKeys {
    /// The learning rates.
    pub learning_rates: Option<Vec<f64>>,
    /// The dampings.
    pub dampings: Option<Vec<f64>>,
    /// The values of the optimizers' options.
    pub options: OptionKeys,
}

impl ExperimentKeys {
    /// Reads the keys that are there; those of `[[optimizer]]` tables are not among them.
    pub fn read(table: &Table) -> Result<Self> {
        if let Some(schema) = table.get("schema") {
            schema.schema(1)?;
        }
        let (metric, mode) = match table.get("select") {
            Some(item) => select(&item)?,
            None => (None, None),
        };
        let seconds = |item: Item| item.number(|value| value > 0.0 && value.is_finite(), "a number above 0");
        Ok(ExperimentKeys {
            name: table.get("name").map(|item| read_name(&item)).transpose()?,
            problems: table.get("problem").map(|item| problems::read(&item)).transpose()?,
            optimizers: None,
            problem: ProblemKeys::read(table)?,
            threads: table.get("threads").map(|item| count_to(&item, MAX_THREADS)).transpose()?,
            device: table.get("device").map(|item| device(&item)).transpose()?,
            chunk_bytes: table.get("chunk_bytes").map(|item| bytes(&item)).transpose()?,
            checkpoint_seconds: table.get("checkpoint_seconds").map(seconds).transpose()?,
            keep_end: table.get("keep_end").map(|item| item.choice("keep_end", &KeepEnd::NAMES)).transpose()?,
            diagnostics: table
                .get("diagnostics")
                .map(|item| item.integer(1..=i64::MAX).map(|steps| steps as u64))
                .transpose()?,
            grid_seed: table.get("grid_seed").map(|item| item.seed()).transpose()?,
            seeds: table.get("seeds").map(|item| item.seeds()).transpose()?,
            metric,
            mode,
            target: table.get("target").map(|item| TargetKeys::read(&item)).transpose()?,
            tuning_repeats: table.get("tuning_repeats").map(|item| count_to(&item, MAX_TUNING_REPEATS)).transpose()?,
            search: table.get("search").map(|item| item.choice("search", &SearchKind::NAMES)).transpose()?,
            budget: table.get("budget").map(|item| count_to(&item, MAX_BUDGET)).transpose()?,
            halving: table
                .get("halving")
                .map(|item| item.integer(2..=MAX_HALVING))
                .transpose()?
                .map(|eta| eta as usize),
            grid: GridKeys::read(table)?,
        })
    }

    /// These, and what they do not say from `lower`.
    pub fn or(self, lower: ExperimentKeys) -> Self {
        ExperimentKeys {
            name: self.name.or(lower.name),
            problems: self.problems.or(lower.problems),
            optimizers: self.optimizers.or(lower.optimizers),
            problem: self.problem.or(lower.problem),
            threads: self.threads.or(lower.threads),
            device: self.device.or(lower.device),
            chunk_bytes: self.chunk_bytes.or(lower.chunk_bytes),
            checkpoint_seconds: self.checkpoint_seconds.or(lower.checkpoint_seconds),
            keep_end: self.keep_end.or(lower.keep_end),
            diagnostics: self.diagnostics.or(lower.diagnostics),
            grid_seed: self.grid_seed.or(lower.grid_seed),
            seeds: self.seeds.or(lower.seeds),
            metric: self.metric.or(lower.metric),
            mode: self.mode.or(lower.mode),
            target: self.target.or(lower.target),
            tuning_repeats: self.tuning_repeats.or(lower.tuning_repeats),
            search: self.search.or(lower.search),
            budget: self.budget.or(lower.budget),
            halving: self.halving.or(lower.halving),
            grid: self.grid.or(lower.grid),
        }
    }
}

impl GridKeys {
    /// Reads the keys that are there.
    pub fn read(table: &Table) -> Result<Self> {
        let rates = |item: Item| item.numbers(fits_learning_rate, LEARNING_RATE);
        let dampings = |item: Item| item.numbers(fits_damping, DAMPING);
        Ok(GridKeys {
            learning_rates: table.get_either("learning_rate", "alpha")?.map(rates).transpose()?,
            dampings: table.get_either("damping", "lambda")?.map(dampings).transpose()?,
            options: OptionKeys::read(table)?,
        })
    }

    /// These, and what they do not say from `lower`.
    pub fn or(self, lower: GridKeys) -> Self {
        GridKeys {
            learning_rates: self.learning_rates.or(lower.learning_rates),
            dampings: self.dampings.or(lower.dampings),
            options: self.options.or(lower.options),
        }
    }
}

/// What a learning rate is, for messages.
pub const LEARNING_RATE: &str = "a finite number above 0";
/// What a damping is, for messages.
pub const DAMPING: &str = "a finite number of at least 0";
/// The most settings of a search, as of a grid.
pub const MAX_BUDGET: i64 = numbers::MAX_POINTS as i64;
/// The most tunings that are drawn from a finished grid: more tell nothing more.
const MAX_TUNING_REPEATS: i64 = 10_000;
/// The largest factor of successive halving.
pub const MAX_HALVING: i64 = 1000;
/// More threads than any machine has.
pub const MAX_THREADS: i64 = 4096;

/// Whether a number can be a learning rate.
pub fn fits_learning_rate(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

/// Whether a number can be a damping.
pub fn fits_damping(value: f64) -> bool {
    value >= 0.0 && value.is_finite()
}

/// The optimizers that a value names.
pub(super) fn optimizers(item: &Item) -> Result<Vec<OptimizerName>> {
    let known = OptimizerName::all().map(OptimizerName::as_str);
    let optimizer =
        |word: &str| OptimizerName::find(word).ok_or_else(|| item.unknown("optimizer", word, known.clone()));
    item.words()?.into_iter().map(optimizer).collect()
}

fn select(item: &Item) -> Result<(Option<Metric>, Option<SelectMode>)> {
    let table = item.table("select", &["metric", "mode"])?;
    Ok((
        table.get("metric").map(|item| item.choice("metric", &Metric::NAMES)).transpose()?,
        table.get("mode").map(|item| item.choice("mode", &SelectMode::NAMES)).transpose()?,
    ))
}

fn device(item: &Item) -> Result<String> {
    let text = item.text()?;
    let choice: DeviceChoice = text.parse().map_err(|_| item.expected("cpu, cuda or cuda:INDEX"))?;
    Ok(choice.to_string())
}

fn count_to(item: &Item, most: i64) -> Result<usize> {
    Ok(item.integer(1..=most)? as usize)
}

fn bytes(item: &Item) -> Result<u64> {
    let expected = "a size above 0, as 268435456 or \"256MiB\"";
    if item.is_text() {
        let size = item.text()?.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64());
        return size.filter(|size| (1..=i64::MAX as u64).contains(size)).ok_or_else(|| item.expected(expected));
    }
    Ok(item.integer(1..=i64::MAX).map_err(|_| item.expected(expected))? as u64)
}

/// Every key that an experiment file may have at its top.
pub(super) fn file_keys() -> Vec<&'static str> {
    EXPERIMENT_KEYS.into_iter().chain(grid_keys()).chain(PROBLEM_KEYS).chain(["optimizer"]).collect()
}

/// Every key that `--set` may have.
pub(super) fn set_keys() -> Vec<&'static str> {
    let keys = EXPERIMENT_KEYS.into_iter().filter(|key| *key != "schema");
    keys.chain(grid_keys()).chain(PROBLEM_KEYS).chain(["optimizer", "curvature"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options of optimizers have a page that is made from the code.
    #[test]
    fn every_key_is_documented() {
        let page = include_str!("../../../docs/keys.md");
        let of_optimizers = |key: &&str| OptimizerName::all_options().iter().all(|option| option.key != *key);
        let retired = |key: &&str| RETIRED.into_iter().all(|(known, _)| known != *key);
        for key in file_keys().into_iter().filter(of_optimizers).filter(retired) {
            assert!(page.contains(&format!("`{key}`")), "docs/keys.md does not describe `{key}`");
        }
    }
}
