//! The options that the damped curvature rules share. Beyond the paper's step all of it is off unless asked for.

use super::damping::DampingScheme;
use super::options::{FROM_0_BELOW_1, OptionInfo, OptionKind, OptionValue, STEPS, YES_OR_NO, from_0_below_1};
use super::registry::sides;
use super::{Averaging, Options};

pub(super) const AVERAGING: OptionInfo = OptionInfo {
    key: "averaging",
    kind: OptionKind::Averaging,
    values: "none, cumulative, or ema:WEIGHT with a weight from 0 up to, not including, 1 (ema:0.95)",
    default: || OptionValue::Averaging(Averaging::Cumulative),
    about: "how curvature is averaged over steps",
    always: true,
};

pub(super) const INVERSE_EVERY: OptionInfo = OptionInfo::new(
    "inverse_every",
    OptionKind::Count,
    STEPS,
    || OptionValue::Count(1),
    "invert the Kronecker factors only every so many steps",
);

pub(super) const MOMENTUM: OptionInfo = OptionInfo::new(
    "momentum",
    OptionKind::Number(from_0_below_1),
    FROM_0_BELOW_1,
    || OptionValue::Number(0.0),
    "heavy ball on the preconditioned step",
);

pub(super) const DAMPING_SCHEME: OptionInfo = OptionInfo::new(
    "damping_scheme",
    OptionKind::Choice(&DampingScheme::NAMES),
    "constant, levenberg_marquardt, trace",
    || OptionValue::Text(DampingScheme::NAMES[0].to_owned()),
    "keep the damping, adapt it by the reduction ratio, or take it relative to the mean curvature",
);

pub(super) const KFC_SCALE: OptionInfo = OptionInfo::new(
    "kfc_scale",
    OptionKind::Flag,
    YES_OR_NO,
    || OptionValue::Flag(false),
    "divide a convolution's B by the number of output positions",
);

pub(super) const MC_SAMPLES: OptionInfo = OptionInfo {
    key: "mc_samples",
    kind: OptionKind::Count,
    values: "an integer from 1 on",
    default: || OptionValue::Count(1),
    about: "labels sampled a data point",
    always: true,
};

pub(super) const KFRA_ALIASING: OptionInfo = OptionInfo {
    key: "kfra_aliasing",
    kind: OptionKind::Flag,
    values: YES_OR_NO,
    default: || OptionValue::Flag(false),
    about: "average the output factors of linear layers with a bias twice a step, as the published runs did",
    always: true,
};

/// Copies of Kronecker factors: new, averaged, inverted, and the inversion's own.
const FACTOR_COPIES: u64 = 4;

/// What the Kronecker factors of a parameter take.
pub(super) fn factor_memory(_options: &Options, shape: &[i64]) -> u64 {
    let [rows, columns] = sides(shape);
    FACTOR_COPIES * (rows * rows + columns * columns)
}
