//! `backpack-run grid`: every setting of a grid, and which is the best.

use clap::Args;

use super::flags::StudyFlags;
use super::logging::Global;
use super::runs::{self, Shown};
use super::terminal::print;
use super::{dry_run, grid_table};
use crate::error::Result;
use crate::study::conduct::{Conclusion, Study};

/// Train every setting of a grid and name the best.
///
/// Example: backpack-run grid --problem mnist_logreg --curv kfac --jobs 2
///
/// Without --lr and --damping, the grid is the paper's. --search draws settings from its range instead; --halving trains all
/// settings for a few epochs and only the best of them for longer. Runs that are done are skipped, and an interrupted run
/// resumes from its last checkpoint.
#[derive(Args, Clone, Debug)]
pub struct GridArgs {
    #[command(flatten)]
    flags: StudyFlags,
    #[command(flatten)]
    retry: runs::RetryFlags,
}

/// Carries the grid out and prints its table.
pub(super) fn run(args: GridArgs, global: &Global) -> Result<()> {
    let study = Study::of_grids(args.flags.resolve()?, &runs::folders(&args.flags)?)?;
    if args.flags.launch.dry_run.is_some() {
        let stages = study.grid_stages(args.retry.failed())?;
        return dry_run::run(&study.experiment.without_seeds(), stages, &args.flags);
    }
    let (terms, mut shown) = (runs::terms(&args.flags, &args.retry, global)?, Shown::new(global));
    let Conclusion { results, failure } = study.carry_out_grids(&terms, &mut |event| shown.tell(event))?;
    // What the other runs have found out is worth a table though some failed.
    if failure.is_none() || results.iter().any(|result| !result.ranking.is_empty()) {
        print(&grid_table::render(&results, args.flags.output.format)?)?;
    }
    failure.map_or(Ok(()), Err)
}
