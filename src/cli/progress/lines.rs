//! Progress as plain lines, one an epoch and run, and the words for a run, its metrics and its end.

use super::super::logging;
use crate::study::event::{Evaluation, Outcome, RunEvent};
use crate::study::launch::Observer;

/// A run as it is shown.
#[derive(Clone, Debug)]
pub struct Label {
    /// What tells it from the others.
    pub name: String,
    /// Its epochs.
    pub epochs: usize,
}

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

/// "train loss 0.3012, accuracy valid 0.9123, test 0.9080".
pub(super) fn metrics(row: &Evaluation) -> String {
    format!(
        "train loss {}, accuracy valid {}, test {}",
        number(row.train_loss),
        number(row.valid_accuracy),
        number(row.test_accuracy)
    )
}

pub(super) fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value.abs() >= 1e4 => format!("{value:.3e}"),
        Some(value) => format!("{value:.4}"),
        None => "not finite".to_owned(),
    }
}

/// How a run ended, in words.
pub(super) fn ending(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Diverged { reason } => format!("diverged: {reason}"),
        Outcome::Failed { reason, .. } => format!("failed: {reason}"),
        Outcome::Interrupted => "interrupted".to_owned(),
        Outcome::Busy { holder } => format!("{holder} is running it; waiting"),
    }
}
