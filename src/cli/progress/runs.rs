//! Progress of runs: as bars, one for all of them and one for each that is being carried out, or as plain lines, one an
//! epoch and run; and the words for a run, its metrics and its end.

use std::collections::HashMap;
use std::fmt::Write;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::cli::terminal;
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

pub(super) struct Bars {
    runs: Vec<Label>,
    bars: &'static MultiProgress,
    /// Counts epochs, so that the time left is that of what remains and not of runs.
    all: ProgressBar,
    active: HashMap<usize, Active>,
    total: usize,
    done: usize,
}

struct Active {
    bar: ProgressBar,
    steps_per_epoch: usize,
    /// Epochs that the bar of all runs has counted for this run.
    counted: usize,
    latest: String,
}

impl Bars {
    pub fn new(runs: Vec<Label>, done: usize) -> Self {
        let bars = terminal::bars();
        let epochs: usize = runs.iter().map(|run| run.epochs).sum();
        let all = bars.add(ProgressBar::new(epochs as u64));
        all.set_style(style("{msg} [{wide_bar}] {elapsed} elapsed, {eta} left"));
        let total = runs.len() + done;
        let shown = Bars { runs, bars, all, active: HashMap::new(), total, done };
        shown.count_runs();
        shown
    }

    fn count_runs(&self) {
        self.all.set_message(format!("{}/{} runs", self.done, self.total));
    }

    fn begin(&mut self, run: usize, epoch: usize, step: usize, epochs: usize, steps_per_epoch: usize) {
        let active = self.active.entry(run).or_insert_with(|| {
            // The numbers have a line of their own, so that none is lost where the run's name is long. The bar is whole before
            // it is shown.
            let bar = ProgressBar::new(0)
                .with_style(style("{prefix} [{bar:20}] {rate}, {eta} left\n  {wide_msg}"))
                .with_prefix(self.runs[run].name.clone());
            let bar = self.bars.insert_before(&self.all, bar);
            Active { bar, steps_per_epoch, counted: 0, latest: String::new() }
        });
        active.steps_per_epoch = steps_per_epoch;
        active.bar.set_length((epochs * steps_per_epoch) as u64);
        active.bar.set_position((epoch * steps_per_epoch + step) as u64);
        active.bar.reset_eta();
    }

    fn end(&mut self, run: usize, outcome: &Outcome) {
        if let Some(active) = self.active.remove(&run) {
            active.bar.finish_and_clear();
            self.bars.remove(&active.bar);
            if outcome.is_over() {
                // What a diverged or failed run leaves out remains for nobody.
                self.all.inc(self.runs[run].epochs.saturating_sub(active.counted) as u64);
            }
            terminal::log_line(&format!("{}: {}{}", self.runs[run].name, ending(outcome), active.latest));
        } else {
            terminal::log_line(&format!("{}: {}", self.runs[run].name, ending(outcome)));
        }
        self.done += usize::from(outcome.is_over());
        self.count_runs();
    }
}

impl Observer for Bars {
    fn event(&mut self, run: usize, event: &RunEvent) {
        match event {
            RunEvent::Started { epoch, step, epochs, steps_per_epoch } => {
                self.begin(run, *epoch, *step, *epochs, *steps_per_epoch);
            }
            RunEvent::Stepped { epoch, step, loss } => {
                if let Some(active) = self.active.get(&run) {
                    active.bar.set_position((epoch * active.steps_per_epoch + step) as u64);
                    active.bar.set_message(format!("loss {}{}", number(*loss), active.latest));
                }
            }
            RunEvent::Evaluated(row) => {
                if let Some(active) = self.active.get_mut(&run) {
                    self.all.inc(row.epoch.saturating_sub(active.counted) as u64);
                    active.counted = active.counted.max(row.epoch);
                    active.latest = format!("; epoch {}: {}", row.epoch, metrics(row));
                    active.bar.set_position((row.epoch * active.steps_per_epoch) as u64);
                }
            }
            RunEvent::Note { text } => terminal::log_line(&format!("{}: {text}", self.runs[run].name)),
            RunEvent::Ended { outcome } => self.end(run, outcome),
        }
    }

    fn log(&mut self, line: &str) {
        terminal::log_line(line);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // Those of runs that were interrupted.
        for (_, active) in self.active.drain() {
            active.bar.finish_and_clear();
            self.bars.remove(&active.bar);
        }
        self.all.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
            // A bar's text cannot fail to be written.
            let _ = write!(text, "{:.0} steps/s", state.per_sec());
        })
        .progress_chars("=> ")
}

// As plain lines.

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
            terminal::log_line(&format!("{done} of {total} runs have their results already"));
        }
        Lines { runs, total, done, quiet }
    }

    fn line(&self, run: usize, text: &str) {
        terminal::log_line(&format!("{}: {text}", self.runs[run].name));
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
        terminal::log_line(line);
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
