//! What an experiment is: problems, optimizers with their grids, seeds and selection, all resolved.

mod file;
mod keys;
mod options;
mod render;
mod resolve;
mod search;
mod select;

pub use keys::{
    DAMPING, ExperimentKeys, GridKeys, LEARNING_RATE, MAX_BUDGET, MAX_HALVING, MAX_THREADS, fits_damping,
    fits_learning_rate,
};
pub use options::OptionKeys;
pub use resolve::{
    DEFAULT_CHECKPOINT_SECONDS, DEFAULT_GRID_SEED, Request, default_dampings, default_learning_rates, resolve,
};
pub use search::{Search, SearchKind};
pub use select::{Metric, Select, SelectMode};

use crate::error::{Error, Result};
use crate::optimizers::{Averaging, CurvatureOptions, OptimizerName};
use crate::problems::definition::ProblemDefinition;
use crate::study::settings::{Grid, OptimizerSettings, RunSettings};

/// An experiment with every value decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// The name of its result folder.
    pub name: String,
    /// The problems, with overridden values in them; their names differ.
    pub problems: Vec<ProblemDefinition>,
    /// The optimizers.
    pub optimizers: Vec<OptimizerGrid>,
    /// Threads a run computes with.
    pub threads: usize,
    /// Labels sampled a data point, where the optimizer samples any.
    pub mc_samples: usize,
    /// `cpu`, `cuda` or `cuda:INDEX`.
    pub device: String,
    /// The budget by which a pass is cut into chunks, in bytes.
    pub chunk_bytes: u64,
    /// Seconds between checkpoints of a run.
    pub checkpoint_seconds: f64,
    /// Steps from one diagnosis of a run to the next, where there are any.
    pub diagnostics: Option<u64>,
    /// The seed of a grid's runs.
    pub grid_seed: u64,
    /// The seeds with which the best setting is run again.
    pub seeds: Vec<u64>,
    /// Seeds given by `--seed`, `--seeds` or `--set seeds=..`; see [`Experiment::grid_seeds`].
    pub given_seeds: Option<Vec<u64>>,
    /// How the best setting is chosen.
    pub select: Select,
    /// Settings drawn from the range of each grid, instead of the full grid.
    pub search: Option<Search>,
    /// Successive halving: of this many settings one goes on to the next rung of epochs.
    pub halving: Option<usize>,
}

/// One optimizer with the values to try.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerGrid {
    /// Which one.
    pub name: OptimizerName,
    /// The learning rates, in the order given.
    pub learning_rates: Vec<f64>,
    /// The dampings, in the order given; empty for the baselines.
    pub dampings: Vec<f64>,
    /// How curvature is averaged over steps; without meaning for the baselines.
    pub averaging: Averaging,
    /// Whether KFRA averages the output-side factor of linear layers twice a step, as the published runs did.
    pub kfra_aliasing: bool,
    /// What the curvature rules do beyond the paper's step.
    pub options: CurvatureOptions,
    /// The names of the problems it is run on; `None` means all.
    pub problems: Option<Vec<String>>,
}

/// What a run needs to know of its data set.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFacts {
    /// What the data set says of its content.
    pub fingerprint: String,
    /// The SHA-256 of the problem's file of initial parameters, where it has one.
    pub weights: Option<String>,
    /// The samples it splits off for validation where the problem does not say.
    pub default_valid_size: usize,
}

impl OptimizerGrid {
    /// How many settings there are.
    pub fn count(&self) -> usize {
        self.learning_rates.len() * self.dampings.len().max(1)
    }

    /// Whether it is run on the problem of this name.
    pub fn is_for(&self, problem: &str) -> bool {
        self.problems.as_ref().is_none_or(|names| names.iter().any(|name| name == problem))
    }

