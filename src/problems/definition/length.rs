//! How long a run trains: a number of epochs, or so many steps or seconds.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Item;
use crate::error::Result;

/// The end of a run that has no number of epochs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// So many steps, of which the last ones may be a part of an epoch.
    Steps(u64),
    /// The first step after so many seconds of training, evaluations aside. Numbers then depend on the machine.
    Seconds(f64),
}

/// What the key `epochs` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Passes over the training samples.
    Epochs(usize),
    /// Something else.
    Limit(Limit),
}

impl Length {
    /// As a problem has it: the epochs, as far as they are known, and the limit.
    pub(super) fn parts(self) -> (usize, Option<Limit>) {
        match self {
            Length::Epochs(epochs) => (epochs, None),
            Length::Limit(limit) => (0, Some(limit)),
        }
    }

    /// A number of epochs, `{ steps = 5000 }` or `{ seconds = 600 }`.
    pub(super) fn read(item: &Item) -> Result<Self> {
        if !item.is_table() {
            return Ok(Length::Epochs(item.count(0)?));
        }
        let table = item.table("a length other than epochs", &["steps", "seconds"])?;
        let seconds = |item: Item| item.number(|value| value > 0.0 && value.is_finite(), "a number of seconds above 0");
        match (table.get("steps"), table.get("seconds")) {
            (Some(steps), None) => Ok(Length::Limit(Limit::Steps(steps.count(1)? as u64))),
            (None, Some(item)) => Ok(Length::Limit(Limit::Seconds(seconds(item)?))),
            _ => Err(item.error("expected either `steps` or `seconds` in it").into()),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Steps(steps) => write!(f, "{steps} steps"),
            Limit::Seconds(seconds) => write!(f, "{seconds} s"),
        }
    }
}
