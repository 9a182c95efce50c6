//! DeepOBS's JSON files of runs: theirs read as further optimizers, ours written in their form.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::results::{Results, SeedRow, by_seed, distinct};
use crate::atomic::{self, Durability};
use crate::config::name::{file_part, without_twins};
use crate::error::{Error, IoContext, Result};
use crate::problems::definition;
use crate::study::experiment::Metric;
use crate::study::select::deepobs_float;
use crate::study::state::RunState;

/// DeepOBS's class names for the program's optimizers.
const CLASSES: [(&str, &str); 8] = [
    ("DiagGGN", "DiagGGNConstantDampingOptimizer"),
    ("DiagGGN-MC", "DiagGGNMCConstantDampingOptimizer"),
    ("KFAC", "KFACConstantDampingOptimizer"),
    ("KFLR", "KFLRConstantDampingOptimizer"),
    ("KFRA", "KFRAConstantDampingOptimizer"),
    ("Momentum", "MomentumOptimizer"),
    ("Adam", "AdamOptimizer"),
    ("SGD", "GradientDescentOptimizer"),
];

// Writes a study's runs as DeepOBS does: PROBLEM/OPTIMIZER/SETTING/random_seed__S__DATE.json, the names as parts of
// files' names.

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

// Reads a folder of DeepOBS's runs: `random_seed__S__DATE.json` in a folder a setting.

/// The runs below `folder` as rows of seeds.csv; the optimizers' names end with "(DeepOBS)".
///
/// Of an optimizer that has several settings on a problem, the one with the most seeds is taken, as DeepOBS's own plots
/// do with what was rerun; of equally many, the first by name. Of two files of one seed the later is taken.
///
/// # Errors
/// When there is no run, or a file is not what DeepOBS writes.
pub fn import(folder: &Path) -> Result<Vec<SeedRow>> {
    let mut settings: Vec<(PathBuf, Vec<Run>)> = Vec::new();
    for file in files_below(folder)? {
        let run = read(&file)?;
        let setting = file.parent().unwrap_or(folder).to_owned();
        match settings.iter_mut().find(|(path, _)| *path == setting) {
            Some((_, runs)) => {
                // The date follows the seed in the name, so a later file comes later.
                runs.retain(|other| other.seed != run.seed);
                runs.push(run);
            }
            None => settings.push((setting, vec![run])),
        }
    }
    if settings.is_empty() {
        return Err(Error::Usage(format!(
            "--deepobs {}: no runs of DeepOBS; expected files named random_seed__SEED__DATE.json in or below it",
            folder.display()
        )));
    }
    let mut chosen: Vec<&Vec<Run>> = Vec::new();
    for (_, runs) in &settings {
        let same =
            |other: &&mut &Vec<Run>| other[0].problem == runs[0].problem && other[0].optimizer == runs[0].optimizer;
        match chosen.iter_mut().find(same) {
            Some(best) if best.len() >= runs.len() => {}
            Some(best) => *best = runs,
            None => chosen.push(runs),
        }
    }
    Ok(chosen.into_iter().flatten().flat_map(|run| run.rows.clone()).collect())
}

struct Run {
    problem: String,
    optimizer: String,
    seed: u64,
    rows: Vec<SeedRow>,
}

/// The runs' files in a folder and those below it. Links are followed, but a folder that several lead to, be it in a
/// circle, is gone through once, by the first path to it. Reading what is no regular file might never end.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut seen, mut to_do) = (Vec::new(), HashSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = to_do.pop() {
        if !seen.insert(folder.canonicalize().at("reading the folder", &folder)?) {
            continue;
        }
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&folder).at("reading the folder", &folder)? {
            paths.push(entry.at("reading the folder", &folder)?.path());
        }
        // The last is taken next, so that the first in order comes first.
        paths.sort_by(|a, b| b.cmp(a));
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                to_do.push(path);
            } else if name.starts_with("random_seed__") && name.ends_with(".json") {
                if !path.is_file() {
                    return Err(refuse(&path, "no regular file".to_owned(), "a run's JSON"));
                }
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn refuse(path: &Path, found: String, expected: &str) -> Error {
    Error::Data {
        path: path.to_owned(),
        offset: 0,
        found,
        expected: expected.to_owned(),
        remedy: "Take the file away or mend it.".to_owned(),
    }
}

fn read(path: &Path) -> Result<Run> {
    let bytes = crate::files::read(path).at("reading", path)?;
    let refuse = |found: String, expected: &str| refuse(path, found, expected);
    let text = without_nan(&String::from_utf8_lossy(&bytes));
    let value: Value = serde_json::from_str(&text).map_err(|error| refuse(error.to_string(), "a run's JSON"))?;
    let name = |keys: [&str; 2]| {
        let found = keys.iter().find_map(|key| value[*key].as_str());
        found.map(str::to_owned).ok_or_else(|| refuse("other keys".to_owned(), &format!("a text under `{}`", keys[0])))
    };
    let (problem, class) = (name(["testproblem", "test_problem"])?, name(["optimizer_name", "optimizer"])?);
    let seed =
        value["random_seed"].as_u64().ok_or_else(|| refuse("other keys".to_owned(), "a number under `random_seed`"))?;
    let own = CLASSES.iter().find(|(_, known)| *known == class).map_or(class.as_str(), |(title, _)| title);
    let optimizer = format!("{own} (DeepOBS)");
    let list = |key: &str| -> Vec<Option<f64>> {
        value[key].as_array().map(|list| list.iter().map(Value::as_f64).collect()).unwrap_or_default()
    };
    let keys =
        ["train_losses", "train_accuracies", "valid_losses", "valid_accuracies", "test_losses", "test_accuracies"];
    let [train_losses, train_accuracies, valid_losses, valid_accuracies, test_losses, test_accuracies] = keys.map(list);
    let epochs = train_losses.len().max(test_losses.len());
    if epochs == 0 {
        return Err(refuse("no values".to_owned(), "a list of numbers under `train_losses` or `test_losses`"));
    }
    let planned = value["num_epochs"].as_u64().map_or(epochs - 1, |n| n as usize);
    let broken = epochs <= planned || [&train_losses, &test_losses].iter().any(|list| list.iter().any(Option::is_none));
    let at = |list: &Vec<Option<f64>>, epoch: usize| list.get(epoch).copied().flatten();
    let row = |epoch: usize| SeedRow {
        problem: problem.clone(),
        optimizer: optimizer.clone(),
        seed,
        status: if broken { RunState::Diverged } else { RunState::Done },
        epoch,
        train_loss: at(&train_losses, epoch),
        train_accuracy: at(&train_accuracies, epoch),
        valid_loss: at(&valid_losses, epoch),
        valid_accuracy: at(&valid_accuracies, epoch),
        test_loss: at(&test_losses, epoch),
        test_accuracy: at(&test_accuracies, epoch),
        train_seconds: None,
        eval_seconds: None,
    };
    Ok(Run { rows: (0..epochs).map(row).collect(), problem: problem.clone(), optimizer: optimizer.clone(), seed })
}

/// Python writes NaN and Infinity, which JSON does not know: they become null, outside of texts.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split('"').enumerate() {
        // No key or name of DeepOBS's holds an escaped quote, so every second part is a text.
        if i > 0 {
            out.push('"');
        }
        match i % 2 {
            0 => out.push_str(&part.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null")),
            _ => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_for_no_number_is_null() {
        assert_eq!(without_nan(r#"{"a NaN": [NaN, -Infinity, 1]}"#), r#"{"a NaN": [null, null, 1]}"#);
    }
}
