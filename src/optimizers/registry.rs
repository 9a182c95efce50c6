//! The optimizers there are. Each tells everything about itself in an entry of one table, by which flags, files, tables,
//! figures, estimates and a run's identity go: adding one is a file and a line, or an entry of a program's own registry.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::info::{OptimizerInfo, OptimizerName};
use super::options::{OptionInfo, OptionKind, OptionValue, Options, WRITTEN_DEFAULTS};
use super::{adam, diagonal, ekfac, foof, kronecker, muon, sgd, shampoo, soap};
use crate::entries::Entries;
use crate::error::{Error, Result};

/// The built-in optimizers, baselines first.
pub(crate) static BUILT_IN: [&OptimizerInfo; 14] = [
    &sgd::SGD,
    &sgd::MOMENTUM,
    &adam::ADAM,
    &adam::ADAMW,
    &muon::INFO,
    &soap::INFO,
    &shampoo::INFO,
    &diagonal::DIAG_GGN,
    &diagonal::DIAG_GGN_MC,
    &kronecker::KFAC,
    &kronecker::KFLR,
    &kronecker::KFRA,
    &ekfac::EKFAC,
    &foof::FOOF,
];

static ENTRIES: Entries<&'static OptimizerInfo> = Entries::new(|| BUILT_IN.to_vec());

/// Has these optimizers in place of those that there are.
pub(crate) fn replace(entries: Vec<&'static OptimizerInfo>) {
    ENTRIES.replace(entries);
}

impl OptimizerName {
    /// All of them, baselines first.
    pub fn all() -> impl Iterator<Item = OptimizerName> + Clone {
        ENTRIES.all().into_iter().map(OptimizerName::from)
    }

    /// The optimizer of this name.
    pub fn find(name: &str) -> Option<Self> {
        ENTRIES.find(|info| info.name == name).map(OptimizerName::from)
    }

    /// The keys of all options of all optimizers, each with one that has it; in the order of the table.
    pub fn all_options() -> Vec<&'static OptionInfo> {
        let mut options: Vec<&OptionInfo> = Vec::new();
        for option in OptimizerName::all().flat_map(OptimizerName::options) {
            if options.iter().all(|known| known.key != option.key) {
                options.push(option);
            }
        }
        options
    }
}

impl FromStr for OptimizerName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        OptimizerName::find(text).ok_or_else(|| {
            let names: Vec<_> = OptimizerName::all().map(OptimizerName::as_str).collect();
            Error::Usage(format!("optimizer `{text}`: expected one of {}", names.join(", ")))
        })
    }
}

impl<'de> Deserialize<'de> for OptimizerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl TryFrom<BTreeMap<String, Value>> for Options {
    type Error = String;

    /// As a run has written them.
    fn try_from(written: BTreeMap<String, Value>) -> Result<Self, String> {
        let known = OptimizerName::all_options();
        let read = |(key, value): (String, Value)| {
            let kind = known.iter().find(|info| info.key == key).map(|info| info.kind);
            let kind = kind.or((key == "kfc_scale").then_some(OptionKind::Flag));
            let kind = kind.ok_or_else(|| format!("no optimizer has an option `{key}`"))?;
            let shown = value.to_string();
            let value = kind.read(value).ok_or_else(|| format!("the option {key} = {shown} is of another kind"))?;
            Ok((key, value))
        };
        let mut written = written.into_iter().map(read).collect::<Result<BTreeMap<_, _>, String>>()?;
        if written.contains_key("kfc_scale") {
            let is_default = |key: &str, value: &OptionValue| {
                WRITTEN_DEFAULTS.iter().any(|(known, default)| *known == key && default == value)
                    || (key == "damping_scheme" && *value == OptionValue::Text("constant".to_owned()))
            };
            written.retain(|key, value| !is_default(key, value));
        }
        Ok(Options(written))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_read_back_and_are_no_one_elses() {
        let (mut names, mut titles) = (HashSet::new(), HashSet::new());
        for name in OptimizerName::all() {
            assert_eq!(name.to_string().parse::<OptimizerName>().unwrap(), name);
            let text = serde_json::to_string(&name).unwrap();
            assert_eq!(text, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<OptimizerName>(&text).unwrap(), name);
            assert!(names.insert(name) && titles.insert(name.title()), "{name}");
        }
        assert!("KFAC".parse::<OptimizerName>().is_err());
    }

    #[test]
    fn a_damping_goes_with_dampings_and_options_stand_once() {
        for name in OptimizerName::all() {
            assert_eq!(name.has_damping(), !(name.info().dampings)().is_empty(), "{name}");
            assert!(!(name.info().learning_rates)().is_empty(), "{name}");
            let mut keys = HashSet::new();
            assert!(name.options().all(|option| keys.insert(option.key)), "{name}");
        }
    }
}
