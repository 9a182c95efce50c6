//! What is shown on stderr while something takes its time: bars on a terminal, lines otherwise.

mod bars;
mod bench;
mod download;
mod lines;

use std::io::IsTerminal;

pub(super) use bench::BenchProgress;
pub(super) use download::download_progress;

use crate::study::event::{Evaluation, Outcome};
use crate::study::launch::Observer;

/// A run as it is shown.
#[derive(Clone, Debug)]
pub struct Label {
    /// What tells it from the others.
    pub name: String,
    /// Its epochs.
    pub epochs: usize,
}

/// Shows `runs`, of which `done` others have their results from before. With `quiet`, only failures are told.
pub fn observer(runs: Vec<Label>, done: usize, quiet: bool) -> Box<dyn Observer> {
    if quiet || !std::io::stderr().is_terminal() {
        Box::new(lines::Lines::new(runs, done, quiet))
    } else {
        Box::new(bars::Bars::new(runs, done))
    }
}

/// "train loss 0.3012, accuracy valid 0.9123, test 0.9080".
fn metrics(row: &Evaluation) -> String {
    format!(
        "train loss {}, accuracy valid {}, test {}",
        number(row.train_loss),
        number(row.valid_accuracy),
        number(row.test_accuracy)
    )
}

fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value.abs() >= 1e4 => format!("{value:.3e}"),
        Some(value) => format!("{value:.4}"),
        None => "not finite".to_owned(),
    }
}

/// How a run ended, in words.
fn ending(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Diverged { reason } => format!("diverged: {reason}"),
        Outcome::Failed { reason, .. } => format!("failed: {reason}"),
        Outcome::Interrupted => "interrupted".to_owned(),
        Outcome::Busy { holder } => format!("{holder} is running it; waiting"),
    }
}
