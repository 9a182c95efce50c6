//! Reads experiment files and `--set` arguments.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use crate::config::{Item, Place, Source, Table, keys_of, set};
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
struct Row {
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
    let keys = [keys_of::<Row>(), &["curvature"], &grid_keys()].concat();
    let table = item.table("an optimizer")?.only(&keys)?.alias("curvature", "name")?;
    let row: Row = table.part()?;
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
