//! What is printed on stdout: how wide the terminal is, texts that keep to it, and results.

use std::io::{self, IsTerminal, Write};

use textwrap::{Options, WordSeparator, WordSplitter};

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
pub(super) fn error_width() -> Option<usize> {
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
pub(super) fn wrapped_lines(text: &str, width: Option<usize>) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words_and_a_long_word_stays_whole() {
        let text = wrapped_at("results in /somewhere/with/a/long-name, of seven runs", 2, Some(20));
        assert_eq!(text, "  results in\n    /somewhere/with/a/long-name,\n    of seven runs\n");
        assert_eq!(wrapped_lines("first line\n  a second line\n", Some(12)), "first line\n  a second\n    line\n");
    }
}
