//! Reads problem files: a built-in problem by its name, a user's by its path; and the list of the built-in ones.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::keys::{ProblemKeys, problem_keys};
use super::{Length, ProblemDefinition, graph};
use crate::config::{FolderName, Item, Place, Schema, Source, Table, keys_of};
use crate::entries::Entries;
use crate::error::{Error, Result};
use crate::suggest;

/// The key of a problem that another one changes.
const BASE: &str = "base";
/// Samples in a mini-batch where a problem file does not say.
const DEFAULT_BATCH_SIZE: usize = 128;
/// Passes over the training samples where a problem file does not say.
const DEFAULT_EPOCHS: usize = 10;

/// The built-in problem of this name, if there is one.
pub fn built_in(name: &str) -> Option<Result<ProblemDefinition>> {
    built_in_text(name).map(|text| parse(&Source::built_in(&format!("{name}.toml (built in)"), text)))
}

/// The built-in problem of this name, or the problem in the TOML file at this path.
///
/// # Errors
/// [`Error::Usage`] for an unknown name, [`Error::Config`] for a file that cannot be read or is not a problem file.
pub fn load(name_or_path: &str) -> Result<ProblemDefinition> {
    load_named(&Place::default(), name_or_path)
}

/// The problem that a value of the key `problem` names: built in, or a path relative to the folder of its text, or a
/// table that is the definition itself, or one that names another problem as its `base` and says what is different.
///
/// # Errors
/// As [`load`], pointing at the value.
pub fn load_item(item: &Item) -> Result<ProblemDefinition> {
    if item.is_table() {
        let table = item.table("a problem")?.only(&[&[BASE][..], &keys()].concat())?;
        return table.get(BASE).map_or_else(|| read(&table), |base| changed(&table, &base));
    }
    load_named(&item.place(), &item.read::<String>()?)
}

/// The problem that `base` names, with what else the table says.
fn changed(table: &Table, base: &Item) -> Result<ProblemDefinition> {
    if let Some(item) = ["layers", "blocks"].into_iter().find_map(|key| table.get(key)) {
        let title = format!("a problem with a `{BASE}` has its `{}` from there", item.key());
        return Err(item.key_place().error(title, "leave it out").at(&base.place(), "the base").into());
    }
    let mut problem = load_named(&base.place(), &base.read::<String>()?)?;
    ProblemKeys::read(table)?.apply(&mut problem);
    if let Some(name) = table.get("name") {
        problem.name = name.read::<FolderName>()?.0;
    }
    problem.place = base.place();
    Ok(problem)
}

/// The problem `text`, which stands at `place`: built in, or a path relative to the folder of the place's text.
///
/// # Errors
/// As [`load`], pointing at the place if there is one.
pub(crate) fn load_named(place: &Place, text: &str) -> Result<ProblemDefinition> {
    if let Some(definition) = built_in(text) {
        return definition;
    }
    let path: PathBuf = place.source().map_or_else(|| text.into(), |source| source.folder.join(text));
    let is_in_a_text = place.source().is_some();
    if path.is_file() || is_path(text) {
        if is_in_a_text && !path.is_file() {
            let label = format!("there is no file {}", path.display());
            return Err(place.error(format!("problem file `{text}` not found"), label).into());
        }
        return parse(&Source::read(&path)?);
    }
    let title = format!("unknown problem `{}`", text.escape_debug());
    let help = known_problems(text);
    Err(match is_in_a_text {
        true => place.error(title, "neither built in nor a path").help(help).into(),
        false => Error::Usage(format!("{title}; {help}")),
    })
}

/// The problem that a text defines.
///
/// # Errors
/// [`Error::Config`] that points at the first defect.
pub fn parse(source: &Arc<Source>) -> Result<ProblemDefinition> {
    read(&Table::parse(source, "a problem file")?.only(&keys())?)
}

/// What a problem file has beside the keys that others share with it.
#[derive(Deserialize)]
struct Network {
    name: Spanned<FolderName>,
    /// Read as a graph.
    #[serde(rename = "layers")]
    _layers: IgnoredAny,
    #[serde(rename = "blocks")]
    _blocks: Option<IgnoredAny>,
    #[serde(rename = "schema")]
    _schema: Option<Schema>,
}

fn keys() -> Vec<&'static str> {
    [keys_of::<Network>(), problem_keys()].concat()
}

fn read(table: &Table) -> Result<ProblemDefinition> {
    let network: Network = table.part()?;
    let keys = ProblemKeys::read(table)?;
    let dataset = match keys.source() {
        Some(source) => source,
        None => return Err(table.lacks("dataset")),
    };
    let layers = graph::read(&table.require("layers")?, table.get("blocks").as_ref())?;
    let place = table.place_of(&network.name);
    let (epochs, limit) = keys.epochs.unwrap_or(Length::Epochs(DEFAULT_EPOCHS)).parts();
    Ok(ProblemDefinition {
        name: network.name.into_inner().0,
        dataset,
        loss: keys.loss,
        targets: keys.targets.unwrap_or_default(),
        reduction: keys.reduction.unwrap_or_default(),
        batch_size: keys.batch_size.unwrap_or(DEFAULT_BATCH_SIZE),
        drop_last: keys.drop_last.unwrap_or(false),
        epochs,
        limit,
        l2: keys.l2.unwrap_or(0.0),
        augment: keys.augment.unwrap_or(false),
        valid_size: keys.valid_size,
        train_size: keys.train_size,
        weights: keys.weights,
        layers,
        place,
    })
}

fn is_path(text: &str) -> bool {
    text.ends_with(".toml") || text.contains(['/', std::path::MAIN_SEPARATOR])
}

fn known_problems(word: &str) -> String {
    let help = suggest::help(word, built_in_names());
    format!("{help} (a problem of your own is given by the path of its .toml file)")
}

// The problems that problem files and commands call by a name: those of this package, one TOML file each in
// `definitions/`, and a program's own.

/// A problem and the text of its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedProblem {
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// The problems of this package.
        pub(crate) const BUILT_IN: &[NamedProblem] =
            &[$(NamedProblem { name: $name, text: include_str!(concat!("../definitions/", $name, ".toml")) }),*];
    };
}

built_in![
    "mnist_logreg",
    "mnist_mlp",
    "mnist_2c2d",
    "fmnist_logreg",
    "fmnist_mlp",
    "fmnist_2c2d",
    "cifar10_3c3d",
    "cifar10_3c3d_sigmoid",
    "cifar100_3c3d",
    "cifar100_allcnnc",
    "svhn_3c3d",
    "cifar10_resnet20",
    "cifar10_vit",
    "text_gpt",
    "text_lstm",
    "mnist_autoencoder",
    "fmnist_autoencoder",
];

static ENTRIES: Entries<NamedProblem> = Entries::new(|| BUILT_IN.to_vec());

/// Has these problems in place of those that there are.
pub(crate) fn replace(entries: Vec<NamedProblem>) {
    ENTRIES.replace(entries);
}

/// The names of the built-in problems, a program's own last.
pub fn built_in_names() -> Vec<&'static str> {
    ENTRIES.all().into_iter().map(|problem| problem.name).collect()
}

/// The file of the built-in problem of this name, if there is one.
fn built_in_text(name: &str) -> Option<&'static str> {
    ENTRIES.find(|problem| problem.name == name).map(|problem| problem.text)
}
