//! What the curvature rules can do beyond the paper's step. All of it is off unless asked for, and enters a run's
//! identity only where it is on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::OptimizerName;
use crate::error::Error;

/// How the damping is chosen from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DampingScheme {
    /// The given damping in every step, as in the paper.
    #[default]
    Constant,
    /// The given damping to start with; every fifth step it shrinks or grows by how well a quadratic model predicted
    /// the change of the mini-batch's loss (Martens and Grosse, 2015, section 6.5).
    LevenbergMarquardt,
    /// The given damping times the block's mean curvature, the trace over the dimension.
    Trace,
}

impl DampingScheme {
    /// The names and what they stand for.
    pub const NAMES: [(&'static str, DampingScheme); 3] = [
        ("constant", DampingScheme::Constant),
        ("levenberg_marquardt", DampingScheme::LevenbergMarquardt),
        ("trace", DampingScheme::Trace),
    ];
}

impl fmt::Display for DampingScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = DampingScheme::NAMES.iter().find(|(_, scheme)| scheme == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

impl FromStr for DampingScheme {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        DampingScheme::NAMES.iter().find(|(name, _)| *name == text).map(|(_, scheme)| *scheme).ok_or_else(|| {
            let names = DampingScheme::NAMES.map(|(name, _)| name).join(", ");
            Error::Usage(format!("damping_scheme `{text}`: expected one of {names}"))
        })
    }
}

/// The options of a curvature rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CurvatureOptions {
    /// Steps from one inversion of the Kronecker factors to the next; the factors are averaged in every step.
    pub inverse_every: u64,
    /// The weight of the old velocity where the preconditioned steps are accumulated (heavy ball); 0 is none.
    pub momentum: f64,
    /// How the damping is chosen from step to step.
    pub damping_scheme: DampingScheme,
    /// Whether a convolution's B is divided by the number of output positions (Grosse and Martens, 2016).
    pub kfc_scale: bool,
}

impl Default for CurvatureOptions {
    fn default() -> Self {
        CurvatureOptions { inverse_every: 1, momentum: 0.0, damping_scheme: DampingScheme::Constant, kfc_scale: false }
    }
}

impl CurvatureOptions {
    /// Whether all of it is off.
    pub fn is_default(&self) -> bool {
        *self == CurvatureOptions::default()
    }

    /// The keys that are not at their defaults, with their values.
    pub fn changed(&self) -> Vec<(&'static str, serde_json::Value)> {
        let default = CurvatureOptions::default();
        let mut changed = Vec::new();
        if self.inverse_every != default.inverse_every {
            changed.push(("inverse_every", self.inverse_every.into()));
        }
        if self.momentum != default.momentum {
            changed.push(("momentum", self.momentum.into()));
        }
        if self.damping_scheme != default.damping_scheme {
            changed.push(("damping_scheme", self.damping_scheme.to_string().into()));
        }
        if self.kfc_scale != default.kfc_scale {
            changed.push(("kfc_scale", self.kfc_scale.into()));
        }
        changed
    }
}

/// An option as tables, messages and configuration name it.
#[derive(Clone, Copy, Debug)]
pub struct OptionInfo {
    /// The key in `[[optimizer]]` and of `--set`.
    pub key: &'static str,
    /// What it can be.
    pub values: &'static str,
    /// What it is where nothing is said.
    pub default: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Whether only rules with Kronecker factors have it.
    pub kronecker_only: bool,
}

/// All options of the curvature rules.
pub const OPTIONS: [OptionInfo; 4] = [
    OptionInfo {
        key: "inverse_every",
        values: "a number of steps from 1 on",
        default: "1",
        about: "invert the Kronecker factors only every so many steps",
        kronecker_only: true,
    },
    OptionInfo {
        key: "momentum",
        values: "from 0 up to, not including, 1",
        default: "0",
        about: "heavy ball on the preconditioned step",
        kronecker_only: false,
    },
    OptionInfo {
        key: "damping_scheme",
        values: "constant, levenberg_marquardt, trace",
        default: "constant",
        about: "keep the damping, adapt it by the reduction ratio, or take it relative to the mean curvature",
        kronecker_only: false,
    },
    OptionInfo {
        key: "kfc_scale",
        values: "true, false",
        default: "false",
        about: "divide a convolution's B by the number of output positions",
        kronecker_only: true,
    },
];

impl OptionInfo {
    /// Whether an optimizer has it.
    pub fn fits(&self, name: OptimizerName) -> bool {
        if self.kronecker_only { name.has_kronecker_factors() } else { name.has_damping() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_change_nothing_and_every_option_is_told() {
        assert!(CurvatureOptions::default().changed().is_empty());
        let all =
            CurvatureOptions { inverse_every: 3, momentum: 0.9, damping_scheme: DampingScheme::Trace, kfc_scale: true };
        let keys: Vec<_> = all.changed().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, OPTIONS.map(|option| option.key));
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<CurvatureOptions>(&text).unwrap(), all);
        for (name, scheme) in DampingScheme::NAMES {
            assert_eq!(name.parse::<DampingScheme>().unwrap(), scheme);
            assert_eq!(scheme.to_string(), name);
        }
    }
}
