//! `backpack-run seeds`: the best setting of a finished grid, with all seeds.

use std::ffi::OsString;

use clap::Args;

use super::flags::StudyFlags;
use super::runs::{self, Shown};
use super::study::AggregationFlags;
use super::terminal::Global;
use super::{dry_run, study};
use crate::error::{Error, Result};
use crate::study::conduct::Study;
use crate::study::results::PairResult;
use crate::words::{count, shell_quoted};

/// Train the best setting of a finished grid with ten seeds.
///
/// Example: backpack-run seeds --problem mnist_logreg --curv kfac --jobs 2
///
/// Give the grid's own flags: they say which grid it is. --seeds are the seeds of the best setting (42..51 by default); a run
/// that the grid has already done is not repeated. Medians and quartiles go to RESULTS/PROBLEM__OPTIMIZER, or to the folder
/// named in the experiment file.
#[derive(Args, Clone, Debug)]
pub struct SeedsArgs {
    #[command(flatten)]
    aggregation: AggregationFlags,
    #[command(flatten)]
    flags: StudyFlags,
    #[command(flatten)]
    retry: runs::RetryFlags,
}

/// Carries the runs out and prints what they come to.
pub(super) fn run(args: SeedsArgs, global: &Global) -> Result<()> {
    let study = Study::prepare(args.flags.resolve()?, &runs::folders(&args.flags)?)?;
    if let Some(pair) = study.collect()?.iter().find(|pair| !pair.is_decided()) {
        return Err(not_finished(pair));
    }
    if args.flags.launch.dry_run.is_some() {
        let stage = study.seed_stage(args.retry.failed())?;
        return dry_run::run(&study.experiment, vec![stage], &args.flags);
    }
    let (all, diverged) = (args.flags.folders.results(), args.aggregation.diverged);
    let is_named = args.flags.experiment_file().is_some() || args.flags.sets("name");
    let results = match is_named {
        true => study.results_in(&all, diverged)?,
        false => study.results_by_pair(&all, diverged)?,
    };
    let (terms, mut shown) = (runs::terms(&args.flags, &args.retry, global)?, Shown::new(global));
    let conclusion = study.carry_out_seeds(results, &terms, &mut |event| shown.tell(event))?;
    study::conclude(conclusion, &study.experiment.name, &args.flags)
}

fn not_finished(pair: &PairResult) -> Error {
    let runs: usize = pair.grid.rungs.iter().map(Vec::len).sum();
    let missing: usize = pair.grid.unfinished.iter().sum();
    let command = grid_command(std::env::args_os().skip(1));
    let rungs = if pair.grid.rungs.len() > 1 { " so far" } else { "" };
    Error::Usage(format!(
        "{}: the grid is not finished: {} of {}{rungs} have a result, and the best setting is not known. Run it first:\n  \
         backpack-run {command}",
        pair.name(),
        runs - missing.min(runs),
        count(runs, "run"),
    ))
}

/// The command line of the grid: this one's, without what only `seeds` takes.
fn grid_command(arguments: impl IntoIterator<Item = OsString>) -> String {
    let mut words = Vec::new();
    let mut is_value = false;
    let mut is_named = false;
    for argument in arguments {
        let argument = argument.to_string_lossy().into_owned();
        if std::mem::take(&mut is_value) {
            continue;
        }
        if let "--seeds" | "--seed" | "--diverged" = argument.as_str() {
            is_value = true;
        } else if !is_named && argument == "seeds" {
            is_named = true;
            words.push("grid".to_owned());
        } else if !["--seeds=", "--seed=", "--diverged="].iter().any(|flag| argument.starts_with(flag)) {
            words.push(shell_quoted(&argument));
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_named_by_its_own_command_line() {
        let command = |line: &[&str]| grid_command(line.iter().map(OsString::from));
        assert_eq!(
            command(&[
                "-q",
                "seeds",
                "--curv",
                "kfac",
                "--lr",
                "logspace(-4, 0, 5)",
                "--seeds",
                "42..44",
                "--diverged=drop"
            ]),
            "-q grid --curv kfac --lr 'logspace(-4, 0, 5)'"
        );
        assert_eq!(command(&["seeds", "it's.toml", "--seed=1"]), "grid \"it's.toml\"");
    }
}
