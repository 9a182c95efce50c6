//! Writes a resolved experiment as an experiment file that needs no other file and reads back equal.

use toml::{Table, Value};

use super::{Experiment, OptimizerGrid};
use crate::config::write::to_text;
use crate::error::Result;
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
