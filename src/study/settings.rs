//! What decides one run's numbers, and the name of the folder that follows from it; the run as it is handed on, and the
//! data set that runs share.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::experiment::Search;
use super::store::{KeepEnd, RunFolder};
use crate::error::{Error, Result};
use crate::files::{stored_path, stored_path_option};
use crate::optimizers::{Averaging, OptimizerName, OptionValue, Options, Schedule};
use crate::problems::data::{self, DataFolders, DataSet, DataSource};
use crate::problems::definition::ProblemDefinition;

/// Everything that decides one run's numbers except its seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// The problem, with the effective batch size, epochs, l2, augmentation and sizes in it.
    pub problem: ProblemDefinition,
    /// What the data set says of its content.
    pub data_fingerprint: String,
    /// The SHA-256 of the file of initial parameters, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_fingerprint: Option<String>,
    /// The optimizer and its hyperparameters.
    pub optimizer: OptimizerSettings,
    /// Threads that libtorch computes with: sums are split by it.
    pub threads: usize,
    /// Labels drawn per sample, where the optimizer samples any.
    pub mc_samples: usize,
    /// `cpu`, `cuda` or `cuda:INDEX`.
    pub device: String,
    /// The budget by which a pass is cut into chunks, in bytes.
    pub chunk_bytes: u64,
}

/// An optimizer with its hyperparameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerSettings {
    /// Which one.
    pub name: OptimizerName,
    /// The step size.
    pub learning_rate: f64,
    /// Added to the curvature; `None` for the baselines.
    pub damping: Option<f64>,
    /// How curvature is averaged over steps; without meaning for the baselines.
    pub averaging: Averaging,
    /// Whether KFRA averages the output-side factor of linear layers twice a step, as the published runs did.
    pub kfra_aliasing: bool,
    /// Its other options, those that are not at their defaults.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

/// The settings of one optimizer on one problem, learning rates outside, dampings inside.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// The optimizer.
    pub optimizer: OptimizerName,
    /// What it is called in tables and figures, if not by its own name.
    pub label: Option<String>,
    /// The learning rates, in the order given.
    pub learning_rates: Vec<f64>,
    /// The dampings, in the order given; empty for the baselines.
    pub dampings: Vec<f64>,
    /// How the settings are drawn from their ranges, if they are; the values above are then those of each setting in turn.
    pub search: Option<Search>,
    /// What they lie in.
    pub ranges: Ranges,
    /// One for each point of the grid.
    pub settings: Vec<RunSettings>,
}

/// The least and the largest of what is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranges {
    /// Of the learning rates.
    pub learning_rate: [f64; 2],
    /// Of the dampings; none for the baselines.
    pub damping: Option<[f64; 2]>,
}

impl Grid {
    /// The name in tables and figures.
    pub fn title(&self) -> &str {
        self.label.as_deref().unwrap_or(self.optimizer.title())
    }

    /// The label, or the command line's name.
    pub fn name(&self) -> &str {
        self.label.as_deref().unwrap_or(self.optimizer.as_str())
    }

    /// The options of which its settings have several values.
    pub fn gridded(&self) -> Vec<&'static str> {
        let differs = |key: &str| {
            let first = self.settings.first().and_then(|settings| settings.option(key));
            self.settings.iter().any(|settings| settings.option(key) != first)
        };
        self.optimizer.options().map(|info| info.key).filter(|key| differs(key)).collect()
    }

    /// `lr 0.01, damping 0.001, momentum 0.9`: a setting by what tells it from the others.
    pub fn setting_label(&self, place: usize) -> String {
        self.settings.get(place).map_or_else(String::new, |settings| settings.label_with(&self.gridded()))
    }
}

