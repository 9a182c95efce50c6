//! `rms_norm`: the last axes of a sample over their root mean square (Zhang and Sennrich, 2019).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::layer_type::{LayerType, Site, Specimen, layer};
use super::super::sizes;
use super::layer_norm::of_last_axes;
use super::rows::Rows;
use super::{Norm, Shared};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::Result;

/// The options of root-mean-square normalisation, named as in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RmsNormOptions {
    /// the last axes, which are normalised together
    #[serde(default, deserialize_with = "sizes::shape_or_size", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "the last axis"))]
    pub normalized_shape: Option<Vec<i64>>,
    /// added to the mean square
    #[serde(default = "eps", deserialize_with = "sizes::positive")]
    pub eps: f64,
    /// whether there is a scale
    #[serde(default = "sizes::yes")]
    pub elementwise_affine: bool,
}

fn eps() -> f64 {
    1e-6
}

impl LayerType for RmsNormOptions {
    const NAME: &'static str = "rms_norm";
    const SUMMARY: &'static str = "each sample's last axes over their root mean square";
    const INITS: &'static [(&'static str, Init)] = &[("weight", Init::Default)];
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("", &[4, 6])];

    fn build(&self, site: &Site) -> Result<Operation> {
        let (kind, input) = (Self::NAME, site.input()?);
        let (shape, count, length) = of_last_axes(kind, input, self.normalized_shape.as_deref())?;
        let mut parameters = Vec::new();
        if self.elementwise_affine {
            parameters.push(site.parameters.plain(kind, "weight", &shape, Init::Constant(1.0))?);
        }
        let rows = Rows { count, length, centred: false, eps: self.eps };
        layer(Norm { kind, input: input.to_vec(), rows, shared: Shared::Places, parameters })
    }
}
