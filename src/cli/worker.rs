//! `backpack-run worker`, hidden: carries out runs for a parent process or for a task of a SLURM array.

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::signals::Stop;
use crate::study::launch::{slurm, worker};

/// Carries out the runs given on stdin, or one run of a file.
#[derive(Args, Clone, Debug)]
pub struct WorkerArgs {
    /// A file with one run a line, of which one is carried out
    #[arg(long, value_name = "FILE", requires = "index")]
    tasks: Option<PathBuf>,
    /// The line, counted from 0
    #[arg(long, value_name = "N", requires = "tasks")]
    index: Option<usize>,
}

/// Carries out the runs.
pub(super) fn run(args: WorkerArgs) -> Result<()> {
    crate::backpack::keep_memory();
    let stop = Stop::on_signals()?;
    match (args.tasks, args.index) {
        (Some(file), Some(index)) => slurm::carry_out_task(&file, index, &stop),
        _ => worker::serve(&stop),
    }
}