impl OptimizerSettings {
    /// An optimizer with these values of its options; also how many labels it draws per sample.
    pub fn new(
        name: OptimizerName,
        learning_rate: f64,
        damping: Option<f64>,
        options: impl IntoIterator<Item = (&'static str, OptionValue)>,
    ) -> (Self, Option<usize>) {
        let (mut averaging, mut kfra_aliasing, mut mc_samples) = (Averaging::default(), false, None);
        let mut others = Vec::new();
        for (key, value) in options {
            match (key, value) {
                ("averaging", OptionValue::Averaging(value)) => averaging = value,
                ("kfra_aliasing", OptionValue::Flag(value)) => kfra_aliasing = value,
                ("mc_samples", OptionValue::Count(value)) => mc_samples = Some(value as usize),
                other => others.push(other),
            }
        }
        let options = Options::changed_of(name, others);
        (OptimizerSettings { name, learning_rate, damping, averaging, kfra_aliasing, options }, mc_samples)
    }

    /// `lr 0.01, damping 0.001`, and the options that are not at their defaults, as messages write a setting.
    pub fn label(&self) -> String {
        let options = self.options.changed().map(|(key, value)| format!(", {key} {value}"));
        setting_label(self.learning_rate, self.damping) + &options.collect::<String>()
    }
}

/// [`OptimizerSettings::label`] of its two numbers.
fn setting_label(learning_rate: f64, damping: Option<f64>) -> String {
    match damping {
        Some(damping) => format!("lr {}, damping {}", decimal(learning_rate), decimal(damping)),
        None => format!("lr {}", decimal(learning_rate)),
    }
}

impl RunSettings {
    /// Whether a run of more epochs begins as this one does, so that it can go on from this one's end: the learning rate
    /// follows from the step alone.
    pub fn can_be_continued(&self) -> bool {
        let constant = matches!(self.option("schedule"), None | Some(OptionValue::Schedule(Schedule::Constant)));
        constant && self.problem.limit.is_none()
    }

    /// The value of one of the optimizer's options; nothing where it has no such option.
    pub fn option(&self, key: &str) -> Option<OptionValue> {
        let name = self.optimizer.name;
        name.option(key)?;
        Some(match key {
            "averaging" => OptionValue::Averaging(self.optimizer.averaging),
            "kfra_aliasing" => OptionValue::Flag(self.optimizer.kfra_aliasing),
            "mc_samples" => OptionValue::Count(self.mc_samples as u64),
            _ => self.optimizer.options.get(name, key),
        })
    }

    /// `lr 0.01, damping 0.001, momentum 0.9`: learning rate, damping, and those of these options that it has.
    pub fn label_with(&self, options: &[&str]) -> String {
        let option = |key: &&str| Some(format!(", {key} {}", self.option(key)?));
        setting_label(self.optimizer.learning_rate, self.optimizer.damping)
            + &options.iter().filter_map(option).collect::<String>()
    }

    /// `lr-V[__damping-V]__HASH`: the folder of this setting, below the problem's and the optimizer's.
    ///
    /// V is the shortest decimal that reads back equal, HASH the first eight hex digits of [`RunSettings::digest`].
    pub fn folder(&self) -> String {
        let mut folder = format!("lr-{}", decimal(self.optimizer.learning_rate));
        if let Some(damping) = self.optimizer.damping {
            folder.push_str(&format!("__damping-{}", decimal(damping)));
        }
        format!("{folder}__{}", &self.digest()[..8])
    }

    /// SHA-256, in hex, of [`RunSettings::canonical`].
    pub fn digest(&self) -> String {
        let text = self.canonical();
        hex::encode(Sha256::digest(text.as_bytes()))
    }

