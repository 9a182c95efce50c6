//! How the learning rate changes over a run, in parts of the whole run.

use std::fmt;

use serde::de::{DeserializeSeed, Error};
use serde::{Deserialize, Deserializer, Serialize};

use crate::numbers::read::{self, Number, Numbers};

/// The learning rate of a step, as a factor of the given one.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The given learning rate in every step.
    #[default]
    Constant,
    /// Linear up to the given learning rate, then half a cosine down to its `end`-th part (Loshchilov and Hutter, 2017,
    /// without restarts).
    Cosine {
        /// The part of the run's steps in which the learning rate goes up.
        #[serde(default, deserialize_with = "part")]
        warmup: f64,
        /// The factor that it goes down to.
        #[serde(default, deserialize_with = "read::share")]
        end: f64,
    },
    /// Multiplied by a factor at given places.
    Steps {
        /// Parts of the run, ascending.
        #[serde(deserialize_with = "ascending")]
        at: Vec<f64>,
        /// What the learning rate is multiplied by at each of them.
        #[serde(deserialize_with = "read::above_0")]
        factor: f64,
    },
}

const PART: Number = Number {
    fits: |value: f64| (0.0..1.0).contains(&value),
    expected: "a part of the run from 0 up to but not including 1",
};

fn part<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    PART.deserialize(deserializer)
}

fn ascending<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let at = Numbers(PART).deserialize(deserializer)?;
    match at.windows(2).all(|pair| pair[0] < pair[1]) {
        true => Ok(at),
        false => Err(D::Error::custom("expected parts of the run in ascending order")),
    }
}

impl Schedule {
    /// The factor of step `step`, counted from 0, of `total`.
    ///
    /// Cosine with w = warmup total: (step + 1) / w in the warm-up, then end + (1 - end) (1 + cos(pi (step - w) /
    /// (total - w))) / 2. Where w is no whole number, the last step of the warm-up does not go beyond 1.
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        let (step, total) = (step as f64, total as f64);
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine { warmup, end } => {
                let warm = warmup * total;
                if step < warm {
                    return ((step + 1.0) / warm).min(1.0);
                }
                let part = if total > warm { (step - warm) / (total - warm) } else { 1.0 };
                end + (1.0 - end) * (1.0 + (std::f64::consts::PI * part).cos()) / 2.0
            }
            Schedule::Steps { at, factor } => {
                factor.powi(at.iter().filter(|place| step >= **place * total).count() as i32)
            }
        }
    }

    /// Whether its numbers are in range: parts from 0 up to 1, ascending, and factors that leave a learning rate.
    pub fn is_possible(&self) -> bool {
        let part = |value: &f64| (0.0..1.0).contains(value);
        match self {
            Schedule::Constant => true,
            Schedule::Cosine { warmup, end } => part(warmup) && (0.0..=1.0).contains(end),
            Schedule::Steps { at, factor } => {
                !at.is_empty()
                    && at.iter().all(part)
                    && at.windows(2).all(|pair| pair[0] < pair[1])
                    && *factor > 0.0
                    && factor.is_finite()
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Constant => f.write_str("constant"),
            Schedule::Cosine { warmup, end } => write!(f, "cosine(warmup {warmup}, end {end})"),
            Schedule::Steps { at, factor } => {
                let at: Vec<String> = at.iter().map(f64::to_string).collect();
                write!(f, "steps(at {}, factor {factor})", at.join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_those_computed_by_hand() {
        let all = |schedule: &Schedule, total: u64| -> Vec<f64> {
            (0..total).map(|step| schedule.factor(step, total)).collect()
        };
        let near = |found: Vec<f64>, expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-15, "{found} {expected}");
            }
        };
        assert_eq!(all(&Schedule::Constant, 2), [1.0, 1.0]);
        // Two steps up, then cosines of 0, pi / 4, pi / 2, 3 pi / 4; down to a fifth of the learning rate.
        let half = 0.5f64.sqrt();
        let cosine = Schedule::Cosine { warmup: 2.0 / 6.0, end: 0.2 };
        let down = |cosine: f64| 0.2 + 0.8 * (1.0 + cosine) / 2.0;
        near(all(&cosine, 6), &[0.5, 1.0, 1.0, down(half), 0.6, down(-half)]);
        near(all(&Schedule::Cosine { warmup: 0.0, end: 0.0 }, 2), &[1.0, 0.5]);
        // A warm-up of two steps and a half does not overshoot.
        near(all(&Schedule::Cosine { warmup: 0.25, end: 0.0 }, 10)[..3].to_vec(), &[0.4, 0.8, 1.0]);
        near(all(&Schedule::Steps { at: vec![0.5, 0.75], factor: 0.1 }, 4), &[1.0, 1.0, 0.1, 0.01]);
    }

    #[test]
    fn it_reads_back_and_knows_what_is_impossible() {
        let steps = |at: &[f64], factor| Schedule::Steps { at: at.to_vec(), factor };
        for schedule in [Schedule::Constant, Schedule::Cosine { warmup: 0.05, end: 0.0 }, steps(&[0.5, 0.75], 0.1)] {
            assert!(schedule.is_possible());
            let text = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
        }
        let cosine = |warmup, end| Schedule::Cosine { warmup, end };
        for schedule in [
            cosine(1.0, 0.0),
            cosine(-0.1, 0.0),
            cosine(f64::NAN, 0.0),
            cosine(0.1, 1.5),
            steps(&[], 0.1),
            steps(&[0.5, 0.5], 0.1),
            steps(&[1.0], 0.1),
            steps(&[0.5], 0.0),
        ] {
            assert!(!schedule.is_possible(), "{schedule}");
        }
    }
}
