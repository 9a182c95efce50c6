//! The keys of an experiment beside those of a problem, as an experiment file and `--set` share them, and how both are
//! read.

use std::sync::Arc;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{Metric, OptionKeys, ProblemChoice, SearchKind, SelectMode, TargetKeys, problems};
use crate::config::{self, FolderName, Item, Place, Schema, Source, Table, keys_of, set};
use crate::error::Result;
use crate::numbers::{self, read};
use crate::optimizers::{OptimizerName, RETIRED};
use crate::problems::definition::{ProblemKeys, problem_keys};
use crate::runtime::DeviceChoice;
use crate::study::store::KeepEnd;

/// Keys that have another name each.
const ALIASES: [(&str, &str); 2] = [("alpha", "learning_rate"), ("lambda", "damping")];

/// What one text (an experiment file, a `--set`, or the flags) says of an experiment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ExperimentKeys {
    /// The experiment's name.
    pub name: Option<FolderName>,
    /// The problems.
    #[serde(skip)]
    pub problems: Option<Vec<ProblemChoice>>,
    /// The optimizers, where they are given by name alone.
    #[serde(skip)]
    pub optimizers: Option<Vec<OptimizerName>>,
    /// What overrides every problem.
    #[serde(skip)]
    pub problem: ProblemKeys,
    /// Threads a run computes with.
    #[serde(deserialize_with = "read::count::<_, _, 1, MAX_THREADS>")]
    pub threads: Option<usize>,
    /// `cpu`, `cuda` or `cuda:INDEX`.
    #[serde(deserialize_with = "device")]
    pub device: Option<String>,
    /// The budget by which a pass is cut into chunks, in bytes.
    #[serde(deserialize_with = "bytes")]
    pub chunk_bytes: Option<u64>,
    /// Seconds between checkpoints of a run.
    #[serde(deserialize_with = "read::above_0")]
    pub checkpoint_seconds: Option<f64>,
    /// Which runs keep the state at their ends.
    pub keep_end: Option<KeepEnd>,
    /// The seed of a grid's runs.
    #[serde(deserialize_with = "read::seed")]
    pub grid_seed: Option<u64>,
    /// The seeds with which the best setting is run again.
    #[serde(deserialize_with = "read::seeds")]
    pub seeds: Option<Vec<u64>>,
    /// How the best setting is chosen.
    #[serde(deserialize_with = "config::table")]
    pub select: SelectKeys,
    /// What runs are to reach.
    #[serde(deserialize_with = "config::some_table")]
    pub target: Option<TargetKeys>,
    /// How many further tunings are drawn from each finished grid.
    #[serde(deserialize_with = "read::count::<_, _, 1, MAX_TUNING_REPEATS>")]
    pub tuning_repeats: Option<usize>,
    /// How settings are drawn from the grid's range, instead of the full grid.
    pub search: Option<SearchKind>,
    /// How many settings are drawn.
    #[serde(deserialize_with = "read::count::<_, _, 1, MAX_BUDGET>")]
    pub budget: Option<usize>,
    /// Of how many settings one goes on, in successive halving.
    #[serde(deserialize_with = "read::count::<_, _, 2, MAX_HALVING>")]
    pub halving: Option<usize>,
    /// Steps from one diagnosis of a run to the next.
    #[serde(deserialize_with = "steps")]
    pub diagnostics: Option<u64>,
    /// What overrides every optimizer's grid.
    #[serde(skip)]
    pub grid: GridKeys,
}

/// What a text says of how the best setting is chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectKeys {
    /// What is compared.
    pub metric: Option<Metric>,
    /// What of its curve counts.
    pub mode: Option<SelectMode>,
}

/// What a text says of an optimizer's grid.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GridKeys {
    /// The learning rates.
    #[serde(rename = "learning_rate", deserialize_with = "learning_rates")]
    pub learning_rates: Option<Vec<f64>>,
    /// The dampings.
    #[serde(rename = "damping", deserialize_with = "dampings")]
    pub dampings: Option<Vec<f64>>,
    /// The values of the optimizers' options.
    #[serde(skip)]
    pub options: OptionKeys,
}

