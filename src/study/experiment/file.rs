//! Reads experiment files and `--set` arguments.

use std::sync::Arc;

use crate::config::{Item, Place, Source, Table, set, table};
use crate::error::Result;
use crate::optimizers::OptimizerName;

use super::keys::{ExperimentKeys, GridKeys, file_keys, grid_keys, optimizers, set_keys};

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
    let root = table::parse(source)?;
    let table = Table::root(source, &root, "an experiment file", &file_keys())?;
    let entries = match table.get("optimizer") {
        Some(item) => item.one_or_more().iter().map(entry).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    Ok(ExperimentFile { keys: ExperimentKeys::read(&table)?, optimizers: entries })
}

/// Reads a `--set KEY=VALUE`.
pub(super) fn parse_set(argument: &str) -> Result<ExperimentKeys> {
    let source = Source::set_argument(argument);
    let root = set::parse_argument(&source)?;
    let table = Table::root(&source, &root, set::WHAT, &set_keys())?;
    let mut keys = ExperimentKeys::read(&table)?;
    if let Some(item) = table.get_either("optimizer", "curvature")? {
        let lists: Vec<_> = item.one_or_more().iter().map(optimizers).collect::<Result<_>>()?;
        keys.optimizers = Some(lists.concat());
    }
    Ok(keys)
}

fn entry(item: &Item) -> Result<OptimizerEntry> {
    if item.is_text() {
        let name = first(optimizers(item)?, item)?;
        let (label, grid, problems, place) = (None, GridKeys::default(), None, item.place());
        return Ok(OptimizerEntry { name, label, grid, problems, place });
    }
    let keys = [vec!["name", "curvature", "label"], grid_keys(), vec!["problem"]].concat();
    let table = item.table("an optimizer", &keys)?;
    let name_item = match table.get_either("name", "curvature")? {
        Some(item) => item,
        None => table.require("name")?,
    };
    let name = first(optimizers(&name_item)?, &name_item)?;
    let of_damping = ["damping", "lambda"].map(|key| (key, name.has_damping()));
    let of_options =
        OptimizerName::all_options().into_iter().map(|option| (option.key, name.option(option.key).is_some()));
    for (key, fits) in of_damping.into_iter().chain(of_options) {
        if let (false, Some(item)) = (fits, table.get(key)) {
            let title = format!("{name} has no `{key}`");
            return Err(item.key_place().error(title, "leave it out").at(&name_item.place(), "the optimizer").into());
        }
    }
    let name_of = |item: &Item| -> Result<(String, Place)> { Ok((item.text()?.to_owned(), item.place())) };
    let problems = table.get("problem").map(|item| item.one_or_more().iter().map(name_of).collect()).transpose()?;
    let label_item = table.get("label");
    let place = label_item.as_ref().unwrap_or(&name_item).place();
    let label = label_item.map(|item| label(&item)).transpose()?;
    Ok(OptimizerEntry { name, label, grid: GridKeys::read(&table)?, problems, place })
}

/// A name for tables, figures and the columns of CSV files.
fn label(item: &Item) -> Result<String> {
    const LONGEST: usize = 60;
    let text = item.text()?;
    let fits = !text.trim().is_empty() && text.trim() == text && text.chars().count() <= LONGEST;
    if fits && !text.contains(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(item.expected(&format!("a line of 1 to {LONGEST} characters that does not begin or end with blanks")))
}

fn first(names: Vec<OptimizerName>, item: &Item) -> Result<OptimizerName> {
    names.into_iter().next().ok_or_else(|| item.expected("an optimizer"))
}
