//! Padding of images, as it is asked for and in pixels.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::axes::Zeros;
use super::sizes::{self, PerAxis};

/// Zero padding around the two spatial axes of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Padding {
    /// Columns before the first.
    pub left: i64,
    /// Columns after the last.
    pub right: i64,
    /// Rows above the first.
    pub top: i64,
    /// Rows below the last.
    pub bottom: i64,
}

/// Padding as it is asked for, before the input's size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaddingChoice<A = [i64; 2]> {
    /// TensorFlow's: the output has ceil(input / stride) entries, an odd zero goes behind.
    Same,
    /// The same on both ends of each axis. In a pool it is libtorch's own (minus infinity around a maximum, zeros that
    /// may count around a mean).
    Symmetric(A),
    /// Zeros before and behind each axis.
    Ends {
        /// Before: at the top, at the left.
        before: A,
        /// Behind: at the bottom, at the right.
        behind: A,
    },
}

impl<A: PerAxis> Default for PaddingChoice<A> {
    fn default() -> Self {
        PaddingChoice::Symmetric(sizes::none())
    }
}

/// "same", or a list: a number for each axis, or two, the last axis first: left, right, top, bottom.
impl<A: PerAxis> Serialize for PaddingChoice<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            PaddingChoice::Same => serializer.serialize_str("same"),
            PaddingChoice::Symmetric(sizes) => serializer.collect_seq(sizes.as_ref()),
            PaddingChoice::Ends { before, behind } => {
                let ends = before.as_ref().iter().zip(behind.as_ref()).rev();
                serializer.collect_seq(ends.flat_map(|(before, behind)| [before, behind]))
            }
        }
    }
}

/// An integer, one or two for each axis, or "same".
impl<'de, A: PerAxis> Deserialize<'de> for PaddingChoice<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let lists = match A::COUNT {
            1 => "[before, behind]",
            2 => "[height, width], [left, right, top, bottom]",
            _ => "[depth, height, width], [left, right, top, bottom, front, back]",
        };
        let expected = || D::Error::custom(format!("expected an integer of at least 0, {lists} or \"same\""));

        /// What may stand there.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Word(String),
            One(i64),
            Many(Vec<i64>),
        }
        let values = match Written::deserialize(deserializer).map_err(|_| expected())? {
            Written::Word(word) if word == "same" => return Ok(PaddingChoice::Same),
            Written::Word(_) => return Err(expected()),
            Written::One(value) => vec![value; A::COUNT],
            Written::Many(values) => values,
        };
        for value in &values {
            sizes::within::<D::Error>(*value, 0, "expected integers of at least 0")?;
        }
        let count = A::COUNT;
        if values.len() == count {
            return Ok(PaddingChoice::Symmetric(A::of(|axis| values[axis])));
        }
        if values.len() != 2 * count {
            return Err(expected());
        }
        // The last axis comes first.
        let end = |behind: usize| A::of(|axis| values[2 * (count - 1 - axis) + behind]);
        Ok(PaddingChoice::Ends { before: end(0), behind: end(1) })
    }
}

impl<A> JsonSchema for PaddingChoice<A> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "padding".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["integer", "array", "string"] })
    }
}

impl Padding {
    /// `[left, right, top, bottom]`, the order of libtorch's `constant_pad_nd`.
    pub fn list(&self) -> [i64; 4] {
        [self.left, self.right, self.top, self.bottom]
    }
}

/// `[left, right, top, bottom]`, as [`Padding::list`] gives them.
impl From<[i64; 4]> for Padding {
    fn from([left, right, top, bottom]: [i64; 4]) -> Self {
        Padding { left, right, top, bottom }
    }
}

impl<A: PerAxis> PaddingChoice<A> {
    /// The zeros for an input of these sizes; all arguments are lifted.
    pub(super) fn resolve(&self, input: &[i64], kernel: &[i64], stride: &[i64], dilation: &[i64]) -> Zeros {
        let mut ends: Vec<[i64; 2]> = match *self {
            PaddingChoice::Symmetric(sizes) => sizes.as_ref().iter().map(|&size| [size, size]).collect(),
            PaddingChoice::Ends { before, behind } => {
                before.as_ref().iter().zip(behind.as_ref()).map(|(&before, &behind)| [before, behind]).collect()
            }
            PaddingChoice::Same => {
                let axes = input.iter().zip(kernel).zip(stride).zip(dilation);
                let total = |(((input, kernel), stride), dilation): (((&i64, &i64), &i64), &i64)| {
                    let output = (input + stride - 1) / stride;
                    let reach = dilation * (kernel - 1) + 1;
                    ((output - 1) * stride + reach - input).max(0)
                };
                axes.map(total).map(|total| [total / 2, total - total / 2]).collect()
            }
        };
        // A line has nothing above and below it.
        if ends.len() < input.len() {
            ends.insert(0, [0, 0]);
        }
        Zeros(ends)
    }

    /// Zeros at ends that are equal in pairs are the same thing as one number for each axis.
    pub(super) fn in_pairs(self) -> Self {
        match self {
            PaddingChoice::Ends { before, behind } if before == behind => PaddingChoice::Symmetric(before),
            other => other,
        }
    }
}
