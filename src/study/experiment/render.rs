//! Writes a resolved experiment as an experiment file that reads back equal, and reads the one of a result folder.

use std::path::Path;

use serde_json::Value as Json;
use toml::{Table, Value};

use super::resolve::resolve_source;
use super::{Experiment, OptimizerGrid, Request};
use crate::config::Source;
use crate::config::write::to_text;
use crate::error::{Error, Result};
use crate::files;
use crate::optimizers::OptionValue;

impl Experiment {
    /// The text of an experiment file with every value in it, the problems' definitions included.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for what TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        Ok(to_text(&self.to_table()?))
    }

    /// The same as a table.
    pub fn to_table(&self) -> Result<Table> {
        let mut table = Table::new();
        let mut set = |key: &str, value: Value| table.insert(key.to_owned(), value);
        set("schema", Value::Integer(1));
        set("name", self.name.as_str().into());
        set("threads", integer(self.threads as u64));
        set("mc_samples", integer(self.mc_samples as u64));
        set("device", self.device.as_str().into());
        set("chunk_bytes", integer(self.chunk_bytes));
        set("checkpoint_seconds", self.checkpoint_seconds.into());
        if !self.keep_end.is_default() {
            set("keep_end", self.keep_end.as_str().into());
        }
        if let Some(steps) = self.diagnostics {
            set("diagnostics", integer(steps));
        }
        set("grid_seed", integer(self.grid_seed));
        if !self.seeds.is_empty() {
            set("seeds", self.seeds.iter().map(|seed| integer(*seed)).collect::<Vec<_>>().into());
        }
        let select = [("metric", self.select.metric.as_str()), ("mode", self.select.mode.as_str())];
        let select = select.map(|(key, value)| (key.to_owned(), Value::from(value)));
        set("select", Table::from_iter(select).into());
        if let Some(target) = self.target {
            set("target", target.to_value());
        }
        if let Some(repeats) = self.tuning_repeats {
            set("tuning_repeats", integer(repeats as u64));
        }
        if let Some(search) = self.search {
            set("search", search.kind.as_str().into());
            set("budget", integer(search.budget as u64));
        }
        if let Some(halving) = self.halving {
            set("halving", integer(halving as u64));
        }
        let problems = self.problems.iter().map(|problem| problem.to_toml().map(Value::Table));
        set("problem", problems.collect::<Result<Vec<_>>>()?.into());
        let entries = self.optimizers.iter().map(|grid| optimizer(grid, self.mc_samples));
        set("optimizer", entries.collect::<Vec<_>>().into());
        Ok(table)
    }
}

/// An optimizer's table; `mc_samples` is what the file says for all.
fn optimizer(grid: &OptimizerGrid, mc_samples: usize) -> Value {
    let mut table = Table::new();
    table.insert("name".to_owned(), grid.name.as_str().into());
    if let Some(label) = &grid.label {
        table.insert("label".to_owned(), label.as_str().into());
    }
    table.insert("learning_rate".to_owned(), grid.learning_rates.clone().into());
    if grid.name.has_damping() {
        table.insert("damping".to_owned(), grid.dampings.clone().into());
    }
    let options = grid.name.options().map(|info| (info, grid.values(info.key)));
    for (info, values) in options {
        let said_above = match info.key {
            "mc_samples" => matches!(values, [OptionValue::Count(count)] if *count == mc_samples as u64),
            _ => !info.always && *values == [(info.default)()],
        };
        if said_above {
            continue;
        }
        let value = if let [value] = values { Value::try_from(value) } else { Value::try_from(values) };
        // Numbers, texts, booleans, lists and tables of them: TOML has all of these.
        if let Ok(value) = value {
            table.insert(info.key.to_owned(), value);
        }
    }
    if let Some(problems) = &grid.problems {
        table.insert("problem".to_owned(), problems.clone().into());
    }
    Value::Table(table)
}

fn integer(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

// The experiment that a study's result folder tells of.

/// The experiment whose results lie in this folder, by its meta.json.
///
/// # Errors
/// [`Error::Usage`] where the folder has no results of a study; [`Error::Config`] where they are of a newer version, or
/// cannot be understood.
pub fn stored(results: &Path) -> Result<Experiment> {
    let path = results.join("meta.json");
    let text = files::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Usage(format!(
            "{}: no results of a study; `backpack-run study FILE` makes them, --results-dir says where they are",
            results.display()
        )),
        _ => Error::unreadable(&path, error),
    })?;
    let fail = |reason: &dyn std::fmt::Display| Error::Config(format!("{}: {reason}", path.display()));
    let mut meta: Json = serde_json::from_str(&text).map_err(|error| fail(&error))?;
    let experiment = meta.get_mut("experiment").map(Json::take).unwrap_or_default();
    let table = toml::Table::try_from(with_old_defaults(experiment)).map_err(|error| fail(&error))?;
    let source = Source::file(&path, to_text(&table));
    resolve_source(Request::default(), Some(&source))
}

/// What a description without a key had before there was the key.
fn with_old_defaults(mut experiment: Json) -> Json {
    let problems = experiment.get_mut("problem").and_then(Json::as_array_mut);
    for problem in problems.into_iter().flatten().filter_map(Json::as_object_mut) {
        problem.entry("drop_last").or_insert(true.into());
    }
    experiment
}
