//! `bench-worker`, hidden: times one pass for each line of stdin, for a process that measures or compares.

use clap::Args;

use super::flags::{chosen_device, open_device};
use crate::bench::subject::Subject;
use crate::bench::task::Task;
use crate::bench::worker;
use crate::error::{Error, Result};
use crate::problems::definition;

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
pub(super) fn run(args: BenchWorkerArgs) -> Result<()> {
    crate::backpack::keep_memory();
    open_device(None)?;
    let task = match &args.task {
        Some(text) => serde_json::from_str(text).map_err(|error| Error::Usage(format!("--task: {error}")))?,
        None => args.task()?,
    };
    worker::serve(&task, std::io::stdin().lock(), std::io::stdout().lock())
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
