//! The dry run: what a study would run, stage by stage, and what that would cost, from timing a few real steps.

use std::path::Path;
use std::time::{Duration, Instant};

use super::collect::GridResult;
use super::experiment::Select;
use super::launch::memory;
use super::prepare::{self, Prepared};
use super::results::PairResult;
use super::run::{DataCache, Step, Trainer};
use super::settings::RunTask;
use super::standing::{self, Planned, Standing};
use super::store::end;
use crate::backpack::memory::check_room;
use crate::backpack::{forget_kept_memory, keep_memory};
use crate::error::{IoContext, Result};
use crate::problems::data::Part;
use crate::problems::definition::Limit;
use crate::{process_memory, runtime};

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
    /// As [`standing::plan`].
    pub fn new(title: &str, known: Vec<RunTask>, stand_ins: Vec<RunTask>, retry_failed: bool) -> Result<Self> {
        let later =
            stand_ins.into_iter().map(|task| Planned { task, standing: Standing::ToDo, unsealed: false }).collect();
        Ok(Stage { title: title.to_owned(), planned: standing::plan(known, retry_failed)?, later })
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
        let levels = prepare::rungs(pair.grid.settings.len(), result.epochs(), pair.halving);
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
            keep_memory();
        }
        for run in to_do {
            match costs.iter_mut().find(|cost| cost.is_of(&run.task)) {
                Some(cost) => cost.runs += 1,
                None => {
                    let settings = &run.task.settings;
                    let (problem, optimizer) = (settings.problem.name.clone(), settings.optimizer.name.to_string());
                    let (epochs, limit) = (settings.problem.epochs, settings.problem.limit);
                    let estimate = estimate(&run.task, &mut cache);
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
            free_disk: free_disk(&first.task.runs_dir).ok(),
        })
    }

    /// What each run of a stage that is to be carried out costs; nothing where that of some is not known.
    fn estimates(&self, stage: &Stage) -> Option<Vec<&Estimate>> {
        let of = |run: &Planned| self.costs.iter().find(|cost| cost.is_of(&run.task))?.estimate.as_ref().ok();
        stage.to_do().map(of).collect()
    }
}

// What runs will cost, from timing a few real steps of one of them.

/// Steps before the timing begins.
const WARM_UP: usize = 3;
/// The timing ends after this time or [`MAX_STEPS`].
const TIME: Duration = Duration::from_secs(2);
const MAX_STEPS: usize = 200;
/// Bytes of a row of epochs.csv and of steps.csv, generously.
const EPOCH_ROW: u64 = 200;
const STEP_ROW: u64 = 32;

/// What one run costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Of one step.
    pub step_seconds: f64,
    /// Of one evaluation.
    pub evaluation_seconds: f64,
    /// Steps of one epoch.
    pub steps_per_epoch: usize,
    /// Of the whole run.
    pub seconds: f64,
    /// The most memory that a process with this run takes, the data included; 0 where the system does not tell.
    pub memory_bytes: u64,
    /// On disk while it runs: two checkpoints and the tables.
    pub disk_bytes: u64,
    /// Of these, what stays when it is done.
    pub kept_bytes: u64,
}

/// Makes a few steps of the run and throws them away.
///
/// # Errors
/// Where the data are not at hand, or the run cannot be set up, for want of memory for example.
pub fn estimate(task: &RunTask, cache: &mut DataCache) -> Result<Estimate> {
    let settings = &task.settings;
    // From shapes, before anything of it is allocated.
    check_room(task.label(true), memory::estimate(task)?)?;
    let data = cache.get(task)?;
    forget_kept_memory();
    process_memory::forget_peak();
    let mut trainer = Trainer::new(settings, task.seed, data)?;
    let steps_per_epoch = trainer.steps_per_epoch();
    let order = trainer.train_order(0);
    let mut began = Instant::now();
    let mut timed = 0;
    for step in 0..steps_per_epoch.min(MAX_STEPS + WARM_UP) {
        if step == WARM_UP {
            began = Instant::now();
            timed = 0;
        }
        let taken = trainer.step(&order, 0, step, false)?;
        timed += 1;
        if matches!(taken, Step::Diverged { .. }) || (step >= WARM_UP && began.elapsed() > TIME) {
            break;
        }
    }
    let step_seconds = began.elapsed().as_secs_f64() / timed.max(1) as f64;
    let evaluation_seconds = evaluation(&trainer)?;
    // Steps, and evaluations but for the first.
    let (steps, epochs) = match settings.problem.limit {
        None => (settings.problem.epochs * steps_per_epoch, settings.problem.epochs),
        Some(Limit::Steps(steps)) => (steps as usize, settings.problem.epochs),
        Some(Limit::Seconds(seconds)) => {
            let steps = (seconds / step_seconds).ceil() as usize;
            (steps, steps.div_ceil(steps_per_epoch.max(1)))
        }
    };
    let state = end::bytes(&trainer.state());
    let kept_state = if settings.can_be_continued() && task.keep_end.keeps(state) { state } else { 0 };
    let kept_rows = (epochs as u64 + 1) * EPOCH_ROW + (steps.div_ceil(10) + epochs) as u64 * STEP_ROW;
    let kept_bytes = end::bytes(&trainer.weights()) + kept_state + kept_rows;
    Ok(Estimate {
        step_seconds,
        evaluation_seconds,
        steps_per_epoch,
        seconds: steps as f64 * step_seconds + (epochs + 1) as f64 * evaluation_seconds,
        memory_bytes: process_memory::peak().unwrap_or(0),
        disk_bytes: 2 * state + kept_bytes + kept_rows,
        kept_bytes,
    })
}

/// A whole evaluation's time from two of its batches.
fn evaluation(trainer: &Trainer) -> Result<f64> {
    let feed = trainer.feed();
    let batches: usize =
        [Part::TrainEval, Part::Valid, Part::Test].into_iter().map(|part| feed.evaluation_batches(part)).sum();
    let timed = feed.evaluation_batches(Part::TrainEval).min(2);
    let order = feed.evaluation_order(Part::TrainEval, 0);
    let began = Instant::now();
    for index in 0..timed {
        trainer.measure(&feed.evaluation_batch(Part::TrainEval, &order, 0, index)?)?;
    }
    Ok(began.elapsed().as_secs_f64() / timed.max(1) as f64 * batches as f64)
}

/// Free bytes where `path` will be.
///
/// # Errors
/// Where none of the folders above it can be asked.
fn free_disk(path: &Path) -> Result<u64> {
    let there = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    fs4::available_space(there).at("asking for the free space of", there)
}
