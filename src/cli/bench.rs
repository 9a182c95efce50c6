//! `bench`: what quantities and optimizer steps cost over the plain gradient.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::flags::{Format, OutputFlags, chosen_device, memory_size, open_device};
use super::progress::BenchProgress;
use super::terminal::print;
use super::{bench_table, terminal};
use crate::backpack::memory;
use crate::bench::baseline::{Change, Verdict, compare};
use crate::bench::plan::{Plan, Selection};
use crate::bench::record::{Outputs, Record, read_baseline};
use crate::bench::row::Row;
use crate::bench::run::{Event, run as measure};
use crate::error::{Error, Result};
use crate::report::write_bench_files;
use crate::runtime::{DeviceChoice, program};
use crate::signals::Stop;

/// The largest batch and number of threads that can be asked for.
const MOST: u64 = 1 << 20;

/// Measure what quantities and optimizer steps cost, relative to the gradient.
///
/// Example: backpack-run bench --problem cifar10_3c3d --quantity kfac --batch-size 128
///
/// Without arguments, this measures the paper's Figures 3, 6, 8 and 9 and whole optimizer steps, all in quick sizes and in under
/// ten minutes. The gradient is libtorch's own, and the two are timed alternately in one process. Every row is visited at
/// least four times, each time by a new process, until its ratio is known to --precision. Data are drawn at random, so no data
/// set is needed. docs/benchmarks.md explains how to read the result.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Figures, comma-separated: 3, 6, 8, 9, steps; in the paper's sizes
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    figure: Vec<String>,
    /// Problems, by name or path, comma-separated, instead of the figures' own; without --figure, every quantity on them
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    problem: Vec<String>,
    /// Quantities, comma-separated (see `list quantities`); also `loop`, a loop over the samples, and `all`
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    quantity: Vec<String>,
    /// Optimizers whose steps are measured, comma-separated (see `list optimizers`)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    optimizer: Vec<String>,
    /// Batch sizes, comma-separated, instead of the figures' or the problem's own
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = RangedU64ValueParser::<u64>::new().range(1..=MOST))]
    batch_size: Vec<u64>,
    /// Numbers of threads, comma-separated [default: one per core]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = RangedU64ValueParser::<u64>::new().range(1..=1024))]
    threads: Vec<u64>,
    /// Exactly this many pairs per row, after a warm-up; 1 is a single pass without a warm-up
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..=MOST))]
    rounds: Option<u64>,
    /// Stop visiting a row after four visits once half the width of its ratio's 95 % interval is at most this share of the
    /// ratio [default: 0.02; 0.05 without figures, problems, quantities or optimizers]
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "rounds")]
    precision: Option<f64>,
    /// Time for everything, for example 90s or 10m; every row takes at least one pair [default: 60s per row; 7m without
    /// figures, problems, quantities or optimizers]
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "rounds")]
    time_budget: Option<Duration>,
    /// Memory that a row may take; what needs more is refused, or left out of a figure [default: three quarters of what is
    /// free]
    #[arg(long, value_name = "SIZE", value_parser = memory_size)]
    memory_budget: Option<ByteSize>,
    /// Time fetching the batches too, augmentation included, as the paper did
    #[arg(long)]
    include_data: bool,
    /// A folder for bench.csv and bench.json, rewritten after each visit, and for figures/ and tables/ at the end
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the result to a file that --compare reads
    #[arg(long, value_name = "FILE")]
    save_baseline: Option<PathBuf>,
    /// Compare with such a file, a bench.csv or a bench.json; the exit code is 1 where an interval lies entirely above the
    /// file's
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Where tensors live: cpu, cuda or cuda:INDEX [env: BACKPACK_RUN_DEVICE] [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,
    #[command(flatten)]
    output: OutputFlags,
}

