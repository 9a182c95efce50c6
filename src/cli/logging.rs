//! Logs on stderr, above the progress bars where there are any.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use clap::{ArgAction, Args};
use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::progress::target;
use super::terminal;
use super::typed::typed;

/// What every subcommand understands.
#[derive(Args, Clone, Debug)]
pub(super) struct Global {
    /// Log more; twice: log everything
    #[arg(short, long, action = ArgAction::Count, global = true, help_heading = "Output", display_order = 1000)]
    verbose: u8,
    /// Show no progress and log only warnings; twice: only errors
    #[arg(short, long, action = ArgAction::Count, global = true, conflicts_with = "verbose")]
    #[arg(help_heading = "Output", display_order = 1001)]
    quiet: u8,
}

impl Global {
    /// How much more, or less where negative, is logged than usual.
    pub fn verbosity(&self) -> i32 {
        i32::from(self.verbose) - i32::from(self.quiet)
    }

    /// Whether no progress is shown.
    pub fn is_quiet(&self) -> bool {
        self.quiet > 0
    }

    /// The flags that make a worker log as its parent does.
    pub fn arguments(&self) -> Vec<String> {
        let repeat = |letter: &str, count: u8| (count > 0).then(|| format!("-{}", letter.repeat(count.into())));
        repeat("v", self.verbose).into_iter().chain(repeat("q", self.quiet)).collect()
    }
}

static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// The bars of this process; what is logged is printed above them.
pub fn bars() -> &'static MultiProgress {
    BARS.get_or_init(|| MultiProgress::with_draw_target(target()))
}

/// Prints a line on stderr, above the bars.
pub fn line(text: &str) {
    // A progress that nobody can read is no reason to stop.
    let _ = write(format!("{text}\n").as_bytes());
}

/// Starts logging: `verbosity` 0 tells what matters, 1 and 2 more and everything, -1 warnings, -2 errors alone.
/// RUST_LOG, where it is set, says otherwise.
pub fn start(verbosity: i32) {
    let level = match verbosity {
        ..=-2 => "error",
        -1 => "warn",
        0 => "warn,backpack_run=info",
        1 => "warn,backpack_run=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .without_time()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(AboveBars)
        .init();
}

struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for AboveBars {
    type Writer = AboveBars;

    fn make_writer(&self) -> AboveBars {
        AboveBars
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut text = typed(&String::from_utf8_lossy(bytes));
    // On a terminal lines end between words.
    if let Some(width) = terminal::error_width() {
        text = terminal::wrapped_lines(&text, Some(width));
    }
    let direct = || io::stderr().lock().write_all(text.as_bytes());
    match BARS.get() {
        Some(bars) => bars.suspend(direct),
        None => direct(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_logs_as_its_parent() {
        assert_eq!(Global { verbose: 2, quiet: 0 }.arguments(), ["-vv"]);
        assert_eq!(Global { verbose: 0, quiet: 1 }.arguments(), ["-q"]);
        assert!(Global { verbose: 0, quiet: 0 }.arguments().is_empty());
    }
}
