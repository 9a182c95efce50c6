//! `group_norm`: groups of channels of a sample with mean zero and variance one (Wu and He, 2018).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::layer_type::{LayerType, Site, Specimen, layer};
use super::super::sizes;
use super::rows::Rows;
use super::{Norm, Shared};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The options of group normalisation, named as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupNormOptions {
    /// the number of groups, which divides the channels
    #[serde(deserialize_with = "sizes::size")]
    pub num_groups: i64,
    /// added to the variance
    #[serde(default = "sizes::eps", deserialize_with = "sizes::positive")]
    pub eps: f64,
    /// whether there are scale and shift
    #[serde(default = "sizes::yes")]
    pub affine: bool,
}

impl LayerType for GroupNormOptions {
    const NAME: &'static str = "group_norm";
    const SUMMARY: &'static str = "each sample's groups of channels with mean 0 and variance 1";
    const INITS: &'static [(&'static str, Init)] = super::super::WEIGHT_AND_BIAS;
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("num_groups = 2", &[4, 5, 6])];

    fn build(&self, site: &Site) -> Result<Operation> {
        let (kind, input) = (Self::NAME, site.input()?);
        let (groups, channels) = (self.num_groups, input.first().copied().unwrap_or(0));
        if channels < 1 || channels % groups != 0 {
            return Err(Error::Shape(format!(
                "{kind}: {groups} groups must divide the {channels} channels of {input:?}"
            )));
        }
        let mut parameters = Vec::new();
        if self.affine {
            for (name, start) in [("weight", 1.0), ("bias", 0.0)] {
                parameters.push(site.parameters.plain(kind, name, &[channels], Init::Constant(start))?);
            }
        }
        let length = input.iter().product::<i64>() / groups;
        let rows = Rows { count: groups, length, centred: true, eps: self.eps };
        layer(Norm { kind, input: input.to_vec(), rows, shared: Shared::Channels, parameters })
    }
}
