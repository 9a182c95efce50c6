//! How long a run trains: a number of epochs, or so many steps or seconds.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::numbers::{MAX_SIZE, read};

/// The end of a run that has no number of epochs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// So many steps, of which the last ones may be a part of an epoch.
    Steps(u64),
    /// The first step after so many seconds of training, evaluations aside. Numbers then depend on the machine.
    Seconds(f64),
}

/// What the key `epochs` says: a number of epochs, `{ steps = 5000 }` or `{ seconds = 600 }`.
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
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            #[serde(default, deserialize_with = "read::size")]
            steps: Option<usize>,
            #[serde(default, deserialize_with = "read::above_0")]
            seconds: Option<f64>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an integer of at least 0, { steps = .. } or { seconds = .. }")
            }

            fn visit_i64<E: Error>(self, epochs: i64) -> Result<Length, E> {
                match epochs {
                    0..=MAX_SIZE => Ok(Length::Epochs(epochs as usize)),
                    ..0 => Err(E::custom(format!("expected {}", &self as &dyn serde::de::Expected))),
                    _ => Err(E::custom(format!("expected at most {MAX_SIZE}"))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Length, A::Error> {
                match Table::deserialize(MapAccessDeserializer::new(map))? {
                    Table { steps: Some(steps), seconds: None } => Ok(Length::Limit(Limit::Steps(steps as u64))),
                    Table { steps: None, seconds: Some(seconds) } => Ok(Length::Limit(Limit::Seconds(seconds))),
                    _ => Err(A::Error::custom("expected either `steps` or `seconds` in it")),
                }
            }
        }
        deserializer.deserialize_any(Either)
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
