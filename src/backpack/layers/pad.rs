//! `pad`: a number around a sample, in the order of torch.nn.functional.pad.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{LinearMap, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

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
