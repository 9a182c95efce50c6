//! `zero_pad2d`: zeros around an image.

use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::channels::image_shape;
use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{LinearMap, Padding, built_for, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

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
