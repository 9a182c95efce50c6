//! The options of optimizers: what a key can be, what it is where nothing is said, and the values of a run.
//!
//! Each optimizer's entry in the registry lists its own ([`OptionInfo`]); files, flags, tables and the identity of a run
//! go by these lists. An option at its default changes no run's identity.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::averaging::Averaging;
use super::schedule::Schedule;
use crate::error::{Error, Result};

/// What an option can be.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum OptionKind {
    /// An integer of at least 1.
    Count,
    /// A number for which this holds.
    Number(fn(f64) -> bool),
    /// The same, or `none`.
    NumberOrNone(fn(f64) -> bool),
    /// `true` or `false`.
    Flag,
    /// One of several words.
    Choice(&'static [&'static str]),
    /// A list of so many numbers, for each of which this holds.
    Numbers(usize, fn(f64) -> bool),
    /// How curvature is averaged over steps.
    Averaging,
    /// How the learning rate changes over a run.
    Schedule,
}

/// The value of an option. What a text means depends on the option: [`OptionKind::read`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum OptionValue {
    /// Of [`OptionKind::Flag`].
    Flag(bool),
    /// Of [`OptionKind::Count`].
    Count(u64),
    /// Of [`OptionKind::Number`].
    Number(f64),
    /// Of [`OptionKind::Numbers`].
    Numbers(Vec<f64>),
    /// Of [`OptionKind::Schedule`].
    Schedule(Schedule),
    /// Of [`OptionKind::Averaging`].
    Averaging(Averaging),
    /// Of [`OptionKind::Choice`], and the `none` of [`OptionKind::NumberOrNone`].
    Text(String),
}

/// An option as tables, messages and configuration name it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OptionInfo {
    /// The key in `[[optimizer]]` and of `--set`; one key has the same kind for all optimizers that have it.
    pub key: &'static str,
    /// What it can be.
    pub kind: OptionKind,
    /// What it can be, in words.
    pub values: &'static str,
    /// What it is where nothing is said.
    pub default: fn() -> OptionValue,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Whether it is part of a run's identity at its default too, as it was in the first versions of the program.
    pub always: bool,
}

/// Options that there were, each with what to write instead. Runs that have them are still read.
pub const RETIRED: [(&str, &str); 1] = [(
    "kfc_scale",
    "kfac_approx = \"expand\" takes each position as a sample, as Grosse and Martens (2016) do: write that for kfac or kflr, \
     nothing for kfra",
)];

/// The defaults that runs of the first versions wrote down, all options together, beside one that was not at its default.
pub(super) const WRITTEN_DEFAULTS: [(&str, OptionValue); 3] = [
    ("inverse_every", OptionValue::Count(1)),
    ("momentum", OptionValue::Number(0.0)),
    ("kfc_scale", OptionValue::Flag(false)),
];

/// What stands for no number.
pub const NONE: &str = "none";

/// Words of [`OptionInfo::values`] and conditions that several options share.
pub(super) const FROM_0_BELOW_1: &str = "a number from 0 up to but not including 1";
pub(super) const FROM_0: &str = "a number of at least 0";
pub(super) const ABOVE_0: &str = "a number above 0";
pub(super) const STEPS: &str = "a number of steps, at least 1";
pub(super) const YES_OR_NO: &str = "true, false";

pub(super) fn from_0_below_1(value: f64) -> bool {
    (0.0..1.0).contains(&value)
}

pub(super) fn from_0(value: f64) -> bool {
    value >= 0.0 && value.is_finite()
}

pub(super) fn above_0(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

impl OptionKind {
    /// A value as it was written; nothing where it is of another kind.
    pub fn read(self, written: Value) -> Option<OptionValue> {
        Some(match (self, written) {
            (OptionKind::Count, written) => OptionValue::Count(written.as_u64()?),
            (OptionKind::NumberOrNone(_) | OptionKind::Choice(_), Value::String(text)) => OptionValue::Text(text),
            (OptionKind::Number(_) | OptionKind::NumberOrNone(_), written) => OptionValue::Number(written.as_f64()?),
            (OptionKind::Flag, written) => OptionValue::Flag(written.as_bool()?),
            (OptionKind::Numbers(..), written) => {
                OptionValue::Numbers(written.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?)
            }
            (OptionKind::Averaging, written) => OptionValue::Averaging(serde_json::from_value(written).ok()?),
            (OptionKind::Schedule, written) => OptionValue::Schedule(serde_json::from_value(written).ok()?),
            (OptionKind::Choice(_), _) => return None,
        })
    }
}

impl OptionInfo {
    /// An option that a run's identity holds where it is not at its default.
    pub const fn new(
        key: &'static str,
        kind: OptionKind,
        values: &'static str,
        default: fn() -> OptionValue,
        about: &'static str,
    ) -> Self {
        OptionInfo { key, kind, values, default, about, always: false }
    }

    /// Whether a key can be of both: the same kind of value, in the same words.
    pub(crate) fn is_like(&self, other: &OptionInfo) -> bool {
        let kind = |info: &OptionInfo| std::mem::discriminant(&info.kind);
        kind(self) == kind(other) && self.values == other.values && self.always == other.always
    }

    /// Refuses a value of another kind or out of range.
    ///
    /// # Errors
    /// [`Error::Usage`] with what was expected.
    pub fn check(&self, value: &OptionValue) -> Result<()> {
        let fits = match (self.kind, value) {
            (OptionKind::Count, OptionValue::Count(count)) => *count > 0,
            (OptionKind::Number(fits) | OptionKind::NumberOrNone(fits), OptionValue::Number(number)) => fits(*number),
            (OptionKind::NumberOrNone(_), OptionValue::Text(text)) => text == NONE,
            (OptionKind::Flag, OptionValue::Flag(_)) | (OptionKind::Averaging, OptionValue::Averaging(_)) => true,
            (OptionKind::Choice(words), OptionValue::Text(text)) => words.contains(&text.as_str()),
            (OptionKind::Numbers(length, fits), OptionValue::Numbers(numbers)) => {
                numbers.len() == length && numbers.iter().all(|number| fits(*number))
            }
            (OptionKind::Schedule, OptionValue::Schedule(schedule)) => schedule.is_possible(),
            _ => false,
        };
        match fits {
            true => Ok(()),
            false => Err(Error::Usage(format!("{} {value}: expected {}", self.key, self.values))),
        }
    }
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionValue::Flag(flag) => write!(f, "{flag}"),
            OptionValue::Count(count) => write!(f, "{count}"),
            OptionValue::Number(number) => write!(f, "{number}"),
            OptionValue::Numbers(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
                write!(f, "[{}]", numbers.join(", "))
            }
            OptionValue::Schedule(schedule) => write!(f, "{schedule}"),
            OptionValue::Averaging(averaging) => write!(f, "{averaging}"),
            OptionValue::Text(text) => f.write_str(text),
        }
    }
}

