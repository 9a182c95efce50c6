//! Writes a study's runs as DeepOBS does: PROBLEM/OPTIMIZER/SETTING/random_seed__S__DATE.json, the names as parts of
//! files' names.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::results::{Results, SeedRow, by_seed, distinct};
use super::CLASSES;
use crate::atomic::{self, Durability};
use crate::config::name::{file_part, without_twins};
use crate::error::{IoContext, Result};
use crate::problems::definition;
use crate::study::experiment::Metric;
use crate::study::select::deepobs_float;
use crate::study::state::RunState;

/// DeepOBS wants a date in the name; one that never changes lets the same report write the same files.
const DATE: &str = "1970-01-01-00-00-00";

/// Writes every finished seed of every winner below FOLDER/deepobs/ and gives their number. A diverged run's lists end with
/// what it measured, one epoch or more before its `num_epochs`; so would those of a run that is not finished, which is left out
/// for that. Mini-batch losses are not part of a study's results, so their list is empty.
///
/// # Errors
/// When the folder cannot be written to.
pub fn export(results: &Results) -> Result<usize> {
    let mut written = 0;
    let finished: Vec<&SeedRow> = results.seeds.iter().filter(|row| row.status.is_final()).collect();
    let problems = distinct(finished.iter().map(|row| &row.problem));
    let parts = without_twins(problems.iter().map(|problem| file_part(problem)));
    for (problem, problem_part) in problems.into_iter().zip(parts) {
        let here: Vec<&SeedRow> = finished.iter().copied().filter(|row| row.problem == problem).collect();
        let epochs = here.iter().map(|row| row.epoch).max().unwrap_or(0);
        let batch_size = batch_size(results, &problem);
        let optimizers = distinct(here.iter().map(|row| &row.optimizer));
        let parts = without_twins(optimizers.iter().map(|optimizer| file_part(class(optimizer))));
        for (optimizer, class_part) in optimizers.into_iter().zip(parts) {
            let hyperparameters = hyperparameters(results, &problem, &optimizer);
            let mut setting = format!("num_epochs__{epochs}__batch_size__{batch_size}");
            for (name, value) in &hyperparameters {
                setting.push_str(&format!("__{name}__{}", deepobs_float(value.as_f64().unwrap_or(f64::NAN))));
            }
            let folder = results.folder.join("deepobs").join(&problem_part).join(&class_part).join(setting);
            std::fs::create_dir_all(&folder).at("creating the folder", &folder)?;
            for rows in by_seed(here.iter().copied().filter(|row| row.optimizer == optimizer)) {
                let seed = rows[0].seed;
                let own = rows.last().map_or(0, |row| row.epoch);
                // Where a run's seconds are limited, each has epochs of its own.
                let planned = if rows[0].status == RunState::Diverged { epochs.max(own + 1) } else { own };
                let mut run = Map::new();
                run.insert("schema_version".to_owned(), json!(1));
                run.insert("testproblem".to_owned(), json!(problem));
                run.insert("batch_size".to_owned(), json!(batch_size));
                run.insert("num_epochs".to_owned(), json!(planned));
                run.insert("random_seed".to_owned(), json!(seed));
                run.insert("weight_decay".to_owned(), Value::Null);
                run.insert("optimizer_name".to_owned(), json!(class(&optimizer)));
                run.insert("optimizer_hyperparams".to_owned(), Value::Object(hyperparameters.clone()));
                run.insert("training_params".to_owned(), json!({}));
                for (name, metric) in Metric::NAMES {
                    run.insert(name.to_owned(), json!(rows.iter().map(|row| row.get(metric)).collect::<Vec<_>>()));
                }
                run.insert("minibatch_train_losses".to_owned(), json!([]));
                write(&folder.join(format!("random_seed__{seed}__{DATE}.json")), &Value::Object(run))?;
                written += 1;
            }
        }
    }
    Ok(written)
}

/// DeepOBS's name of an optimizer; a label of the user's own stands for itself.
fn class(optimizer: &str) -> &str {
    CLASSES.iter().find(|(title, _)| *title == optimizer).map_or(optimizer, |(_, class)| class)
}

fn write(path: &Path, run: &Value) -> Result<()> {
    atomic::write_json(path, run, Durability::Process)
}

/// DeepOBS's names and values, in the order of the names.
fn hyperparameters(results: &Results, problem: &str, optimizer: &str) -> Map<String, Value> {
    let winners = results.meta["winners"].as_array().map(Vec::as_slice).unwrap_or_default();
    let winner = winners.iter().find(|w| w["problem"] == problem && w["optimizer"] == optimizer);
    let last = results.finals.iter().find(|row| row.problem == problem && row.optimizer == optimizer);
    let rate = winner.and_then(|w| w["learning_rate"].as_f64()).or(last.map(|row| row.learning_rate));
    let damping = winner.and_then(|w| w["damping"].as_f64()).or(last.and_then(|row| row.damping));
    let given = winner.and_then(|w| w["options"]["momentum"].as_f64());
    let momentum = given.or((optimizer == "Momentum").then_some(0.9));
    let entries = [("damping", damping), ("lr", rate), ("momentum", momentum)];
    entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect()
}

/// The experiment's batch size, else the problem's own, else DeepOBS's usual 128.
fn batch_size(results: &Results, problem: &str) -> u64 {
    let problems = results.meta["experiment"]["problem"].as_array().map(Vec::as_slice).unwrap_or_default();
    let used = problems.iter().find(|used| used["name"] == problem).and_then(|used| used["batch_size"].as_u64());
    let own = || Some(definition::built_in(problem)?.ok()?.batch_size as u64);
    used.or_else(own).unwrap_or(128)
}
