//! The hidden subcommands, by which the program serves a process that started it: `worker` and `bench-worker`.

use std::path::PathBuf;

use clap::Args;

use super::flags::{chosen_device, open_device};
use crate::bench;
use crate::bench::task::{Subject, Task};
use crate::error::{Error, Result};
use crate::problems::definition;
use crate::signals::Stop;
use crate::study::launch;

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
        (Some(file), Some(index)) => launch::slurm::carry_out_task(&file, index, &stop),
        _ => launch::worker::serve(&stop),
    }
}

// `bench-worker`, hidden: times one pass for each line of stdin, for a process that measures or compares.

/// Answers requests, one a line: warm_up, gradient, pass, forward, own_gradient, channels_last, peak.
#[derive(Args, Clone, Debug)]
pub struct BenchWorkerArgs {
    /// The whole task, as JSON
    #[arg(long, value_name = "JSON", conflicts_with_all = ["problem", "quantity", "optimizer"])]
    task: Option<String>,
    /// The problem
    #[arg(long, value_name = "P", required_unless_present = "task")]
    problem: Option<String>,
    /// The quantity
    #[arg(long, value_name = "Q", conflicts_with = "optimizer")]
    quantity: Option<String>,
    /// The optimizer
    #[arg(long, value_name = "O")]
    optimizer: Option<String>,
    /// The quantity without the gradient
    #[arg(long, requires = "quantity")]
    alone: bool,
    /// Samples in the batch
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch_size: usize,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
}

/// Serves until stdin ends.
pub(super) fn run_bench_worker(args: BenchWorkerArgs) -> Result<()> {
    crate::backpack::keep_memory();
    open_device(None)?;
    let task = match &args.task {
        Some(text) => serde_json::from_str(text).map_err(|error| Error::Usage(format!("--task: {error}")))?,
        None => args.task()?,
    };
    bench::worker::serve(&task, std::io::stdin().lock(), std::io::stdout().lock())
}

impl BenchWorkerArgs {
    fn task(&self) -> Result<Task> {
        let source = self.problem.clone().unwrap_or_default();
        let subject = match (&self.quantity, &self.optimizer) {
            (None, Some(name)) => Subject::step(name)?,
            (name, _) => Subject::quantity(name.as_deref().unwrap_or("grad"))?,
        };
        Ok(Task {
            figure: String::new(),
            problem: definition::load(&source)?.name,
            source,
            subject,
            batch_size: self.batch_size,
            threads: self.threads,
            device: chosen_device(None)?.to_string(),
            include_data: false,
            chunk_bytes: crate::backpack::request::DEFAULT_CHUNK_BYTES,
            alone: self.alone,
        })
    }
}
