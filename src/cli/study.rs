//! `backpack-run study`: grids, the best setting of each, its seeds, and what they come to.

use clap::Args;

use super::flags::StudyFlags;
use super::runs::{self, Shown};
use super::{Global, dry_run, logging, study_table};
use crate::error::Result;
use crate::study::aggregate::Diverged;
use crate::study::conduct::Study;

/// Carries out an experiment file from its grids to its curves.
///
/// For each optimizer on each problem: the grid with grid_seed, the choice of the best setting, and that setting with
/// all seeds. RESULTS/NAME holds curves.csv, seeds.csv, grid.csv, final.csv and meta.json; they are kept up to date while
/// the study is under way. Started again, it skips the runs that are done.
#[derive(Args, Clone, Debug)]
pub struct StudyArgs {
    #[command(flatten)]
    flags: StudyFlags,
    #[command(flatten)]
    retry: runs::RetryFlags,
    #[command(flatten)]
    aggregation: AggregationFlags,
}

/// How seeds are put together.
#[derive(Args, Clone, Debug)]
pub(super) struct AggregationFlags {
    /// What runs that diverged count for in curves over seeds
    #[arg(long, value_enum, default_value_t)]
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
            "the grids run with seed {} (grid_seed), which is none of the seeds of the best settings",
            experiment.grid_seed
        ));
    }
    let results = study.results_in(&args.flags.folders.results(), args.aggregation.diverged)?;
    let (terms, mut shown) = (runs::terms(&args.flags, &args.retry, global)?, Shown::new(global));
    let conclusion = study.carry_out(results, &terms, &mut |event| shown.tell(event))?;
    study_table::conclude(conclusion, &experiment.name, &args.flags)
}
