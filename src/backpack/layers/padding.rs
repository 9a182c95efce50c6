//! Padding as convolutions and pooling ask for it, and the layers `pad` and `zero_pad2d`.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::axes::{Zeros, image_shape};
use super::layer_type::{LayerType, Site, Specimen, layer};
use super::sizes::{self, PerAxis};
use super::{LinearMap, built_for};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

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

// `pad`: a number around a sample, its sizes in the order of torch.nn.functional.pad.

/// A number before and behind the entries of the last axes; negative padding cuts off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pad {
    /// pairs (before, after), last dimension first
    #[serde(deserialize_with = "sizes::offsets")]
    padding: Vec<i64>,
    /// the number
    #[serde(default, deserialize_with = "sizes::finite")]
    value: f64,
}

impl LayerType for Pad {
    const NAME: &'static str = "pad";
    const SUMMARY: &'static str = "a number put around the last dimensions";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("padding = [1, 0, 2, 1], value = 0.5", &[4, 5, 6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        layer(Pad::new(&self.padding, self.value)?)
    }
}

impl Pad {
    /// Pairs (before, behind), the last axis first.
    ///
    /// # Errors
    /// [`Error::Shape`] for an odd number of sizes.
    pub fn new(padding: &[i64], value: f64) -> Result<Self> {
        if !padding.len().is_multiple_of(2) || padding.is_empty() {
            return Err(Error::Shape(format!(
                "pad: expected pairs of sizes, before and behind each axis from the last on; got {padding:?}"
            )));
        }
        Ok(Pad { padding: padding.to_vec(), value })
    }
}

impl LinearMap for Pad {
    fn kind(&self) -> &'static str {
        "pad"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        if self.padding.len() / 2 > input.len() {
            return Err(Error::Shape(format!("pad: {:?} pads more axes than an input of {input:?} has", self.padding)));
        }
        let mut shape = input.to_vec();
        for (pair, size) in self.padding.chunks(2).zip(shape.iter_mut().rev()) {
            let whole = *size + pair[0] + pair[1];
            if whole < 1 || -pair[0] > *size || -pair[1] > *size {
                return Err(Error::Shape(format!("pad: {:?} leaves nothing of an input of {input:?}", self.padding)));
            }
            *size = whole;
        }
        Ok(shape)
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_constant_pad_nd(self.padding.as_slice())?)
    }

    fn transpose(&self, v: &Tensor, _input: &[i64]) -> Result<Tensor> {
        let back: Vec<i64> = self.padding.iter().map(|&size| -size).collect();
        Ok(v.f_constant_pad_nd(back.as_slice())?)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_pad(self.padding.as_slice(), "constant", self.value)?)
    }
}

// `zero_pad2d`: zeros around an image.

/// The options of zero padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ZeroPad2dOptions {
    /// integer, [h, w] or [left, right, top, bottom]
    #[serde(deserialize_with = "sides")]
    pub padding: [i64; 4],
}

fn sides<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<[i64; 4], D::Error> {
    let expected = "expected an integer of at least 0, [height, width] or [left, right, top, bottom]";
    match sizes::lengths(deserializer, &[2, 4], expected)?[..] {
        [all] => Ok([all; 4]),
        [height, width] => Ok([width, width, height, height]),
        [left, right, top, bottom] => Ok([left, right, top, bottom]),
        _ => Err(D::Error::custom(expected)),
    }
}

impl LayerType for ZeroPad2dOptions {
    const NAME: &'static str = "zero_pad2d";
    const SUMMARY: &'static str = "zeros around an image";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("padding = [1, 0, 2, 1]", &[4, 5, 6])];

    fn build(&self, site: &Site) -> Result<Operation> {
        layer(ZeroPad2d::new(site.input()?, self.padding.into())?)
    }
}

/// Zeros around the two spatial axes.
#[derive(Debug)]
pub struct ZeroPad2d {
    input: [i64; 3],
    padding: Padding,
}

impl ZeroPad2d {
    /// Padding for inputs of shape `[channels, height, width]`. Negative padding cuts pixels away, as in PyTorch.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input is no image or nothing would be left of it.
    pub fn new(input: &[i64], padding: Padding) -> Result<Self> {
        let input = image_shape("zero_pad2d", input)?;
        let Padding { left, right, top, bottom } = padding;
        if input[1] + top + bottom < 1 || input[2] + left + right < 1 {
            return Err(Error::Shape(format!("zero_pad2d: nothing is left of {input:?} after padding {padding:?}")));
        }
        Ok(ZeroPad2d { input, padding })
    }
}

impl LinearMap for ZeroPad2d {
    fn kind(&self) -> &'static str {
        "zero_pad2d"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        built_for("zero_pad2d", &self.input, input)?;
        let Padding { left, right, top, bottom } = self.padding;
        Ok(vec![self.input[0], self.input[1] + top + bottom, self.input[2] + left + right])
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_constant_pad_nd(self.padding.list())?)
    }

    fn transpose(&self, v: &Tensor, _input: &[i64]) -> Result<Tensor> {
        Ok(v.f_constant_pad_nd(self.padding.list().map(|pixels| -pixels))?)
    }

    fn keeps_channels(&self) -> bool {
        true
    }
}
