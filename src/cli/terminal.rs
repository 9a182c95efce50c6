//! What is printed: on stdout results, at the width of the terminal; on stderr logs, above the progress bars where
//! there are any.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use clap::{ArgAction, Args};
use indicatif::MultiProgress;
use textwrap::{Options, WordSeparator, WordSplitter};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::choices::typed;
use super::progress::target;
use crate::error::{IoContext, Result};

/// The columns that what is printed on stdout has: those of COLUMNS where it is set, else the terminal's; as many as are
/// wanted where stdout is no terminal.
pub(super) fn width() -> Option<usize> {
    // The program's own tests must not depend on where they run.
    #[cfg(test)]
    return WIDTH.get();
    #[cfg(not(test))]
    width_of_stdout()
}

#[cfg(not(test))]
fn width_of_stdout() -> Option<usize> {
    let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    set.or_else(|| {
        let stdout = io::stdout();
        let size = if stdout.is_terminal() { terminal_size::terminal_size_of(stdout) } else { None };
        size.map(|(width, _)| usize::from(width.0))
    })
}

/// The columns of stderr, where it is a terminal.
fn error_width() -> Option<usize> {
    let stderr = io::stderr();
    let size = if stderr.is_terminal() { terminal_size::terminal_size_of(stderr) } else { None };
    size.map(|(width, _)| usize::from(width.0))
}

/// A text in lines that end between words, each with so many spaces before it and the further ones two more.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    wrapped_at(text, indent, width())
}

/// The same at a given width.
pub(super) fn wrapped_at(text: &str, indent: usize, width: Option<usize>) -> String {
    let (first, further) = (" ".repeat(indent), " ".repeat(indent + 2));
    let Some(width) = width else { return format!("{first}{text}\n") };
    let options = Options::new(width)
        .initial_indent(&first)
        .subsequent_indent(&further)
        // A name or a path stays whole, also where it is longer than a line.
        .break_words(false)
        .word_splitter(WordSplitter::NoHyphenation)
        .word_separator(WordSeparator::AsciiSpace);
    textwrap::wrap(text, options).iter().map(|line| format!("{line}\n")).collect()
}

/// Every line of a text as [`wrapped`] makes it; a line's own indent is kept.
fn wrapped_lines(text: &str, width: Option<usize>) -> String {
    let line = |line: &str| {
        let indent = line.len() - line.trim_start_matches(' ').len();
        wrapped_at(&line[indent..], indent, width)
    };
    text.lines().map(line).collect()
}

/// Prints a result.
///
/// Who reads our results may have read enough, as in `backpack-run status | head`: then what the command has come to is
/// still told by its exit code.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.at("writing", "stdout"),
    }
}

#[cfg(test)]
thread_local! {
    static WIDTH: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

/// What a test prints on a terminal with so many columns.
#[cfg(test)]
pub(super) fn at_width(width: Option<usize>, render: &dyn Fn() -> String) -> String {
    WIDTH.set(width);
    let text = render();
    WIDTH.set(None);
    text
}

// Stderr: logs, and the bars below them.

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
pub fn log_line(text: &str) {
    // A progress that nobody can read is no reason to stop.
    let _ = write(format!("{text}\n").as_bytes());
}

/// Starts logging: `verbosity` 0 tells what matters, 1 and 2 more and everything, -1 warnings, -2 errors alone.
/// RUST_LOG, where it is set, says otherwise.
pub fn start_logging(verbosity: i32) {
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
    if let Some(width) = error_width() {
        text = wrapped_lines(&text, Some(width));
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
    fn lines_end_between_words_and_a_long_word_stays_whole() {
        let text = wrapped_at("results in /somewhere/with/a/long-name, of seven runs", 2, Some(20));
        assert_eq!(text, "  results in\n    /somewhere/with/a/long-name,\n    of seven runs\n");
        assert_eq!(wrapped_lines("first line\n  a second line\n", Some(12)), "first line\n  a second\n    line\n");
    }

    #[test]
    fn a_worker_logs_as_its_parent() {
        assert_eq!(Global { verbose: 2, quiet: 0 }.arguments(), ["-vv"]);
        assert_eq!(Global { verbose: 0, quiet: 1 }.arguments(), ["-q"]);
        assert!(Global { verbose: 0, quiet: 0 }.arguments().is_empty());
    }
}
