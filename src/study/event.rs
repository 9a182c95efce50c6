//! What a run tells while it is carried out, to whoever shows it; also the lines that a worker writes.

use serde::{Deserialize, Serialize};

use super::settings::RunTask;
use super::state::RunState;
use super::store::{EpochRow, RunStatus};
use crate::error::EXIT_FAILED;

/// Something that happened while a study is carried out, to whoever shows it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum StudyEvent<'a> {
    /// Runs are next; nothing of them is started.
    Planned {
        /// How many remain.
        to_do: usize,
        /// Of these, how many go on from the end of a run of fewer epochs.
        continued: usize,
        /// How many others have their results.
        done: usize,
    },
    /// They begin.
    Started {
        /// Those that remain.
        runs: &'a [RunTask],
        /// What tells each of them from the others.
        labels: &'a [String],
        /// How many others have their results.
        done: usize,
    },
    /// Something happened to one of the runs that were started last.
    Run {
        /// Its place among them.
        number: usize,
        /// The run.
        run: &'a RunTask,
        /// What happened.
        event: &'a RunEvent,
    },
    /// A line of the log of a worker or a cluster.
    Log {
        /// The line.
        line: &'a str,
    },
    /// The runs that were started last are over, or given up.
    Ended,
}

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunEvent {
    /// It stands ready to train.
    Started {
        /// Epochs trained before, by an earlier process.
        epoch: usize,
        /// Steps made in the epoch after them.
        step: usize,
        /// Epochs in all.
        epochs: usize,
        /// Steps of one epoch.
        steps_per_epoch: usize,
    },
    /// A step, told a few times a second.
    Stepped {
        /// Whole epochs trained.
        epoch: usize,
        /// Steps made in the epoch after them.
        step: usize,
        /// The mini-batch's loss without the regulariser; none where it is not finite.
        loss: Option<f64>,
    },
    /// An evaluation.
    Evaluated(Evaluation),
    /// Something worth a line of the log.
    Note {
        /// The line.
        text: String,
    },
    /// It will not go on in this process.
    Ended {
        /// How it ended.
        outcome: Outcome,
    },
}

/// A row of epochs.csv as an event carries it: values that are not finite are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of EpochRow")]
pub struct Evaluation {
    pub epoch: usize,
    pub train_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    pub valid_loss: Option<f64>,
    pub valid_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub train_seconds: f64,
    pub eval_seconds: f64,
}

impl From<&EpochRow> for Evaluation {
    fn from(row: &EpochRow) -> Self {
        Evaluation {
            epoch: row.epoch,
            train_loss: finite(row.train_loss),
            train_accuracy: finite(row.train_accuracy),
            valid_loss: finite(row.valid_loss),
            valid_accuracy: finite(row.valid_accuracy),
            test_loss: finite(row.test_loss),
            test_accuracy: finite(row.test_accuracy),
            train_seconds: row.train_seconds,
            eval_seconds: row.eval_seconds,
        }
    }
}

/// How a run ended in this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// All epochs trained and evaluated.
    Done,
    /// A result, not a failure.
    Diverged {
        /// Where, and what the loss was.
        reason: String,
    },
    /// Something went wrong.
    Failed {
        /// What, and what to do.
        reason: String,
        /// The exit code that goes with it.
        exit_code: u8,
    },
    /// Stopped by a signal after a checkpoint.
    Interrupted,
    /// Another process carries it out.
    Busy {
        /// Which.
        holder: String,
    },
}

impl Outcome {
    /// What a run's status tells of its end; nothing where it has not ended.
    pub fn of(status: &RunStatus) -> Option<Self> {
        let reason = || status.reason.clone().unwrap_or_default();
        match status.status {
            RunState::Done => Some(Outcome::Done),
            RunState::Diverged => Some(Outcome::Diverged { reason: reason() }),
            RunState::Failed => Some(Outcome::Failed { reason: reason(), exit_code: EXIT_FAILED }),
            RunState::Interrupted => Some(Outcome::Interrupted),
            RunState::Pending | RunState::Running => None,
        }
    }

    /// Where the run stands after it.
    pub fn state(&self) -> RunState {
        match self {
            Outcome::Done => RunState::Done,
            Outcome::Diverged { .. } => RunState::Diverged,
            Outcome::Failed { .. } => RunState::Failed,
            Outcome::Interrupted => RunState::Interrupted,
            Outcome::Busy { .. } => RunState::Running,
        }
    }

    /// Whether the run will not be taken up again.
    pub fn is_over(&self) -> bool {
        !matches!(self.state(), RunState::Running | RunState::Interrupted)
    }
}

/// The value where JSON can carry it.
pub fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_travel_as_lines_of_json() {
        let row = EpochRow {
            epoch: 1,
            train_loss: f64::NAN,
            train_accuracy: 0.5,
            valid_loss: f64::INFINITY,
            valid_accuracy: 0.1,
            test_loss: 2.0,
            test_accuracy: 0.3,
            train_seconds: 0.1,
            eval_seconds: 0.2,
        };
        for event in [
            RunEvent::Started { epoch: 0, step: 0, epochs: 3, steps_per_epoch: 7 },
            RunEvent::Stepped { epoch: 0, step: 1, loss: None },
            RunEvent::Evaluated(Evaluation::from(&row)),
            RunEvent::Note { text: "a\nb".into() },
            RunEvent::Ended { outcome: Outcome::Diverged { reason: "NaN".into() } },
            RunEvent::Ended { outcome: Outcome::Interrupted },
        ] {
            let line = serde_json::to_string(&event).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<RunEvent>(&line).unwrap(), event);
        }
    }
}
