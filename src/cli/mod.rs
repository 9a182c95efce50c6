//! The command line: each subcommand from arguments to a library call to its rendering, related ones in one file.

mod bench;
mod bench_table;
mod check;
mod choices;
mod data;
mod doctor;
mod dry_run;
pub mod extract;
pub mod extract_args;
mod extract_parts;
pub mod flags;
mod generated;
mod grid;
pub mod import;
mod list;
mod progress;
mod random_nets;
mod report;
mod results;
mod runs;
mod samples;
mod seeds;
mod spectrum;
mod status;
mod study;
mod tables;
mod terminal;
mod train;
#[cfg(test)]
mod widths;
mod worker;

use std::ffi::OsString;
use std::io::Write;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::{EXIT_ENVIRONMENT, EXIT_OK, EXIT_USAGE, Error, IoContext, Result};
use crate::panics::caught;
use crate::provenance::{TCH_VERSION, libtorch_version};
use crate::registry::Registry;
use terminal::Global;

/// Individual gradients, variances and curvature from one backward pass, and optimizer studies built on them.
#[derive(Parser)]
#[command(name = "backpack-run", version = version(), propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What each does is said at its arguments: a comment here would take the place of all that `--help` says of it.
#[derive(Subcommand)]
enum Command {
    Grid(grid::GridArgs),
    Train(train::TrainArgs),
    Seeds(seeds::SeedsArgs),
    Study(study::StudyArgs),
    Status(status::StatusArgs),
    Report(report::ReportArgs),
    Results(results::ResultsArgs),
    Extract(Box<extract_args::ExtractArgs>),
    Merge(extract_parts::MergeArgs),
    Spectrum(Box<spectrum::SpectrumArgs>),
    Import(import::ImportArgs),
    Data(data::DataArgs),
    List(list::ListArgs),
    Check(check::CheckArgs),
    Bench(bench::BenchArgs),
    Doctor(doctor::DoctorArgs),
    Completions(generated::CompletionsArgs),
    Man(generated::ManArgs),
    /// Carry out runs for a parent process
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
    /// Time one pass for each line of stdin
    #[command(hide = true)]
    BenchWorker(worker::BenchWorkerArgs),
}

fn version() -> String {
    format!("{} (tch {TCH_VERSION}, libtorch {})", env!("CARGO_PKG_VERSION"), libtorch_version())
}

/// Installs the registry, parses the arguments, carries out the subcommand, and gives the exit code. Errors are printed on
/// stderr.
pub(crate) fn main(registry: Registry, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    if let Err(error) = registry.install() {
        terminal::log_line(&format!("error: {error}"));
        return error.exit_code();
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            return match printed {
                _ if error.use_stderr() => EXIT_USAGE,
                Err(failure) if failure.kind() != std::io::ErrorKind::BrokenPipe => {
                    terminal::log_line(&format!("error: stdout: writing failed: {failure}"));
                    EXIT_ENVIRONMENT
                }
                _ => EXIT_OK,
            };
        }
    };
    terminal::start_logging(cli.global.verbosity());
    // A worker that lacks memory ends as one that crashes: its parent tells so.
    let is_worker = matches!(cli.command, Command::Worker(_));
    let outcome = if is_worker { run(cli) } else { caught(|| run(cli)) };
    match outcome.and_then(|()| std::io::stdout().flush().at("writing", "stdout")) {
        Ok(()) => EXIT_OK,
        // A process of the benchmark whose parent is gone; `print` has answered for all results.
        Err(Error::Io { path, source, .. })
            if path.as_os_str() == "stdout" && source.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            EXIT_OK
        }
        Err(error) => {
            terminal::log_line(&format!("error: {error}"));
            error.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let global = cli.global;
    match cli.command {
        Command::Grid(args) => grid::run(args, &global),
        Command::Train(args) => train::run(args, &global),
        Command::Seeds(args) => seeds::run(args, &global),
        Command::Study(args) => study::run(args, &global),
        Command::Status(args) => status::run(args),
        Command::Data(args) => data::run(args, global.is_quiet()),
        Command::Report(args) => report::run(args),
        Command::Results(args) => results::run(args),
        Command::Extract(args) => extract::run(*args),
        Command::Merge(args) => extract_parts::run_merge(&args),
        Command::Spectrum(args) => spectrum::run(*args),
        Command::Import(args) => import::run(args),
        Command::List(args) => list::run(args),
        Command::Check(args) => check::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => generated::completions(args, Cli::command()),
        Command::Man(args) => generated::manual(args, Cli::command()),
        Command::Worker(args) => worker::run(args),
        Command::Bench(args) => bench::run(args, global.is_quiet()),
        Command::BenchWorker(args) => worker::run_bench_worker(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
