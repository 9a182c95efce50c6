//! What a study would run, stage by stage, and what that would cost: the dry run.

use super::collect::GridResult;
use super::estimate::{self, Estimate};
use super::experiment::Select;
use super::halving;
use super::plan::{self, Planned, Standing};
use super::prepare::Prepared;
use super::results::PairResult;
use super::run::DataCache;
use super::task::RunTask;
use crate::backpack;
use crate::error::Result;
use crate::problems::definition::Limit;
use crate::runtime;

/// Runs that are carried out together.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What they are, where there is more than one stage.
    pub title: String,
    /// The runs that are known.
    pub planned: Vec<Planned>,
    /// In place of runs whose settings follow from earlier stages: the same runs of another setting, which cost as much.
    pub later: Vec<Planned>,
}

impl Stage {
    /// Of `known` runs and of others whose setting is not known yet, for which `stand_ins` are counted and timed.
    ///
    /// # Errors
    /// As [`plan::plan`].
    pub fn new(title: &str, known: Vec<RunTask>, stand_ins: Vec<RunTask>, retry_failed: bool) -> Result<Self> {
        let later =
            stand_ins.into_iter().map(|task| Planned { task, standing: Standing::ToDo, unsealed: false }).collect();
        Ok(Stage { title: title.to_owned(), planned: plan::plan(known, retry_failed)?, later })
    }

    /// How many runs it has.
    pub fn runs(&self) -> usize {
        self.planned.len() + self.later.len()
    }

    fn to_do(&self) -> impl Iterator<Item = &Planned> {
        self.planned.iter().filter(|run| run.standing.is_to_do()).chain(&self.later)
    }
}

/// The stages of grids: one without halving, else one a rung, all grids together.
pub(super) fn grid_stages(grids: &[&Prepared], select: Select, retry_failed: bool) -> Result<Vec<Stage>> {
    let mut stages: Vec<(Vec<RunTask>, Vec<RunTask>)> = Vec::new();
    for pair in grids {
        let result = GridResult::collect(pair, select)?;
        let levels = halving::rungs(pair.grid.settings.len(), result.epochs(), pair.halving);
        for (number, level) in levels.iter().enumerate() {
            if stages.len() == number {
                stages.push(Default::default());
            }
            match result.rungs.get(number) {
                Some(rung) => stages[number].0.extend(rung.iter().cloned()),
                None => stages[number].1.extend((0..level.settings).flat_map(|place| pair.runs(place, level.epochs))),
            }
        }
    }
    let several = stages.len() > 1;
    let title = |number: usize| if several { format!("grid, rung {}", number + 1) } else { "grid".to_owned() };
    let stages = stages.into_iter().enumerate();
    stages.map(|(number, (known, later))| Stage::new(&title(number), known, later, retry_failed)).collect()
}

/// What the seeds will be, as far as the best settings are known.
pub(super) fn seed_stage(
    pairs: Vec<PairResult>,
    prepared: &[Prepared],
    seeds: &[u64],
    retry_failed: bool,
) -> Result<Stage> {
    let (mut known, mut later) = (Vec::new(), Vec::new());
    for (pair, prepared) in pairs.into_iter().zip(prepared) {
        match pair.is_decided() {
            true => known.extend(pair.seeds.into_iter().map(|run| run.task)),
            false => later.extend(prepared.runs_with(0, seeds)),
        }
    }
    Stage::new("seeds of the best settings", known, later, retry_failed)
}

/// What the runs of one optimizer on one problem cost.
#[derive(Debug)]
pub struct Cost {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's.
    pub optimizer: String,
    /// Epochs of each run.
    pub epochs: usize,
    /// Where they end, if not after a number of epochs.
    pub limit: Option<Limit>,
    /// How many there are.
    pub runs: usize,
    /// That of its first run, or why there is none.
    pub estimate: Result<Estimate>,
}

/// Stages with what they would cost.
#[derive(Debug)]
pub struct Forecast {
    /// The stages.
    pub stages: Vec<Stage>,
    /// One for each pair of problem and optimizer that has something to do, and for each number of epochs.
    pub costs: Vec<Cost>,
}

/// What all runs cost together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Total {
    /// From the first start to the last end.
    pub seconds: f64,
    /// The most memory that those at the same time take, in bytes.
    pub memory_bytes: u64,
    /// The most disk that they take, in bytes.
    pub disk_bytes: u64,
    /// What is free of it, where the system tells.
    pub free_disk: Option<u64>,
}

impl Forecast {
    /// Times a few steps of one run of each kind.
    pub fn of(stages: Vec<Stage>) -> Self {
        let mut cache = DataCache::default();
        let mut costs: Vec<Cost> = Vec::new();
        let to_do: Vec<&Planned> = stages.iter().flat_map(Stage::to_do).collect();
        if let Some(first) = to_do.first() {
            runtime::set_threads(first.task.settings.threads);
            backpack::keep_memory();
        }
        for run in to_do {
            let settings = &run.task.settings;
            let (problem, optimizer) = (settings.problem.name.clone(), settings.optimizer.name.to_string());
            let (epochs, limit) = (settings.problem.epochs, settings.problem.limit);
            let same =
                |cost: &&mut Cost| cost.problem == problem && cost.optimizer == optimizer && cost.epochs == epochs;
            match costs.iter_mut().find(same) {
                Some(cost) => cost.runs += 1,
                None => {
                    let estimate = estimate::estimate(&run.task, &mut cache);
                    costs.push(Cost { problem, optimizer, epochs, limit, runs: 1, estimate });
                }
            }
        }
        Forecast { stages, costs }
    }

    /// How many runs there are.
    pub fn runs(&self) -> usize {
        self.stages.iter().map(Stage::runs).sum()
    }

    /// How many of them are to be carried out.
    pub fn to_do(&self) -> usize {
        self.stages.iter().flat_map(Stage::to_do).count()
    }

    /// All runs together, with so many at a time; nothing where there is nothing to do, or the cost of some is not known.
    pub fn total(&self, jobs: usize) -> Option<Total> {
        let known: Option<Vec<(usize, &Estimate)>> =
            self.costs.iter().map(|cost| Some((cost.runs, cost.estimate.as_ref().ok()?))).collect();
        let known = known.filter(|known| !known.is_empty())?;
        let together = jobs.min(self.to_do()) as u64;
        let first = self.stages.iter().flat_map(Stage::to_do).next();
        // All runs' results, and the checkpoints of those that run at the same time.
        let disk = |(runs, estimate): &(usize, &Estimate)| {
            *runs as u64 * estimate.kept_bytes + jobs.min(*runs) as u64 * (estimate.disk_bytes - estimate.kept_bytes)
        };
        let all: f64 = known.iter().map(|(runs, estimate)| estimate.seconds * *runs as f64).sum();
        let longest = known.iter().map(|(_, estimate)| estimate.seconds).fold(0.0, f64::max);
        Some(Total {
            // No more run at the same time than there are, and none is shared.
            seconds: (all / together as f64).max(longest),
            memory_bytes: known.iter().map(|(_, estimate)| estimate.memory_bytes * together).max().unwrap_or(0),
            disk_bytes: known.iter().map(disk).sum(),
            free_disk: first.and_then(|run| estimate::free_disk(&run.task.runs_dir).ok()),
        })
    }
}
