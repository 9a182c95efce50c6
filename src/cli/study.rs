//! `backpack-run study`: grids, the best setting of each, its seeds, and what they come to.

use clap::Args;

use super::flags::StudyFlags;
use super::logging::Global;
use super::runs::{self, Shown};
use super::{dry_run, logging, study_table};
use crate::error::Result;
use crate::study::aggregate::Diverged;
use crate::study::conduct::Study;

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
    let study = Study::prepare(args.flags.resolve()?, &runs::folders(&args.flags)?)?;
    let experiment = &study.experiment;
    if args.flags.launch.dry_run.is_some() {
        return dry_run::run(experiment, study.stages(args.retry.failed())?, &args.flags);
    }
    if !study.choices().is_empty() && !experiment.seeds.contains(&experiment.grid_seed) && !global.is_quiet() {
        logging::line(&format!(
            "the grids run with seed {} (grid_seed), which is not one of the seeds of the best settings",
            experiment.grid_seed
        ));
    }
    let results = study.results_in(&args.flags.folders.results(), args.aggregation.diverged)?;
    let (terms, mut shown) = (runs::terms(&args.flags, &args.retry, global)?, Shown::new(global));
    let conclusion = study.carry_out(results, &terms, &mut |event| shown.tell(event))?;
    study_table::conclude(conclusion, &experiment.name, &args.flags)
}
