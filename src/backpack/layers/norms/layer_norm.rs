//! `layer_norm`: the last axes of a sample with mean zero and variance one (Ba et al., 2016).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::layer_type::{LayerType, Site, Specimen, layer};
use super::super::sizes;
use super::rows::Rows;
use super::{Norm, Shared};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The options of layer normalisation, named as in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LayerNormOptions {
    /// the last axes, which are normalised together
    #[serde(default, deserialize_with = "sizes::shape_or_size", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "the last axis"))]
    pub normalized_shape: Option<Vec<i64>>,
    /// added to the variance
    #[serde(default = "sizes::eps", deserialize_with = "sizes::positive")]
    pub eps: f64,
    /// whether there is a scale
    #[serde(default = "sizes::yes")]
    pub elementwise_affine: bool,
    /// whether there is a shift beside the scale
    #[serde(default = "sizes::yes")]
    pub bias: bool,
}

impl LayerType for LayerNormOptions {
    const NAME: &'static str = "layer_norm";
    const SUMMARY: &'static str = "each sample's last axes with mean 0 and variance 1";
    const INITS: &'static [(&'static str, Init)] = super::super::WEIGHT_AND_BIAS;
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("", &[4, 6])];

    fn build(&self, site: &Site) -> Result<Operation> {
        let (kind, input) = (Self::NAME, site.input()?);
        let (shape, count, length) = of_last_axes(kind, input, self.normalized_shape.as_deref())?;
        let mut parameters = Vec::new();
        if self.elementwise_affine {
            parameters.push(site.parameters.plain(kind, "weight", &shape, Init::Constant(1.0))?);
        }
        if self.elementwise_affine && self.bias {
            parameters.push(site.parameters.plain(kind, "bias", &shape, Init::Constant(0.0))?);
        }
        let rows = Rows { count, length, centred: true, eps: self.eps };
        layer(Norm { kind, input: input.to_vec(), rows, shared: Shared::Places, parameters })
    }
}

/// The number of rows, and their length, of samples whose last axes have this shape; the whole last axis where it is None.
pub fn of_last_axes(kind: &str, input: &[i64], shape: Option<&[i64]>) -> Result<(Vec<i64>, i64, i64)> {
    let shape = match (shape, input) {
        (Some(shape), _) => shape.to_vec(),
        (None, [.., last]) => vec![*last],
        (None, []) => return Err(Error::Shape(format!("{kind}: the input has no axis"))),
    };
    if shape.is_empty() || !input.ends_with(&shape) {
        return Err(Error::Shape(format!(
            "{kind}: normalized_shape {shape:?} is not the end of an input of {input:?}"
        )));
    }
    let length: i64 = shape.iter().product();
    let count = input[..input.len() - shape.len()].iter().product();
    Ok((shape, count, length))
}
