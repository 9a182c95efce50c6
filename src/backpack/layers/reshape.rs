//! `reshape`: the entries of a sample in another shape, in the same order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{LinearMap, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// Another shape of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reshape {
    /// a sample's shape; one size may be -1
    #[serde(deserialize_with = "sizes::list::<_, -1>")]
    shape: Vec<i64>,
}

impl LayerType for Reshape {
    const NAME: &'static str = "reshape";
    const SUMMARY: &'static str = "the entries in another shape";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("shape = [2, -1, 6]", &[4, 5, 6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        layer(Reshape::new(&self.shape)?)
    }
}

impl Reshape {
    /// This shape, without samples; one size may be -1 and follows from the others.
    ///
    /// # Errors
    /// [`Error::Shape`] for sizes below 1 other than one -1.
    pub fn new(shape: &[i64]) -> Result<Self> {
        let open = shape.iter().filter(|&&size| size == -1).count();
        if shape.is_empty() || open > 1 || shape.iter().any(|&size| size < 1 && size != -1) {
            return Err(Error::Shape(format!(
                "reshape: expected sizes of at least 1, one of which may be -1; got {shape:?}"
            )));
        }
        Ok(Reshape { shape: shape.to_vec() })
    }
}

impl LinearMap for Reshape {
    fn kind(&self) -> &'static str {
        "reshape"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        let entries: i64 = input.iter().product();
        let known: Option<i64> =
            self.shape.iter().filter(|&&size| size != -1).try_fold(1i64, |product, size| product.checked_mul(*size));
        let misfit = || Error::Shape(format!("reshape: an input of {input:?} has no shape {:?}", self.shape));
        let known = known.filter(|&known| known > 0 && entries % known == 0).ok_or_else(misfit)?;
        let shape: Vec<i64> = self.shape.iter().map(|&size| if size == -1 { entries / known } else { size }).collect();
        if shape.iter().product::<i64>() == entries { Ok(shape) } else { Err(misfit()) }
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let shape = self.output_shape(&x.size()[1..])?;
        Ok(x.f_reshape([&x.size()[..1], shape.as_slice()].concat().as_slice())?)
    }

    fn transpose(&self, v: &Tensor, input: &[i64]) -> Result<Tensor> {
        Ok(v.f_reshape([&v.size()[..1], input].concat().as_slice())?)
    }
}
