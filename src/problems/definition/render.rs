//! Writes a problem as the problem file that reads back equal, every default spelt out.

use toml::{Table, Value};

use super::ProblemDefinition;
use crate::error::{Error, Result};
use crate::files::StoredPath;
use crate::problems::data::DataSource;

impl ProblemDefinition {
    /// The content of a problem file with every value in it.
    ///
    /// # Errors
    /// [`Error::Config`] for what TOML cannot hold.
    pub fn to_toml(&self) -> Result<Table> {
        let mut table = Table::new();
        let mut set = |key: &str, value: Value| table.insert(key.to_owned(), value);
        set("name", self.name.as_str().into());
        set("dataset", dataset(&self.dataset)?);
        set("loss", self.loss.to_string().into());
        set("reduction", self.reduction.as_str().into());
        set("batch_size", integer(self.batch_size));
        set("epochs", integer(self.epochs));
        set("l2", self.l2.into());
        set("augment", self.augment.into());
        if let Some(size) = self.valid_size {
            set("valid_size", integer(size));
        }
        if let Some(size) = self.train_size {
            set("train_size", integer(size));
        }
        set("layers", to_value(&self.layers)?);
        Ok(table)
    }
}

fn dataset(source: &DataSource) -> Result<Value> {
    let one = |key: &str, value: Value| Value::Table(Table::from_iter([(key.to_owned(), value)]));
    Ok(match source {
        DataSource::Named(name) => name.as_str().into(),
        DataSource::SafeTensors { path } => one("safetensors", to_value(StoredPath(path.clone()))?),
        DataSource::Synthetic(options) => one("synthetic", to_value(options)?),
    })
}

fn to_value(value: impl serde::Serialize) -> Result<Value> {
    Value::try_from(value)
        .map_err(|error| Error::Config(format!("this configuration cannot be written as TOML: {error}")))
}

fn integer(value: usize) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}
