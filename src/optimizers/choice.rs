//! The optimizers by name, and how curvature is averaged over steps, as flags and files write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An optimizer. `Display` writes the name of the command line ("diag_ggn_mc"), [`OptimizerName::title`] the paper's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// Stochastic gradient descent.
    Sgd,
    /// SGD with momentum 0.9, not Nesterov's.
    Momentum,
    /// Adam with PyTorch's defaults.
    Adam,
    /// The damped rule with the exact diagonal of the generalised Gauss-Newton matrix.
    DiagGgn,
    /// The damped rule with a Monte-Carlo estimate of that diagonal.
    DiagGgnMc,
    /// The damped rule with Kronecker factors from sampled labels (Martens and Grosse, 2015).
    Kfac,
    /// The damped rule with Kronecker factors from the exact square root (Botev et al., 2017).
    Kflr,
    /// The damped rule with the Kronecker factors of the averaged recursion (Botev et al., 2017).
    Kfra,
}

impl OptimizerName {
    /// All of them, baselines first.
    pub const ALL: [OptimizerName; 8] = [
        OptimizerName::Sgd,
        OptimizerName::Momentum,
        OptimizerName::Adam,
        OptimizerName::DiagGgn,
        OptimizerName::DiagGgnMc,
        OptimizerName::Kfac,
        OptimizerName::Kflr,
        OptimizerName::Kfra,
    ];

    /// The command line's name.
    pub fn as_str(self) -> &'static str {
        match self {
            OptimizerName::Sgd => "sgd",
            OptimizerName::Momentum => "momentum",
            OptimizerName::Adam => "adam",
            OptimizerName::DiagGgn => "diag_ggn",
            OptimizerName::DiagGgnMc => "diag_ggn_mc",
            OptimizerName::Kfac => "kfac",
            OptimizerName::Kflr => "kflr",
            OptimizerName::Kfra => "kfra",
        }
    }

    /// The name in tables and figures.
    pub fn title(self) -> &'static str {
        match self {
            OptimizerName::Sgd => "SGD",
            OptimizerName::Momentum => "Momentum",
            OptimizerName::Adam => "Adam",
            OptimizerName::DiagGgn => "DiagGGN",
            OptimizerName::DiagGgnMc => "DiagGGN-MC",
            OptimizerName::Kfac => "KFAC",
            OptimizerName::Kflr => "KFLR",
            OptimizerName::Kfra => "KFRA",
        }
    }

    /// Whether this is one of the damped curvature rules, which have a damping and an averaging.
    pub fn has_damping(self) -> bool {
        !matches!(self, OptimizerName::Sgd | OptimizerName::Momentum | OptimizerName::Adam)
    }

    /// Whether its curvature is made of Kronecker factors, which are inverted.
    pub fn has_kronecker_factors(self) -> bool {
        matches!(self, OptimizerName::Kfac | OptimizerName::Kflr | OptimizerName::Kfra)
    }

    /// Whether its curvature comes from sampled labels.
    pub fn samples_labels(self) -> bool {
        matches!(self, OptimizerName::DiagGgnMc | OptimizerName::Kfac)
    }
}

impl fmt::Display for OptimizerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for OptimizerName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        OptimizerName::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = OptimizerName::ALL.iter().map(|name| name.as_str()).collect();
            Error::Usage(format!("optimizer `{text}`: expected one of {}", names.join(", ")))
        })
    }
}

/// How the curvature of a mini-batch enters the estimate that preconditions the step.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Averaging {
    /// The mini-batch's curvature alone, as the paper's text has it.
    None,
    /// The arithmetic mean over all steps so far, as the runs behind the paper's figures had it.
    #[default]
    Cumulative,
    /// estimate <- b estimate + (1 - b) new, started at the first observation.
    Ema(f64),
}

impl fmt::Display for Averaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Averaging::None => f.write_str("none"),
            Averaging::Cumulative => f.write_str("cumulative"),
            Averaging::Ema(weight) => write!(f, "ema:{weight}"),
        }
    }
}

impl FromStr for Averaging {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "none" => Ok(Averaging::None),
            "cumulative" => Ok(Averaging::Cumulative),
            _ => text
                .strip_prefix("ema:")
                .and_then(|weight| weight.parse().ok())
                .filter(|weight| (0.0..1.0).contains(weight))
                .map(Averaging::Ema)
                .ok_or_else(|| {
                    Error::Usage(format!(
                        "averaging `{text}`: expected none, cumulative, or ema:WEIGHT with a weight from 0 up to, not \
                         including, 1 (ema:0.95)"
                    ))
                }),
        }
    }
}

impl Serialize for Averaging {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Averaging {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in OptimizerName::ALL {
            assert_eq!(name.to_string().parse::<OptimizerName>().unwrap(), name);
            assert_eq!(serde_json::to_string(&name).unwrap(), format!("\"{name}\""));
        }
        assert!("KFAC".parse::<OptimizerName>().is_err());
    }

    #[test]
    fn averaging_reads_back_and_refuses_what_diverges() {
        for text in ["none", "cumulative", "ema:0.95"] {
            assert_eq!(text.parse::<Averaging>().unwrap().to_string(), text);
        }
        for text in ["", "ema", "ema:1", "ema:-0.1", "ema:nan", "mean"] {
            assert!(text.parse::<Averaging>().is_err(), "{text}");
        }
    }
}
