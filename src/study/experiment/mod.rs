//! What an experiment is: problems, optimizers with their grids, seeds and selection, all resolved.

mod keys;
mod options;
mod problems;
mod render;
mod resolve;
mod search;
mod select;

pub(crate) use keys::reserved_keys;
pub use keys::{
    DAMPING, ExperimentKeys, GridKeys, LEARNING_RATE, MAX_BUDGET, MAX_HALVING, MAX_THREADS, SelectKeys, fits_damping,
    fits_learning_rate,
};
pub use options::OptionKeys;
pub use problems::ProblemChoice;
pub use render::stored;
pub use resolve::{DEFAULT_CHECKPOINT_SECONDS, DEFAULT_GRID_SEED, Request, resolve};
pub use search::{Point, Search, SearchKind};
pub use select::{Metric, Select, SelectMode, Target, TargetKeys, TargetValue};

use crate::error::{Error, Result};
use crate::optimizers::{OptimizerName, OptionValue};
use crate::problems::definition::ProblemDefinition;
use crate::study::axes::ends;
use crate::study::settings::{Grid, OptimizerSettings, Ranges, RunSettings};
use crate::study::store::KeepEnd;

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
    /// Labels drawn per sample, where the optimizer samples any and says no other number.
    pub mc_samples: usize,
    /// `cpu`, `cuda` or `cuda:INDEX`.
    pub device: String,
    /// The budget by which a pass is cut into chunks, in bytes.
    pub chunk_bytes: u64,
    /// Seconds between checkpoints of a run.
    pub checkpoint_seconds: f64,
    /// Which runs keep the state at their ends, from which runs of more epochs go on.
    pub keep_end: KeepEnd,
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
    /// What runs are to reach.
    pub target: Option<Target>,
    /// How many further tunings are drawn from each finished grid.
    pub tuning_repeats: Option<usize>,
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
    /// What it is called in tables and figures, if not by its own name.
    pub label: Option<String>,
    /// The learning rates, in the order given.
    pub learning_rates: Vec<f64>,
    /// The dampings, in the order given; empty for the baselines.
    pub dampings: Vec<f64>,
    /// Each of its options with the values to try, in the order given.
    pub options: Vec<(&'static str, Vec<OptionValue>)>,
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
        let options = self.options.iter().map(|(_, values)| values.len());
        let axes = [self.learning_rates.len(), self.dampings.len().max(1)].into_iter().chain(options);
        axes.fold(1, usize::saturating_mul)
    }

    /// Whether it is one of those that curvature rules are compared with: it has no damping.
    pub fn is_baseline(&self) -> bool {
        !self.name.has_damping()
    }

    /// The name in tables and figures.
    pub fn title(&self) -> &str {
        self.label.as_deref().unwrap_or(self.name.title())
    }

    /// The values of one of its options; none where it has no such option.
    pub fn values(&self, key: &str) -> &[OptionValue] {
        self.options.iter().find(|(known, _)| *known == key).map_or(&[], |(_, values)| values)
    }

    /// Whether it is run on the problem of this name.
    pub fn is_for(&self, problem: &str) -> bool {
        self.problems.as_ref().is_none_or(|names| names.iter().any(|name| name == problem))
    }

    /// Its settings: learning rates outside, dampings inside, then the options.
    pub fn settings(&self) -> Vec<OptimizerSettings> {
        self.points().iter().map(|point| self.setting(point).0).collect()
    }

    /// The points of its grid: learning rates outside, dampings inside, and within them the options, the last one
    /// innermost.
    fn points(&self) -> Vec<Point> {
        let dampings: Vec<Option<f64>> =
            if self.dampings.is_empty() { vec![None] } else { self.dampings.iter().copied().map(Some).collect() };
        let mut choices: Vec<Vec<usize>> = vec![Vec::new()];
        for (_, values) in &self.options {
            let longer =
                |choice: &Vec<usize>| (0..values.len()).map(|place| [choice.as_slice(), &[place]].concat()).collect();
            choices = choices.iter().flat_map::<Vec<_>, _>(longer).collect();
        }
        let mut points = Vec::new();
        for &learning_rate in &self.learning_rates {
            for &damping in &dampings {
                points.extend(choices.iter().map(|choice| Point { learning_rate, damping, options: choice.clone() }));
            }
        }
        points
    }

    /// The setting at a point of it, and the labels that it draws per sample.
    fn setting(&self, point: &Point) -> (OptimizerSettings, Option<usize>) {
        let chosen =
            self.options.iter().zip(&point.options).map(|((key, values), &place)| (*key, values[place].clone()));
        OptimizerSettings::new(self.name, point.learning_rate, point.damping, chosen)
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
        let ranges = Ranges {
            learning_rate: ends(learning_rates.iter().copied()),
            damping: (!dampings.is_empty()).then(|| ends(dampings.iter().copied())),
        };
        let points = match self.search {
            None => optimizer.points(),
            Some(search) => {
                let sizes: Vec<usize> = optimizer.options.iter().map(|(_, values)| values.len()).collect();
                let points = search.points(self.grid_seed, &learning_rates, &dampings, &sizes);
                learning_rates = points.iter().map(|point| point.learning_rate).collect();
                dampings = points.iter().filter_map(|point| point.damping).collect();
                points
            }
        };
        let settings = points.iter().map(|point| {
            let (optimizer, mc_samples) = optimizer.setting(point);
            RunSettings {
                problem: problem.clone(),
                data_fingerprint: data.fingerprint.clone(),
                weights_fingerprint: data.weights.clone(),
                optimizer,
                threads: self.threads,
                mc_samples: mc_samples.unwrap_or(self.mc_samples),
                device: self.device.clone(),
                chunk_bytes: self.chunk_bytes,
            }
        });
        let settings = settings.collect();
        let (label, search) = (optimizer.label.clone(), self.search);
        Grid { optimizer: optimizer.name, label, learning_rates, dampings, search, ranges, settings }
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
        let numbers = [("--lr", optimizer.learning_rates.len()), ("--damping", optimizer.dampings.len())];
        let options = optimizer.options.iter().map(|(key, values)| (*key, values.len()));
        if let Some((what, count)) = numbers.into_iter().chain(options).find(|(_, count)| *count > 1) {
            return Err(Error::Usage(format!(
                "train runs one setting, but {what} has {count} values for {}: give one, or use grid",
                optimizer.name
            )));
        }
        Ok((problem, optimizer))
    }
}
