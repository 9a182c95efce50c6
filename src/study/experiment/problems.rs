//! The problems of an experiment: those of its file, or those of them that flags and `--set` name.

use std::path::Path;

use crate::config::{Item, Place};
use crate::error::{Error, Result};
use crate::problems::definition::{ProblemDefinition, load_item, load_named};
use crate::suggest;

/// A problem as a flag, a `--set` or an experiment file gives it.
#[derive(Clone, Debug)]
pub enum ProblemChoice {
    /// By name or path. Beside an experiment file this is one of the file's problems, with what the file says of it.
    Named(String, Place),
    /// By a table that defines it.
    Defined(Box<ProblemDefinition>),
}

/// The problems of a value of the key `problem`.
pub(super) fn read(item: &Item) -> Result<Vec<ProblemChoice>> {
    let items = item.one_or_more();
    if items.is_empty() {
        return Err(item.expected("at least one problem"));
    }
    let mut problems = Vec::new();
    for item in &items {
        if item.is_table() {
            problems.push(ProblemChoice::Defined(Box::new(load_item(item)?)));
        } else {
            let named = |word: &str| ProblemChoice::Named(word.to_owned(), item.place());
            problems.extend(item.words()?.into_iter().map(named));
        }
    }
    Ok(problems)
}

/// The definitions of these problems, named without regard to any others.
///
/// # Errors
/// [`Error::Usage`] or [`Error::Config`] for a name that is neither built in nor a path, and a file with defects.
pub(super) fn defined(choices: Vec<ProblemChoice>) -> Result<Vec<ProblemDefinition>> {
    let definition = |choice| match choice {
        ProblemChoice::Named(name, place) => load_named(&place, &name),
        ProblemChoice::Defined(definition) => Ok(*definition),
    };
    choices.into_iter().map(definition).collect()
}

/// Those of the problems of the experiment file `file` that are named, in the order of the names; what a path leads to is a
/// problem whether the file has it or not.
///
/// # Errors
/// As [`defined`] for a path, and where the file has no problem of a name.
pub(super) fn chosen(
    choices: Vec<ProblemChoice>,
    in_file: &[ProblemDefinition],
    file: Option<&Path>,
) -> Result<Vec<ProblemDefinition>> {
    let find = |name: &str| in_file.iter().find(|problem| problem.name == name).cloned();
    let choose = |choice| {
        let (word, place) = match choice {
            ProblemChoice::Defined(definition) => return Ok(*definition),
            ProblemChoice::Named(word, place) => (word, place),
        };
        if let Some(problem) = find(&word) {
            return Ok(problem);
        }
        // A path leads to one of them, or to a problem of the user's own beside them.
        if Path::new(&word).is_file() {
            let problem = load_named(&place, &word)?;
            return Ok(find(&problem.name).unwrap_or(problem));
        }
        let file = file.map_or("the experiment".into(), Path::to_string_lossy);
        let title = format!("`{}` is not one of the problems of {file}", word.escape_debug());
        let help = suggest::help(&word, in_file.iter().map(|problem| problem.name.as_str()));
        Err(match place.source() {
            Some(_) => place.error(title, "not in its `problem`").help(help).into(),
            None => Error::Usage(format!("{title}; {help}")),
        })
    };
    choices.into_iter().map(choose).collect()
}