/// The keys of [`GridKeys`], at the top of an experiment file and in an optimizer's table.
fn grid_keys() -> Vec<&'static str> {
    let options = OptimizerName::all_options().into_iter().map(|option| option.key);
    // Those that there were are told of where they are read.
    let retired = RETIRED.into_iter().map(|(key, _)| key);
    let aliases = ALIASES.into_iter().map(|(alias, _)| alias);
    keys_of::<GridKeys>().iter().copied().chain(aliases).chain(options).chain(retired).collect()
}

/// Every key that `--set` may have.
fn set_keys() -> Vec<&'static str> {
    [&["problem"][..], keys_of::<ExperimentKeys>(), &grid_keys(), problem_keys(), &["optimizer", "curvature"]].concat()
}

/// Every key that an experiment file may have at its top.
fn file_keys() -> Vec<&'static str> {
    let keys = set_keys().into_iter().filter(|key| *key != "curvature");
    keys.chain(["schema"]).collect()
}

/// The keys that mean something else than an optimizer's option.
pub(crate) fn reserved_keys() -> Vec<&'static str> {
    let aliases = ALIASES.map(|(alias, _)| alias);
    let own = [keys_of::<ExperimentKeys>(), problem_keys(), keys_of::<GridKeys>(), &aliases];
    [&own.concat()[..], &["problem", "schema", "optimizer", "curvature", "label"]].concat()
}