/// The options of a run that are not at their defaults. Those that are [`OptionInfo::always`] part of a run's identity
/// have fields of their own instead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Value>")]
pub struct Options(pub(super) BTreeMap<String, OptionValue>);

impl Options {
    /// Whether all options are at their defaults.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The options that are not at their defaults.
    pub fn changed(&self) -> impl Iterator<Item = (&str, &OptionValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

/// The options that all optimizers have.
pub(crate) static COMMON: [OptionInfo; 2] = [
    OptionInfo::new(
        "schedule",
        OptionKind::Schedule,
        "constant, { cosine = { warmup = 0.05, end = 0.0 } } or { steps = { at = [0.5, 0.75], factor = 0.1 } }, in parts \
         of the run from 0 up to but not including 1",
        || OptionValue::Schedule(Schedule::Constant),
        "how the learning rate changes over a run",
    ),
    OptionInfo::new(
        "clip_norm",
        OptionKind::NumberOrNone(above_0),
        "none, or a number above 0",
        || OptionValue::Text(NONE.to_owned()),
        "clip the norm of all gradients together, l2 included, to this, before anything else",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::OptimizerName;
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_option_and_reads_back() {
        for name in OptimizerName::all() {
            for info in name.options() {
                let default = (info.default)();
                info.check(&default).unwrap();
                assert!(Options::new(name, [(info.key, default.clone())]).unwrap().is_empty(), "{name} {}", info.key);
                let text = serde_json::to_string(&default).unwrap();
                let back = info.kind.read(serde_json::from_str(&text).unwrap());
                assert_eq!(back, Some(default), "{name} {}", info.key);
            }
        }
    }

    #[test]
    fn what_the_first_versions_wrote_is_read_as_they_meant_it() {
        let read = |text: &str| -> Vec<(String, OptionValue)> {
            let options: Options = serde_json::from_str(text).unwrap();
            options.changed().map(|(key, value)| (key.to_owned(), value.clone())).collect()
        };
        let text = r#"{"inverse_every":3,"momentum":0.0,"damping_scheme":"constant","kfc_scale":false}"#;
        assert_eq!(read(text), [("inverse_every".to_owned(), OptionValue::Count(3))]);
        let text = r#"{"inverse_every":1,"momentum":0.9,"damping_scheme":"trace","kfc_scale":true}"#;
        let keys: Vec<String> = read(text).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["damping_scheme", "kfc_scale", "momentum"]);
        // Such a run is read; it is not trained again.
        let kfac: OptimizerName = "kfac".parse().unwrap();
        let options: Options = serde_json::from_str(text).unwrap();
        assert!(options.check(kfac).unwrap_err().to_string().contains("kfac_approx = \"expand\""));
        assert_eq!(
            serde_json::to_string(&options).unwrap(),
            r#"{"damping_scheme":"trace","kfc_scale":true,"momentum":0.9}"#
        );
    }

    #[test]
    fn a_key_means_one_kind_of_value_whatever_the_optimizer() {
        let all: Vec<OptionInfo> = OptimizerName::all().flat_map(|name| name.options().copied()).collect();
        for info in &all {
            for other in all.iter().filter(|other| other.key == info.key) {
                assert!(info.is_like(other), "{}", info.key);
            }
        }
    }

    #[test]
    fn only_what_is_changed_is_kept_and_what_does_not_fit_is_refused() {
        let kfac: OptimizerName = "kfac".parse().unwrap();
        let given = [("momentum", OptionValue::Number(0.0)), ("inverse_every", OptionValue::Count(3))];
        let options = Options::new(kfac, given).unwrap();
        assert_eq!(options.changed().collect::<Vec<_>>(), [("inverse_every", &OptionValue::Count(3))]);
        assert_eq!(options.get(kfac, "momentum"), OptionValue::Number(0.0));
        let refused = |key, value| Options::new(kfac, [(key, value)]).unwrap_err().to_string();
        assert!(refused("momentum", OptionValue::Number(1.0)).contains("up to but not including 1"));
        assert!(refused("inverse_every", OptionValue::Count(0)).contains("at least 1"));
        assert!(refused("nesterov", OptionValue::Flag(true)).contains("has no option"));
    }
}