    /// Its settings, learning rates outside, dampings inside.
    pub fn settings(&self) -> Vec<OptimizerSettings> {
        let dampings: Vec<Option<f64>> =
            if self.dampings.is_empty() { vec![None] } else { self.dampings.iter().copied().map(Some).collect() };
        let rates = self.learning_rates.iter();
        rates.flat_map(|&lr| dampings.iter().map(move |&damping| self.setting(lr, damping))).collect()
    }

    /// One setting of it.
    fn setting(&self, learning_rate: f64, damping: Option<f64>) -> OptimizerSettings {
        OptimizerSettings {
            name: self.name,
            learning_rate,
            damping,
            averaging: self.averaging,
            kfra_aliasing: self.kfra_aliasing && self.name == OptimizerName::Kfra,
            options: self.options,
        }
    }
}

impl Experiment {
    /// The pairs of problem and optimizer that it runs, problems outside.
    pub fn pairs(&self) -> Vec<(&ProblemDefinition, &OptimizerGrid)> {
        let optimizers = |problem| self.optimizers.iter().filter(move |grid| grid.is_for(problem));
        self.problems
            .iter()
            .flat_map(|problem| optimizers(&problem.name).map(move |optimizer| (problem, optimizer)))
            .collect()
    }

    /// The settings of one optimizer on one problem: learning rates outside, dampings inside, or as they are drawn.
    pub fn grid(&self, problem: &ProblemDefinition, optimizer: &OptimizerGrid, data: &DataFacts) -> Grid {
        let mut problem = problem.clone();
        problem.valid_size.get_or_insert(data.default_valid_size);
        let (mut learning_rates, mut dampings) = (optimizer.learning_rates.clone(), optimizer.dampings.clone());
        let chosen = match self.search {
            None => optimizer.settings(),
            Some(search) => {
                let points = search.points(self.grid_seed, &learning_rates, &dampings);
                learning_rates = points.iter().map(|(learning_rate, _)| *learning_rate).collect();
                dampings = points.iter().filter_map(|(_, damping)| *damping).collect();
                points.into_iter().map(|(lr, damping)| optimizer.setting(lr, damping)).collect()
            }
        };
        let settings = chosen.into_iter().map(|optimizer| RunSettings {
            problem: problem.clone(),
            data_fingerprint: data.fingerprint.clone(),
            weights_fingerprint: data.weights.clone(),
            optimizer,
            threads: self.threads,
            mc_samples: self.mc_samples,
            device: self.device.clone(),
            chunk_bytes: self.chunk_bytes,
        });
        Grid {
            optimizer: optimizer.name,
            learning_rates,
            dampings,
            drawn: self.search.is_some(),
            settings: settings.collect(),
        }
    }

    /// The seeds of `grid` and `train`: those of the flag, else the grid's one.
    pub fn grid_seeds(&self) -> Vec<u64> {
        self.given_seeds.clone().unwrap_or_else(|| vec![self.grid_seed])
    }

    /// The same for showing what `grid` and `train` run: with the seeds of flags alone, since the others are not for them.
    pub fn without_seeds(&self) -> Self {
        Experiment { seeds: self.given_seeds.clone().unwrap_or_default(), ..self.clone() }
    }

    /// The one problem and the one setting that `train` needs.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the flag that is missing or has several values.
    pub fn single(&self) -> Result<(&ProblemDefinition, &OptimizerGrid)> {
        let pairs = self.pairs();
        let [(problem, optimizer)] = pairs[..] else {
            return Err(Error::Usage(format!(
                "this names {} problem(s) and {} optimizer(s); train needs one of each: give one --problem and one --curv \
                 or --optimizer, or use study or grid",
                self.problems.len(),
                self.optimizers.len()
            )));
        };
        for (flag, values) in [("--lr", &optimizer.learning_rates), ("--damping", &optimizer.dampings)] {
            if values.len() > 1 {
                return Err(Error::Usage(format!(
                    "train runs one setting, and {flag} has {} values for {}: give one, or use grid",
                    values.len(),
                    optimizer.name
                )));
            }
        }
        Ok((problem, optimizer))
    }
}