impl ExperimentKeys {
    /// Reads the keys that are there; those of `[[optimizer]]` tables are not among them.
    ///
    /// # Errors
    /// For a value of the wrong type or out of its range.
    pub fn read(table: &Table) -> Result<Self> {
        table.get("schema").map(|item| item.read::<Schema>()).transpose()?;
        Ok(ExperimentKeys {
            problems: table.get("problem").map(|item| problems::read(&item)).transpose()?,
            problem: ProblemKeys::read(table)?,
            grid: GridKeys::read(table)?,
            ..table.part()?
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
            select: SelectKeys {
                metric: self.select.metric.or(lower.select.metric),
                mode: self.select.mode.or(lower.select.mode),
            },
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
    ///
    /// # Errors
    /// For a value of the wrong type or out of its range, and for two names of one key.
    pub fn read(table: &Table) -> Result<Self> {
        let table = ALIASES.into_iter().try_fold(table.clone(), |table, (alias, key)| table.alias(alias, key))?;
        Ok(GridKeys { options: OptionKeys::read(&table)?, ..table.part()? })
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

fn learning_rates<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Vec<f64>>, D::Error> {
    let one = read::Number { fits: fits_learning_rate, expected: LEARNING_RATE };
    read::Numbers(one).deserialize(deserializer).map(Some)
}

fn dampings<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Vec<f64>>, D::Error> {
    read::Numbers(read::Number { fits: fits_damping, expected: DAMPING }).deserialize(deserializer).map(Some)
}

fn steps<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<u64>, D::Error> {
    read::integer(deserializer, 1..=i64::MAX).map(|steps| Some(steps as u64))
}

fn device<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    let choice: Option<DeviceChoice> = String::deserialize(deserializer).ok().and_then(|text| text.parse().ok());
    choice.map(|choice| Some(choice.to_string())).ok_or_else(|| D::Error::custom("expected cpu, cuda or cuda:INDEX"))
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<u64>, D::Error> {
    let size = bytesize::ByteSize::deserialize(deserializer).ok().map(|size| size.as_u64());
    let size = size.filter(|size| (1..=i64::MAX as u64).contains(size));
    size.map(Some).ok_or_else(|| D::Error::custom("expected a size above 0, as 268435456 or \"256MiB\""))
}

/// The optimizers that a value names.
fn optimizers(item: &Item) -> Result<Vec<OptimizerName>> {
    let known = OptimizerName::all().map(OptimizerName::as_str);
    let optimizer =
        |word: &str| OptimizerName::find(word).ok_or_else(|| item.unknown("optimizer", word, known.clone()));
    item.words()?.into_iter().map(optimizer).collect()
}

// Reads experiment files and `--set` arguments.

/// An experiment file: its keys, and its `[[optimizer]]` tables.
#[derive(Clone, Debug, Default)]
pub(super) struct ExperimentFile {
    pub keys: ExperimentKeys,
    pub optimizers: Vec<OptimizerEntry>,
}

/// An entry of `optimizer`.
#[derive(Clone, Debug)]
pub(super) struct OptimizerEntry {
    pub name: OptimizerName,
    /// What it is called in tables and figures, if not by its own name.
    pub label: Option<String>,
    pub grid: GridKeys,
    /// The problems it is for, with the places of their names; `None` means all.
    pub problems: Option<Vec<(String, Place)>>,
    pub place: Place,
}

/// Reads an experiment file.
pub(super) fn parse_file(source: &Arc<Source>) -> Result<ExperimentFile> {
    let table = Table::parse(source, "an experiment file")?.only(&file_keys())?;
    let entries = match table.get("optimizer") {
        Some(item) => item.one_or_more().iter().map(entry).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    Ok(ExperimentFile { keys: ExperimentKeys::read(&table)?, optimizers: entries })
}

/// Reads a `--set KEY=VALUE`.
pub(super) fn parse_set(argument: &str) -> Result<ExperimentKeys> {
    set::read(argument, |table| {
        let table = table.only(&set_keys())?;
        let mut keys = ExperimentKeys::read(&table)?;
        if let Some(item) = table.alias("curvature", "optimizer")?.get("optimizer") {
            let lists: Vec<_> = item.one_or_more().iter().map(optimizers).collect::<Result<_>>()?;
            keys.optimizers = Some(lists.concat());
        }
        Ok(keys)
    })
}

/// A table of `[[optimizer]]`, its grid aside.
#[derive(Deserialize)]
struct OptimizerTable {
    #[serde(rename = "name")]
    _name: IgnoredAny,
    label: Option<Spanned<Label>>,
    #[serde(rename = "problem")]
    _problem: Option<IgnoredAny>,
}

fn entry(item: &Item) -> Result<OptimizerEntry> {
    if !item.is_table() {
        let (label, grid, problems, place) = (None, GridKeys::default(), None, item.place());
        return Ok(OptimizerEntry { name: name(item)?, label, grid, problems, place });
    }
    let keys = [keys_of::<OptimizerTable>(), &["curvature"], &grid_keys()].concat();
    let table = item.table("an optimizer")?.only(&keys)?.alias("curvature", "name")?;
    let row: OptimizerTable = table.part()?;
    let name_item = table.require("name")?;
    let name = name(&name_item)?;
    let of_damping = ["damping", "lambda"].map(|key| (key, name.has_damping()));
    let of_options =
        OptimizerName::all_options().into_iter().map(|option| (option.key, name.option(option.key).is_some()));
    for (key, fits) in of_damping.into_iter().chain(of_options) {
        if let (false, Some(item)) = (fits, table.get(key)) {
            let title = format!("{name} has no `{key}`");
            return Err(item.key_place().error(title, "leave it out").at(&name_item.place(), "the optimizer").into());
        }
    }
    let place = row.label.as_ref().map_or_else(|| name_item.place(), |label| table.place_of(label));
    let name_of = |item: &Item| -> Result<(String, Place)> { Ok((item.read()?, item.place())) };
    let problems = table.get("problem").map(|item| item.one_or_more().iter().map(name_of).collect()).transpose()?;
    Ok(OptimizerEntry {
        name,
        label: row.label.map(|label| label.into_inner().0),
        grid: GridKeys::read(&table)?,
        problems,
        place,
    })
}

fn name(item: &Item) -> Result<OptimizerName> {
    optimizers(item)?.into_iter().next().ok_or_else(|| item.expected("an optimizer"))
}

/// A name for tables, figures and the columns of CSV files.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Label(String);

impl TryFrom<String> for Label {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        const LONGEST: usize = 60;
        let fits = !text.trim().is_empty() && text.trim() == text && text.chars().count() <= LONGEST;
        match fits && !text.contains(char::is_control) {
            true => Ok(Label(text)),
            false => {
                Err(format!("expected a line of 1 to {LONGEST} characters that does not begin or end with blanks"))
            }
        }
    }
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
