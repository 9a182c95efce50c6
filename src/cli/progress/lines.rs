//! Progress as plain lines: one an epoch and run.

use super::super::logging;
use super::{Label, ending, metrics};
use crate::study::event::{Outcome, RunEvent};
use crate::study::launch::Observer;

pub(super) struct Lines {
    runs: Vec<Label>,
    total: usize,
    done: usize,
    quiet: bool,
}

impl Lines {
    pub fn new(runs: Vec<Label>, done: usize, quiet: bool) -> Self {
        let total = runs.len() + done;
        if done > 0 && !quiet {
            logging::line(&format!("{done} of {total} runs have their results already"));
        }
        Lines { runs, total, done, quiet }
    }

    fn line(&self, run: usize, text: &str) {
        logging::line(&format!("{}: {text}", self.runs[run].name));
    }
}

impl Observer for Lines {
    fn event(&mut self, run: usize, event: &RunEvent) {
        match event {
            RunEvent::Ended { outcome } => {
                self.done += usize::from(outcome.is_over());
                if !self.quiet || matches!(outcome, Outcome::Failed { .. }) {
                    self.line(run, &format!("{} [{}/{}]", ending(outcome), self.done, self.total));
                }
            }
            _ if self.quiet => {}
            RunEvent::Evaluated(row) => {
                let seconds = row.train_seconds + row.eval_seconds;
                // With a limit of seconds nobody knows how many there will be.
                let of = match self.runs[run].epochs {
                    0 if row.epoch > 0 => String::new(),
                    epochs => format!("/{epochs}"),
                };
                self.line(run, &format!("epoch {}{of}: {} ({seconds:.1} s)", row.epoch, metrics(row)));
            }
            RunEvent::Note { text } => self.line(run, text),
            RunEvent::Started { .. } | RunEvent::Stepped { .. } => {}
        }
    }

    fn log(&mut self, line: &str) {
        logging::line(line);
    }
}
