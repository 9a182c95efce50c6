//! What runs will cost, from timing a few real steps of one of them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::launch::memory;
use super::run::{DataCache, Step, Trainer};
use super::store::end;
use super::task::RunTask;
use crate::backpack::{self, memory as room};
use crate::error::{IoContext, Result};
use crate::problems::data::Part;
use crate::problems::definition::Limit;
use crate::process_memory;

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
    room::check_room(task.label(true), memory::estimate(task)?)?;
    let data = cache.get(task)?;
    backpack::forget_kept_memory();
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
pub fn free_disk(path: &Path) -> Result<u64> {
    let there = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    fs4::available_space(there).at("asking for the free space of", there)
}
