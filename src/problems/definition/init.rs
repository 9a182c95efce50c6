//! The names of initial values in problem files.

use crate::backpack::init::Init;

/// Those with a number, as `{ constant = 0.05 }`, with what the number means.
pub const INITS_WITH_NUMBER: [(&str, &str); 4] = [
    ("constant", "the value"),
    ("normal", "the standard deviation"),
    ("uniform", "the bound"),
    ("truncated_normal", "the scale"),
];

/// Those without, as `"xavier_normal"`.
pub const PLAIN_INITS: [(&str, Init); 3] =
    [("xavier_normal", Init::XavierNormal), ("xavier_uniform", Init::XavierUniform), ("default", Init::Default)];
