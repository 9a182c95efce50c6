//! Padding as problem files write it.

use serde::{Deserialize, Serialize};

use crate::backpack::layers::{Padding, PaddingChoice};

/// Zeros (in a pool without sides: PyTorch's own padding) around a layer's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaddingOption {
    /// TensorFlow's: the output is ceil(input / stride), an odd row or column goes to the bottom or right.
    #[serde(rename = "same")]
    Same,
    /// The same on opposite sides: height, width.
    #[serde(untagged)]
    Symmetric([i64; 2]),
    /// Left, right, top, bottom.
    #[serde(untagged)]
    Sides([i64; 4]),
}

impl PaddingOption {
    /// The zeros that it stands for.
    pub fn zeros(self) -> PaddingChoice {
        match self {
            PaddingOption::Same => PaddingChoice::Same,
            PaddingOption::Symmetric([height, width]) => PaddingChoice::Explicit(Padding::symmetric(height, width)),
            PaddingOption::Sides(sides) => PaddingChoice::Explicit(sides.into()),
        }
    }
}

impl Default for PaddingOption {
    fn default() -> Self {
        PaddingOption::Symmetric([0, 0])
    }
}
