//! The keys of the curvature rules' options, as `[[optimizer]]`, the top of an experiment file and `--set` share them.

use crate::config::{Item, Table};
use crate::error::{Error, Result};
use crate::optimizers::{CurvatureOptions, DampingScheme, OPTIONS, OptimizerName};

/// What a text says of the options.
#[derive(Clone, Debug, Default)]
pub struct OptionKeys {
    inverse_every: Option<u64>,
    momentum: Option<f64>,
    damping_scheme: Option<DampingScheme>,
    kfc_scale: Option<bool>,
}

impl OptionKeys {
    /// Reads the keys that are there.
    pub(super) fn read(table: &Table) -> Result<Self> {
        let momentum = |item: Item| {
            item.number(|value| (0.0..1.0).contains(&value), "a number from 0 up to, not including, 1")
                .map(|value| value + 0.0)
        };
        Ok(OptionKeys {
            inverse_every: table
                .get("inverse_every")
                .map(|item| item.integer(1..=i64::MAX).map(|steps| steps as u64))
                .transpose()?,
            momentum: table.get("momentum").map(momentum).transpose()?,
            damping_scheme: table
                .get("damping_scheme")
                .map(|item| item.choice("damping_scheme", &DampingScheme::NAMES))
                .transpose()?,
            kfc_scale: table.get("kfc_scale").map(|item| item.boolean()).transpose()?,
        })
    }

    /// These, and what they do not say from `lower`.
    pub(super) fn or(self, lower: OptionKeys) -> Self {
        OptionKeys {
            inverse_every: self.inverse_every.or(lower.inverse_every),
            momentum: self.momentum.or(lower.momentum),
            damping_scheme: self.damping_scheme.or(lower.damping_scheme),
            kfc_scale: self.kfc_scale.or(lower.kfc_scale),
        }
    }

    /// The options of an optimizer; what it does not have stays at its default.
    pub(super) fn resolve(&self, name: OptimizerName) -> CurvatureOptions {
        let default = CurvatureOptions::default();
        if !name.has_damping() {
            return default;
        }
        let kronecker = name.has_kronecker_factors();
        CurvatureOptions {
            inverse_every: self.inverse_every.filter(|_| kronecker).unwrap_or(default.inverse_every),
            momentum: self.momentum.unwrap_or(default.momentum),
            damping_scheme: self.damping_scheme.unwrap_or(default.damping_scheme),
            kfc_scale: self.kfc_scale.filter(|_| kronecker).unwrap_or(default.kfc_scale),
        }
    }

    /// Refuses an option that none of the optimizers has.
    pub(super) fn check(&self, optimizers: &[OptimizerName]) -> Result<()> {
        let given = [
            self.inverse_every.is_some(),
            self.momentum.is_some(),
            self.damping_scheme.is_some(),
            self.kfc_scale.is_some(),
        ];
        for (option, given) in OPTIONS.iter().zip(given) {
            if given && !optimizers.iter().any(|name| option.fits(*name)) {
                let key = option.key;
                return Err(Error::Usage(format!("{key} is given, and none of the optimizers has it: leave it out")));
            }
        }
        Ok(())
    }
}
