//! The files of a study's result folder, each whole at every instant.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::aggregate::Diverged;
use super::super::experiment::Experiment;
use super::super::store::SCHEMA_VERSION;
use super::{PairResult, Targets, tables, tuning};
use crate::atomic::{self, Durability, SealedFile};
use crate::error::{Error, IoContext, Result};
use crate::provenance::Provenance;

/// What a result folder says of the study beside its tables.
#[derive(Clone, Debug)]
pub struct Description {
    /// The study's name.
    pub name: String,
    /// What diverged runs count for.
    pub diverged: Diverged,
    tuning_repeats: Option<usize>,
    has_diagnostics: bool,
    grid_seed: u64,
    experiment: Value,
    rest: Value,
    provenance: Provenance,
}

/// What new results are to those that stand in their folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaces {
    /// There are none, or they are of the same experiment.
    Nothing,
    /// They are of the same experiment with other optimizers.
    Part {
        /// Optimizers that are as before.
        same: usize,
        /// How many there were.
        before: usize,
        /// How many there are.
        now: usize,
    },
    /// They are of another experiment.
    Another,
}

impl Description {
    /// That of an experiment, on this machine.
    ///
    /// # Errors
    /// Where the experiment cannot be written as an experiment file.
    pub fn new(name: &str, experiment: &Experiment, diverged: Diverged) -> Result<Self> {
        let resolved = serde_json::to_value(experiment.to_table()?).map_err(|error| not_json(&error))?;
        Ok(Description {
            name: name.to_owned(),
            diverged,
            tuning_repeats: experiment.tuning_repeats,
            has_diagnostics: experiment.diagnostics.is_some(),
            grid_seed: experiment.grid_seed,
            experiment: resolved,
            rest: json!({
                "seeds": experiment.seeds,
                "select": experiment.select,
            }),
            provenance: Provenance::now(experiment.threads, &experiment.device),
        })
    }

    /// What becomes of the results that `folder` holds.
    pub fn replaces(&self, folder: &Path) -> Replaces {
        let before = read_meta(&folder.join("meta.json"));
        let before = &before["experiment"];
        if !before.is_object() || *before == self.experiment {
            return Replaces::Nothing;
        }
        let without_optimizers = |experiment: &Value| {
            let mut rest = experiment.clone();
            rest["optimizer"] = Value::Null;
            rest
        };
        let entries = |experiment: &Value| experiment["optimizer"].as_array().cloned().unwrap_or_default();
        let (old, new) = (entries(before), entries(&self.experiment));
        let same = old.iter().filter(|entry| new.contains(entry)).count();
        match without_optimizers(before) == without_optimizers(&self.experiment) && same > 0 {
            true => Replaces::Part { same, before: old.len(), now: new.len() },
            false => Replaces::Another,
        }
    }

    /// meta.json. The time is that of the first file that was written for the same experiment.
    fn meta(
        &self,
        pairs: &[PairResult],
        targets: Option<&Targets>,
        path: &Path,
        files: &BTreeMap<&str, SealedFile>,
    ) -> Value {
        let columns = tables::columns(pairs);
        let winner = |pair: &PairResult| {
            let setting = pair.setting()?;
            let mut winner = json!({
                "problem": pair.grid.problem,
                "optimizer": pair.grid.grid.title(),
                "learning_rate": setting.learning_rate,
                "damping": setting.damping,
                "edge": pair.edge(),
            });
            let settings = pair.winner.and_then(|place| pair.grid.grid.settings.get(place))?;
            // What the tables have columns for, and whatever else is not at its default.
            let changed = settings.optimizer.options.changed().map(|(key, _)| key);
            let keys = columns.iter().copied().chain(changed.filter(|key| !columns.contains(key)));
            let options = keys.filter_map(|key| Some((key.to_owned(), json!(settings.option(key)?))));
            let options: Map<String, Value> = options.collect();
            if !options.is_empty() {
                winner["options"] = Value::Object(options);
            }
            Some(winner)
        };
        let winners: Vec<Value> = pairs.iter().filter_map(winner).collect();
        // Of the problems whose runs do not end after a number of epochs.
        let limits = pairs.iter().filter_map(|pair| Some((pair.grid.problem.clone(), json!(pair.limit()?))));
        let lengths: Map<String, Value> = limits.collect();
        let provenance = &self.provenance;
        let before = read_meta(path);
        let same = before["experiment"] == self.experiment && before["created"].is_string();
        json!({
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "experiment": self.experiment,
            "winners": winners,
            "seeds": self.rest["seeds"],
            "grid_seed": self.grid_seed,
            "select": self.rest["select"],
            "diverged": self.diverged,
            "length": pairs.first().and_then(PairResult::limit),
            "lengths": lengths,
            "target": targets.map(Targets::description),
            "tuning": tuning::description(pairs),
            "tuning_repeats": self.tuning_repeats,
            "program": {
                "version": provenance.backpack_run,
                "git_revision": provenance.git_revision,
                "tch": provenance.tch,
                "libtorch": provenance.libtorch,
            },
            "machine": { "cpu": provenance.cpu, "cores": provenance.cores, "threads": provenance.threads },
            "files": files,
            "created": if same { before["created"].clone() } else { json!(provenance.time) },
        })
    }
}

/// Writes `curves.csv`, `seeds.csv`, `grid.csv`, `final.csv`, `meta.json`, and what else the study asks for, into `folder`,
/// with what there is so far of these pairs; `targets` are those of the whole study.
///
/// # Errors
/// Where the folder cannot be written to.
pub fn write(folder: &Path, description: &Description, pairs: &[PairResult], targets: Option<&Targets>) -> Result<()> {
    std::fs::create_dir_all(folder).at("creating the folder", folder)?;
    let rows = tables::final_rows(pairs, description.diverged, targets);
    let mut files = vec![
        ("grid.csv", tables::grid(pairs)?),
        ("seeds.csv", tables::seeds(pairs)?),
        ("curves.csv", tables::curves(pairs, description.diverged)?),
        ("final.csv", tables::final_csv(&rows)?),
    ];
    let columns = tables::columns(pairs);
    let repeats = description.tuning_repeats;
    let repeats = repeats.map(|repeats| tuning::csv_of_repeats(pairs, &columns, repeats, description.grid_seed));
    let several = pairs.iter().any(|pair| pair.grid.problem != pairs[0].grid.problem);
    // Runs that were made for another study may have some too.
    let diagnosed = match description.has_diagnostics {
        true => tables::csv_of_diagnostics(pairs).transpose(),
        false => None,
    };
    for (name, text) in [
        ("targets.csv", targets.map(|targets| targets.csv(pairs))),
        ("tuning.csv", repeats),
        ("single.csv", several.then(|| tuning::csv_of_single(pairs, &columns))),
        ("diagnostics.csv", diagnosed),
    ] {
        match text {
            Some(text) => files.push((name, text?)),
            // One that another experiment left is no part of this one.
            None => atomic::remove(&folder.join(name))?,
        }
    }
    for (name, text) in &files {
        atomic::write(&folder.join(name), text.as_bytes(), Durability::Machine)?;
    }
    let seals = files.iter().map(|(name, text)| (*name, SealedFile::of(name, text.as_bytes()))).collect();
    let path = folder.join("meta.json");
    atomic::write_json(&path, &description.meta(pairs, targets, &path, &seals), Durability::Machine)
}

/// Null where there is none, or it cannot be read.
fn read_meta(path: &Path) -> Value {
    crate::files::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn not_json(error: &dyn std::fmt::Display) -> Error {
    Error::Environment(format!("the experiment cannot be written as JSON: {error}"))
}
