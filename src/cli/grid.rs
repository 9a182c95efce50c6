//! `backpack-run grid`: every setting of a grid, and which is the best.

use clap::Args;

use super::flags::StudyFlags;
use super::runs::{self, Runner};
use super::{Global, dry_run, grid_table, print};
use crate::error::{Error, Result};
use crate::study::collect::GridResult;
use crate::study::prepare;

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
    let experiment = args.flags.resolve()?;
    let folders = runs::folders(&args.flags)?;
    let prepared = prepare::prepare(&experiment, &experiment.pairs(), &experiment.grid_seeds(), &folders)?;
    let grids: Vec<_> = prepared.iter().collect();
    if args.flags.launch.dry_run.is_some() {
        let stages = dry_run::grid_stages(&grids, experiment.select, &args.retry)?;
        return dry_run::run(&experiment.without_seeds(), &stages, &args.flags);
    }
    let runner = Runner::new(&args.flags, &args.retry, global)?;
    let outcome = runner.carry_out_grids(&grids, experiment.select, &mut |_| ());
    if matches!(outcome, Err(Error::Interrupted | Error::Environment(_))) {
        return outcome;
    }
    let results =
        prepared.iter().map(|pair| GridResult::collect(pair, experiment.select)).collect::<Result<Vec<_>>>()?;
    // What the other runs have found out is worth a table though some failed.
    if outcome.is_ok() || results.iter().any(|result| !result.ranking.is_empty()) {
        print(&grid_table::render(&results, args.flags.output.format)?)?;
    }
    outcome
}
