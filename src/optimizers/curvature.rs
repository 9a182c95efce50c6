//! The options that the damped curvature rules share. Beyond the paper's step all of it is off unless asked for.

use super::damping::DampingScheme;
use super::info::sides;
use super::options::{FROM_0_BELOW_1, OptionInfo, OptionKind, OptionValue, STEPS, YES_OR_NO, from_0_below_1};
use super::{Averaging, Options};

/// How curvature is averaged over steps, as all damped rules have it.
pub const AVERAGING: OptionInfo = OptionInfo {
    key: "averaging",
    kind: OptionKind::Averaging,
    values: "none, cumulative, or ema:WEIGHT with a weight from 0 up to but not including 1 (ema:0.95)",
    default: || OptionValue::Averaging(Averaging::Cumulative),
    about: "how curvature is averaged over steps",
    always: true,
};

pub(super) const INVERSE_EVERY: OptionInfo = OptionInfo::new(
    "inverse_every",
    OptionKind::Count,
    STEPS,
    || OptionValue::Count(1),
    "steps from one inversion of the Kronecker factors to the next",
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
    "keep the damping, adapt it by the reduction ratio, or scale it by the mean curvature",
);

pub(super) const KFAC_APPROX: OptionInfo = OptionInfo::new(
    "kfac_approx",
    OptionKind::Choice(&["backpack", "expand", "reduce"]),
    "backpack, expand, reduce",
    || OptionValue::Text("backpack".to_owned()),
    "how the factors treat positions that share a weight",
);

const OTHERS_CHOICES: [&str; 2] = ["diagonal", "refuse"];

pub(super) const OTHERS: OptionInfo = OptionInfo::new(
    "others",
    OptionKind::Choice(&OTHERS_CHOICES),
    "diagonal, refuse",
    || OptionValue::Text(OTHERS_CHOICES[0].to_owned()),
    "precondition parameters without Kronecker factors by the diagonal of the same source, or refuse the network",
);

/// How many labels are sampled, for a rule whose curvature is.
pub const MC_SAMPLES: OptionInfo = OptionInfo {
    key: "mc_samples",
    kind: OptionKind::Count,
    values: "an integer of at least 1",
    default: || OptionValue::Count(1),
    about: "labels drawn per sample",
    always: true,
};

pub(super) const KFRA_ALIASING: OptionInfo = OptionInfo {
    key: "kfra_aliasing",
    kind: OptionKind::Flag,
    values: YES_OR_NO,
    default: || OptionValue::Flag(false),
    about: "average the output factors of linear layers with a bias twice per step, as the published runs did",
    always: true,
};

/// Copies of Kronecker factors: new, averaged, inverted, and the inversion's own.
const FACTOR_COPIES: u64 = 4;

/// What EKFAC keeps of a parameter: factors, eigenvectors and what they are computed in, and the eigenvalues.
pub(super) fn eigenbasis_memory(options: &Options, shape: &[i64]) -> u64 {
    let [rows, columns] = sides(shape);
    factor_memory(options, shape) + 2 * (rows * rows + columns * columns + rows * columns)
}

/// What the Kronecker factors of a parameter take.
pub(super) fn factor_memory(_options: &Options, shape: &[i64]) -> u64 {
    let [rows, columns] = sides(shape);
    FACTOR_COPIES * (rows * rows + columns * columns)
}
