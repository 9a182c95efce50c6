//! What is shown on stderr while something takes its time: bars on a terminal, lines otherwise.

mod bench;
mod download;
mod runs;
mod target;

use std::io::IsTerminal;

pub(super) use bench::BenchProgress;
pub(super) use download::download_progress;
pub use runs::Label;
pub(super) use target::target;

use crate::study::launch::Observer;

/// Shows `runs`, of which `done` others have their results from before. With `quiet`, only failures are told.
pub fn observer(runs: Vec<Label>, done: usize, quiet: bool) -> Box<dyn Observer> {
    if quiet || !std::io::stderr().is_terminal() {
        Box::new(runs::Lines::new(runs, done, quiet))
    } else {
        Box::new(runs::Bars::new(runs, done))
    }
}
