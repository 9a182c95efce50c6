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

/// What the seeds will be, as far as the best settings are known. The grid's own runs of a best setting that is yet to be
/// found are none of them.
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
            false => {
                let new: Vec<u64> = seeds.iter().copied().filter(|seed| !prepared.seeds.contains(seed)).collect();
                later.extend(prepared.runs_with(0, &new));
            }
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

impl Cost {
    /// Whether it is what this run costs.
    fn is_of(&self, run: &RunTask) -> bool {
        let (problem, optimizer) = (&run.settings.problem, &run.settings.optimizer);
        self.problem == problem.name && self.optimizer == optimizer.name.as_str() && self.epochs == problem.epochs
    }
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
            match costs.iter_mut().find(|cost| cost.is_of(&run.task)) {
                Some(cost) => cost.runs += 1,
                None => {
                    let settings = &run.task.settings;
                    let (problem, optimizer) = (settings.problem.name.clone(), settings.optimizer.name.to_string());
                    let (epochs, limit) = (settings.problem.epochs, settings.problem.limit);
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

    /// All runs together, stage after stage, with so many at a time; nothing where there is nothing to do, or the cost of
    /// some is not known.
    pub fn total(&self, jobs: usize) -> Option<Total> {
        let stages: Option<Vec<Vec<&Estimate>>> = self.stages.iter().map(|stage| self.estimates(stage)).collect();
        let stages: Vec<Vec<&Estimate>> = stages?.into_iter().filter(|runs| !runs.is_empty()).collect();
        let first = self.stages.iter().flat_map(Stage::to_do).next()?;
        let seconds = |runs: &Vec<&Estimate>| {
            let all: f64 = runs.iter().map(|run| run.seconds).sum();
            let longest = runs.iter().map(|run| run.seconds).fold(0.0, f64::max);
            // No more run at the same time than there are, and none is shared.
            (all / jobs.min(runs.len()) as f64).max(longest)
        };
        // The most that runs at the same time take of something; those of different stages are never at it together.
        let most = |of: fn(&Estimate) -> u64| {
            let of_stage = |runs: &Vec<&Estimate>| {
                let mut each: Vec<u64> = runs.iter().map(|run| of(run)).collect();
                each.sort_unstable_by_key(|amount| std::cmp::Reverse(*amount));
                each.iter().take(jobs).sum::<u64>()
            };
            stages.iter().map(of_stage).max().unwrap_or(0)
        };
        let kept: u64 = stages.iter().flatten().map(|run| run.kept_bytes).sum();
        Some(Total {
            seconds: stages.iter().map(seconds).sum(),
            memory_bytes: most(|run| run.memory_bytes),
            // All runs' results, and the checkpoints of those that run at the same time.
            disk_bytes: kept + most(|run| run.disk_bytes - run.kept_bytes),
            free_disk: estimate::free_disk(&first.task.runs_dir).ok(),
        })
    }

    /// What each run of a stage that is to be carried out costs; nothing where that of some is not known.
    fn estimates(&self, stage: &Stage) -> Option<Vec<&Estimate>> {
        let of = |run: &Planned| self.costs.iter().find(|cost| cost.is_of(&run.task))?.estimate.as_ref().ok();
        stage.to_do().map(of).collect()
    }
}
