//! `backpack-run study`: grids, the best setting of each, its seeds, and what they come to.

use clap::Args;

use super::dry_run::{self, Stage};
use super::flags::StudyFlags;
use super::result_folder::ResultFolders;
use super::runs::{self, Runner};
use super::{Global, logging, study_table};
use crate::error::{Error, Result};
use crate::study::aggregate::Diverged;
use crate::study::experiment::Experiment;
use crate::study::prepare::{self, Prepared};
use crate::study::results::{PairResult, collect_all};
use crate::study::task::RunTask;

/// Run an experiment file: its grids, then the best settings with all seeds.
///
/// Example: backpack-run study configs/fig10_quick.toml --jobs 2
///
/// For each optimizer on each problem, this runs the grid with grid_seed, picks the best setting, and runs that setting with
/// all seeds. RESULTS/NAME holds curves.csv, seeds.csv, grid.csv, final.csv and meta.json, which are kept up to date while the
/// study is running. Started again, it skips the runs that are done. `report NAME` then makes a page of the results.
#[derive(Args, Clone, Debug)]
pub struct StudyArgs {
    #[command(flatten)]
    aggregation: AggregationFlags,
    #[command(flatten)]
    flags: StudyFlags,
    #[command(flatten)]
    retry: runs::RetryFlags,
}

/// How seeds are put together.
#[derive(Args, Clone, Debug)]
pub(super) struct AggregationFlags {
    /// How diverged runs count in curves over seeds
    #[arg(long, value_enum, default_value_t, display_order = 900)]
    pub diverged: Diverged,
}

/// Carries the study out and prints its final values.
pub(super) fn run(args: StudyArgs, global: &Global) -> Result<()> {
    let experiment = args.flags.resolve()?;
    let folders = runs::folders(&args.flags)?;
    let prepared = prepare::prepare(&experiment, &experiment.pairs(), &[experiment.grid_seed], &folders)?;
    // Where there is one setting there is nothing to choose.
    let grids: Vec<&Prepared> = prepared.iter().filter(|pair| pair.grid.settings.len() > 1).collect();
    if args.flags.launch.dry_run.is_some() {
        let mut stages = match grids.is_empty() {
            true => Vec::new(),
            false => dry_run::grid_stages(&grids, experiment.select, &args.retry)?,
        };
        stages.push(seed_stage(&experiment, &prepared, &args.retry)?);
        return dry_run::run(&experiment, &stages, &args.flags);
    }
    if !grids.is_empty() && !experiment.seeds.contains(&experiment.grid_seed) && !global.is_quiet() {
        logging::line(&format!(
            "the grids run with seed {} (grid_seed), which is not one of the seeds of the best settings",
            experiment.grid_seed
        ));
    }
    let folder = args.flags.folders.results().join(&experiment.name);
    let mut results = ResultFolders::new(&experiment, &prepared, args.aggregation.diverged);
    results.add(&folder, &experiment.name, 0..prepared.len())?;
    let runner = Runner::new(&args.flags, &args.retry, global)?;
    let outcome = carry_out(&runner, &experiment, &prepared, &grids, &mut results);
    study_table::conclude(outcome, &experiment.name, &mut results, &args.flags)
}

/// All grids together, then all seeds together.
fn carry_out(
    runner: &Runner,
    experiment: &Experiment,
    prepared: &[Prepared],
    grids: &[&Prepared],
    results: &mut ResultFolders,
) -> Result<()> {
    results.write()?;
    let grid_outcome = match grids.is_empty() {
        true => Ok(()),
        false => runner.carry_out_grids(grids, experiment.select, &mut |run| results.ended(run)),
    };
    match grid_outcome {
        Err(Error::Failed(_)) | Ok(()) => {}
        failure => return failure,
    }
    let seeds_outcome = carry_out_seeds(runner, experiment, prepared, results);
    match (grid_outcome, seeds_outcome) {
        (Err(first), Ok(()) | Err(Error::Failed(_))) => Err(first),
        (_, outcome) => outcome,
    }
}

/// The seeds of every best setting that is known, all in one go.
pub(super) fn carry_out_seeds(
    runner: &Runner,
    experiment: &Experiment,
    prepared: &[Prepared],
    results: &mut ResultFolders,
) -> Result<()> {
    let pairs = collect_all(experiment, prepared)?;
    for pair in pairs.iter().filter(|pair| pair.winner.is_none()) {
        let name = pair.name();
        match pair.is_decided() {
            true => tracing::warn!("{name}: every run of the grid diverged, so there is no best setting to rerun"),
            false => tracing::warn!("{name}: the grid has runs without a result, so no best setting is chosen"),
        }
    }
    let tasks: Vec<RunTask> = pairs.into_iter().flat_map(|pair| pair.seeds).map(|run| run.task).collect();
    if tasks.is_empty() {
        return Ok(());
    }
    runner.carry_out(tasks, &mut |run| results.ended(run))
}

/// What the seeds will be, as far as the best settings are known.
pub(super) fn seed_stage(experiment: &Experiment, prepared: &[Prepared], retry: &runs::RetryFlags) -> Result<Stage> {
    let pairs: Vec<PairResult> = collect_all(experiment, prepared)?;
    let (mut known, mut later) = (Vec::new(), Vec::new());
    for (pair, prepared) in pairs.into_iter().zip(prepared) {
        match pair.is_decided() {
            true => known.extend(pair.seeds.into_iter().map(|run| run.task)),
            false => later.extend(prepared.runs_with(0, &experiment.seeds)),
        }
    }
    Stage::new("seeds of the best settings", known, later, retry)
}