/// Measures and prints the table.
///
/// # Errors
/// [`Error::Failed`] for a regression against the baseline; [`Error::Stopped`] after a signal; what planning, measuring
/// and writing say.
pub(super) fn run(args: BenchArgs, quiet: bool) -> Result<()> {
    let selection = args.selection()?;
    let baseline = args.compare.as_deref().map(|file| read_baseline(file, &selection)).transpose()?;
    let plan = Plan::new(&selection)?;
    let outputs = Outputs { folder: args.out.clone(), baseline: args.save_baseline.clone() };
    let mut record = Record::new(selection.threads[0], &selection.device, plan.left_out.clone());
    // What cannot be written is better known before than after.
    outputs.check_baseline()?;
    outputs.write(&record)?;
    if !quiet {
        terminal::log_line(plan.describe().trim_end());
    }
    let stop = Stop::on_signals()?;
    let program = program()?;
    let mut shown = (!quiet).then(|| BenchProgress::new(plan.tasks.len(), plan.rounds.is_some()));
    let mut tell = |event: Event| {
        if let Some(shown) = &mut shown {
            shown.tell(&event, &mut terminal::log_line);
        }
    };
    let finished = measure(&plan, &mut record, &outputs, &program, &stop, &mut tell);
    drop(shown);
    // What was measured before an error is shown too.
    if let Some(folder) = &args.out {
        write_bench_files(&folder.join("bench.csv"))?;
    }
    print(&bench_table::render(&record, args.output.format)?)?;
    if !finished? {
        let place = args.out.map_or_else(String::new, |folder| format!("; they are in {}", folder.display()));
        let (done, all) = (record.rows.len(), plan.tasks.len());
        return Err(Error::Stopped(format!(
            "interrupted; {done} of {all} rows have been visited at least once{place}"
        )));
    }
    outputs.write_baseline(&record)?;
    match baseline {
        Some(baseline) => against(&record.table(), &baseline, args.output.format),
        None => Ok(()),
    }
}

/// Tells what has changed since the baseline.
fn against(rows: &[Row], baseline: &[Row], format: Format) -> Result<()> {
    let changes = compare(rows, baseline);
    if changes.is_empty() {
        return Err(Error::Usage(
            "--compare: the file holds none of these rows; figure, problem, quantity, batch size and threads must match"
                .into(),
        ));
    }
    let text = bench_table::changes(&changes, rows.len());
    match format {
        Format::Table => print(&format!("\n{text}"))?,
        _ => terminal::log_line(text.trim_end()),
    }
    let slower: Vec<&Change> = changes.iter().filter(|change| change.verdict == Verdict::Slower).collect();
    match slower.len() {
        0 => Ok(()),
        count => Err(Error::Failed(format!("{count} of {} rows became slower than the baseline", changes.len()))),
    }
}

impl BenchArgs {
    fn selection(&self) -> Result<Selection> {
        let device = self.device;
        open_device(device)?;
        let words = |list: &[String]| list.iter().map(|word| word.trim().to_owned()).collect();
        let mut threads: Vec<usize> = self.threads.iter().map(|threads| *threads as usize).collect();
        if threads.is_empty() {
            threads.push(std::thread::available_parallelism().map_or(1, |cores| cores.get()));
        }
        let memory = self.memory_budget.map_or_else(memory::default_budget, |budget| Ok(budget.as_u64()))?;
        Ok(Selection {
            figures: words(&self.figure),
            problems: words(&self.problem),
            quantities: words(&self.quantity),
            optimizers: words(&self.optimizer),
            batch_sizes: self.batch_size.iter().map(|size| *size as usize).collect(),
            threads,
            rounds: self.rounds.map(|rounds| rounds as usize),
            precision: self.precision,
            time: self.time_budget,
            memory,
            include_data: self.include_data,
            device: chosen_device(device)?.to_string(),
        })
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "expected a number between 0 and 1".to_owned())
}

/// Seconds as a number, or a time with units.
fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .or_else(|| humantime::parse_duration(text).ok())
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "expected a time above 0, for example 90s or 10m".to_owned())
}
