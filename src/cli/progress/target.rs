//! Where bars are drawn: on stderr, with room at the right for the ^C that a terminal shows.

use std::io;

use console::Term;
use indicatif::{ProgressDrawTarget, TermLike};

/// The columns that are left free. The cursor stands behind the last bar; without them, what is typed lands on a line of its
/// own, and the bar above it is not cleared.
const FREE: u16 = 3;
/// How often bars are drawn a second.
const HERTZ: u8 = 20;

/// Stderr, or nothing where it is no terminal.
pub(in crate::cli) fn target() -> ProgressDrawTarget {
    let terminal = Term::stderr();
    if !terminal.is_term() {
        return ProgressDrawTarget::hidden();
    }
    ProgressDrawTarget::term_like_with_hz(Box::new(Narrower(terminal)), HERTZ)
}

#[derive(Debug)]
struct Narrower(Term);

impl TermLike for Narrower {
    fn width(&self) -> u16 {
        TermLike::width(&self.0).saturating_sub(FREE)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.0)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_up(lines)
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_down(lines)
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_right(columns)
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_left(columns)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}
