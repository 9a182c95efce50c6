//! Reads experiment files and `--set` arguments.

use std::sync::Arc;

use crate::config::{Item, Place, Source, Table, set, table};
use crate::error::Result;
use crate::optimizers::{OPTIONS, OptimizerName};

use super::keys::{ExperimentKeys, GRID_KEYS, GridKeys, file_keys, optimizers, set_keys};

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
    let table = Table::root(&source, &root, "what --set can set", &set_keys())?;
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
        return Ok(OptimizerEntry { name, grid: GridKeys::default(), problems: None, place: item.place() });
    }
    let keys = [&["name", "curvature"], GRID_KEYS.as_slice(), &["problem"]].concat();
    let table = item.table("an optimizer", &keys)?;
    let name_item = match table.get_either("name", "curvature")? {
        Some(item) => item,
        None => table.require("name")?,
    };
    let name = first(optimizers(&name_item)?, &name_item)?;
    let of_damping = ["damping", "lambda", "averaging"].map(|key| (key, name.has_damping()));
    let of_kfra = [("kfra_aliasing", name == OptimizerName::Kfra)];
    let of_options = OPTIONS.iter().map(|option| (option.key, option.fits(name)));
    for (key, fits) in of_damping.into_iter().chain(of_kfra).chain(of_options) {
        if let (false, Some(item)) = (fits, table.get(key)) {
            let title = format!("{name} has no `{key}`");
            return Err(item.key_place().error(title, "leave it out").at(&name_item.place(), "the optimizer").into());
        }
    }
    let name_of = |item: &Item| -> Result<(String, Place)> { Ok((item.text()?.to_owned(), item.place())) };
    let problems = table.get("problem").map(|item| item.one_or_more().iter().map(name_of).collect()).transpose()?;
    Ok(OptimizerEntry { name, grid: GridKeys::read(&table)?, problems, place: name_item.place() })
}

fn first(names: Vec<OptimizerName>, item: &Item) -> Result<OptimizerName> {
    names.into_iter().next().ok_or_else(|| item.expected("an optimizer"))
}
