//! The experiment that a study's result folder tells of.

use std::path::Path;

use serde_json::Value;

use super::resolve::resolve_source;
use super::{Experiment, Request};
use crate::config::Source;
use crate::config::write::to_text;
use crate::error::{Error, Result};
use crate::files;

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
    let mut meta: Value = serde_json::from_str(&text).map_err(|error| fail(&error))?;
    let experiment = meta.get_mut("experiment").map(Value::take).unwrap_or_default();
    let table = toml::Table::try_from(with_old_defaults(experiment)).map_err(|error| fail(&error))?;
    let source = Source::file(&path, to_text(&table));
    resolve_source(Request::default(), Some(&source))
}

/// What a description without a key had before there was the key.
fn with_old_defaults(mut experiment: Value) -> Value {
    let problems = experiment.get_mut("problem").and_then(Value::as_array_mut);
    for problem in problems.into_iter().flatten().filter_map(Value::as_object_mut) {
        problem.entry("drop_last").or_insert(true.into());
    }
    experiment
}