    /// JSON with sorted keys of everything that changes the run's numbers apart from its seed, and of nothing else.
    ///
    /// So names and paths are left out, and so is what this optimizer does not use: two runs whose numbers must agree
    /// share a folder.
    pub fn canonical(&self) -> String {
        let problem = &self.problem;
        let mut content = json!({
            "batch_size": problem.batch_size,
            "epochs": problem.epochs,
            "l2": problem.l2,
            "augment": problem.augment,
            "valid_size": problem.valid_size,
            "train_size": problem.train_size,
            "loss": problem.loss,
            "reduction": problem.reduction,
            "layers": problem.layers,
            "data": self.data_fingerprint,
            "optimizer": self.optimizer.name,
            "learning_rate": self.optimizer.learning_rate,
            "threads": self.threads,
            // Which of several equal devices it is does not change the numbers.
            "device": self.device.split(':').next(),
        });
        let name = self.optimizer.name;
        if let Value::Object(content) = &mut content {
            if let Some(limit) = problem.limit {
                content.insert("epochs".into(), json!(limit));
            }
            // Keys that came later are in it where they say something else than before, so that old runs stay valid.
            if !problem.drop_last {
                content.insert("drop_last".into(), json!(false));
            }
            if !problem.targets.is_default() {
                content.insert("targets".into(), json!(problem.targets));
            }
            if let Some(weights) = &self.weights_fingerprint {
                content.insert("weights".into(), json!(weights));
            }
            if name.has_damping() {
                content.insert("damping".into(), json!(self.optimizer.damping));
                content.insert("averaging".into(), json!(self.optimizer.averaging));
                content.insert("chunk_bytes".into(), json!(self.chunk_bytes));
            }
            for (key, value) in self.optimizer.options.changed() {
                content.insert(key.into(), json!(value));
            }
            if name.samples_labels() {
                content.insert("mc_samples".into(), json!(self.mc_samples));
            }
            if name.option("kfra_aliasing").is_some() {
                content.insert("kfra_aliasing".into(), json!(self.optimizer.kfra_aliasing));
            }
        }
        sorted(content).to_string()
    }
}

/// The shortest decimal that reads back equal; in scientific notation where it would be very long.
pub fn decimal(value: f64) -> String {
    let plain = value.to_string();
    if plain.len() <= 24 { plain } else { format!("{value:e}") }
}

/// The same value with the keys of every object in lexicographic order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// One run to carry out: its settings and seed, and where things lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunTask {
    /// What decides its numbers.
    pub settings: RunSettings,
    /// The key of all its random streams.
    pub seed: u64,
    /// The folder that holds all runs.
    #[serde(with = "stored_path")]
    pub runs_dir: PathBuf,
    /// Where data lie, if that was said; else they are looked for.
    #[serde(default, with = "stored_path_option")]
    pub data_dir: Option<PathBuf>,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: f64,
    /// Whether the state at its end is kept; it changes no number of the run.
    #[serde(default, skip_serializing_if = "KeepEnd::is_default")]
    pub keep_end: KeepEnd,
    /// Steps from one diagnosis to the next, where there are any; they change no number of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<u64>,
    /// While this file exists, the run is suspended.
    #[serde(default, with = "stored_path_option", skip_serializing_if = "Option::is_none")]
    pub pause_file: Option<PathBuf>,
}

impl RunTask {
    /// The run's folder.
    pub fn folder(&self) -> RunFolder {
        let optimizer = self.settings.optimizer.name.as_str();
        RunFolder::of(&self.runs_dir, &self.settings.problem.name, optimizer, &self.settings.folder(), self.seed)
    }

    /// Whether it may go on from the end of a run of fewer epochs that was kept. A run with diagnostics never does:
    /// measurements of its steps must be of one interval from the first step on.
    pub fn may_go_on_from_shorter(&self) -> bool {
        self.settings.can_be_continued() && self.diagnostics.is_none()
    }

    /// `kfac lr 0.1, damping 1, seed 42`, after the problem's name where that is asked for.
    pub fn label(&self, with_problem: bool) -> String {
        let optimizer = &self.settings.optimizer;
        let problem = if with_problem { format!("{} ", self.settings.problem.name) } else { String::new() };
        format!("{problem}{} {}, seed {}", optimizer.name, optimizer.label(), self.seed)
    }

    /// The same task with paths that hold in any working folder.
    pub fn with_absolute_paths(mut self) -> std::io::Result<Self> {
        self.runs_dir = std::path::absolute(&self.runs_dir)?;
        for path in [&mut self.data_dir, &mut self.pause_file] {
            *path = path.as_deref().map(|path: &Path| std::path::absolute(path)).transpose()?;
        }
        Ok(self)
    }
}

/// The data set that was loaded last: the runs of a grid share it.
#[derive(Debug, Default)]
pub struct DataCache(Option<(DataSource, Option<std::path::PathBuf>, DataSet)>);

impl DataCache {
    /// The task's data set, in memory.
    ///
    /// # Errors
    /// As [`data::load`]; [`Error::Environment`] where the data are not those that the run was planned with: its folder is named
    /// after their content.
    pub fn get(&mut self, task: &RunTask) -> Result<&DataSet> {
        let source = &task.settings.problem.dataset;
        let kept = self.0.take().filter(|(kept, folder, _)| kept == source && *folder == task.data_dir);
        let entry = match kept {
            Some(kept) => kept,
            None => {
                let folders = DataFolders::from_choice(task.data_dir.as_deref());
                (source.clone(), task.data_dir.clone(), data::load(source, &folders)?)
            }
        };
        if entry.2.fingerprint != task.settings.data_fingerprint {
            return Err(Error::Environment(format!(
                "{}: the content has changed since the run was planned, or other data lie here (`{}`, planned with `{}`); \
                 give the command again, and its runs get folders of their own",
                entry.2.name, entry.2.fingerprint, task.settings.data_fingerprint
            )));
        }
        Ok(&self.0.insert(entry).2)
    }
}
