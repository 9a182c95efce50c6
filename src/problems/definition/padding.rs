//! Padding as problem files write it.

use serde::{Deserialize, Serialize};

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

impl Default for PaddingOption {
    fn default() -> Self {
        PaddingOption::Symmetric([0, 0])
    }
}
