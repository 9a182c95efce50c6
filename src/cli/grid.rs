//! `backpack-run grid`: every setting of a grid, and which is the best.

use clap::Args;

use super::flags::StudyFlags;
use super::{Global, dry_run, grid_table, print, runs};
use crate::error::{Error, Result};
use crate::study::collect::GridResult;
use crate::study::prepare::{self, Prepared, run_folder};

/// Trains every setting of the grid of each optimizer on each problem, and names the best.
///
/// Without --lr and --damping the grid is the paper's. Runs that have their results are skipped; a run that was
/// interrupted goes on from its last checkpoint.
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
    let folders = runs::folders(&args.flags);
    let prepared = prepare::prepare(&experiment, &experiment.pairs(), &experiment.grid_seeds(), &folders)?;
    let planned = runs::plan(&prepared, &args.retry)?;
    if args.flags.launch.dry_run {
        return dry_run::run(&experiment, &planned, &args.flags);
    }
    let outcome = runs::carry_out(planned, &args.flags, global);
    if matches!(outcome, Err(Error::Interrupted | Error::Environment(_))) {
        return outcome;
    }
    // What the other runs have found out is worth a table though some failed.
    let mut results = Vec::new();
    for Prepared { grid, seeds, .. } in prepared {
        let folder = |settings: &_, seed| run_folder(&folders, settings, seed);
        results.push(GridResult::collect(grid, &seeds, experiment.select, folder)?);
    }
    print(&grid_table::render(&results, args.flags.output.format)?)?;
    outcome
}
