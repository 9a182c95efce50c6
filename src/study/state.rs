//! The state of a run, in which files, tables and whoever carries runs out speak of it, and how one follows from another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Not started yet, or nothing that it left counts: what it wrote is damaged.
    #[default]
    #[serde(rename = "waiting")]
    Pending,
    /// Being carried out, or its process is gone without a word.
    Running,
    /// Stopped by a signal after a checkpoint.
    Interrupted,
    /// Something went wrong.
    Failed,
    /// The loss of a mini-batch was not finite or too large; a result, not a failure.
    Diverged,
    /// All epochs trained and evaluated.
    Done,
}

use RunState::{Diverged, Done, Failed, Interrupted, Pending, Running};

/// What may follow on each state. A result stays one; where a file of it is damaged, the run is [`Pending`] again.
const TRANSITIONS: [(RunState, &[RunState]); 6] = [
    // A run can fail before it writes anything: its data are others, or its worker is lost.
    (Pending, &[Running, Failed]),
    // Running again: taken up after its process was lost, or one more epoch is over.
    (Running, &[Running, Interrupted, Failed, Diverged, Done]),
    (Interrupted, &[Running, Failed]),
    (Failed, &[Running, Failed]),
    (Diverged, &[]),
    (Done, &[]),
];

impl RunState {
    /// Whether nothing remains to be computed.
    pub fn is_final(self) -> bool {
        self.followers().is_empty()
    }

    /// The states that may follow on this one.
    pub fn followers(self) -> &'static [RunState] {
        TRANSITIONS.iter().find(|(state, _)| *state == self).map_or(&[], |(_, followers)| followers)
    }

    /// The next state.
    ///
    /// # Panics
    /// Where it may not follow on this one: what carries runs out has a bug.
    #[must_use]
    pub fn enter(self, next: RunState) -> RunState {
        assert!(self.followers().contains(&next), "a run that is {self} became {next}");
        next
    }

    /// The word for files and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Pending => "waiting",
            Running => "running",
            Interrupted => "interrupted",
            Failed => "failed",
            Diverged => "diverged",
            Done => "done",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_in_the_table_and_in_files_by_its_word() {
        for state in [Pending, Running, Interrupted, Failed, Diverged, Done] {
            assert_eq!(TRANSITIONS.iter().filter(|(known, _)| *known == state).count(), 1, "{state}");
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
            assert_eq!(state.is_final(), matches!(state, Done | Diverged), "{state}");
            assert!(!state.followers().contains(&Pending), "{state}");
        }
    }

    #[test]
    #[should_panic(expected = "a run that is done became running")]
    fn a_result_stays_one() {
        let _ = Done.enter(Running);
    }
}
