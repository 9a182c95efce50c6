//! How a parameter starts, as `weight_init` and `bias_init` write it.

use serde::{Deserialize, Serialize};

/// The distribution of a parameter's initial values.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitChoice {
    /// PyTorch's for this layer: for linear and convolution, uniform with bound 1/sqrt(fan_in).
    #[default]
    Default,
    /// Every value is this one.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform between minus and plus this bound.
    Uniform(f64),
    /// Normal with mean 0 and this scale, cut at plus and minus two scales.
    TruncatedNormal(f64),
    /// Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).
    XavierNormal,
    /// Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).
    XavierUniform,
}

impl InitChoice {
    /// Those with a number, with what the number means.
    pub const WITH_NUMBER: [(&'static str, &'static str); 4] = [
        ("constant", "the value"),
        ("normal", "the standard deviation"),
        ("uniform", "the bound"),
        ("truncated_normal", "the scale"),
    ];
    /// Those without.
    pub const PLAIN: [(&'static str, InitChoice); 3] = [
        ("xavier_normal", InitChoice::XavierNormal),
        ("xavier_uniform", InitChoice::XavierUniform),
        ("default", InitChoice::Default),
    ];

    /// The name, and the number if it has one.
    pub fn parts(self) -> (&'static str, Option<f64>) {
        match self {
            InitChoice::Default => ("default", None),
            InitChoice::Constant(value) => ("constant", Some(value)),
            InitChoice::Normal(value) => ("normal", Some(value)),
            InitChoice::Uniform(value) => ("uniform", Some(value)),
            InitChoice::TruncatedNormal(value) => ("truncated_normal", Some(value)),
            InitChoice::XavierNormal => ("xavier_normal", None),
            InitChoice::XavierUniform => ("xavier_uniform", None),
        }
    }
}
