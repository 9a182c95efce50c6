//! `position_embedding`: a learned tensor added to every sample.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::spread::Spread;
use super::{
    Curvature, EntrywiseSite, Layer, Mode, Parameter, ParameterSite, ParameterSource, Saved, Tangent, VjpTangent, sizes,
};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::Result;

/// The options of a position embedding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PositionEmbeddingOptions {
    /// the weight's shape, which broadcasts to the batch
    #[serde(default, deserialize_with = "sizes::shape", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "the sample's"))]
    pub shape: Option<Vec<i64>>,
}

impl LayerType for PositionEmbeddingOptions {
    const NAME: &'static str = "position_embedding";
    const SUMMARY: &'static str = "a learned tensor added to every sample";
    const INITS: &'static [(&'static str, Init)] = &[("weight", Init::Normal(0.02))];
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("shape = [5, 1]", &[4, 5, 6])];

    fn build(&self, site: &Site) -> Result<Operation> {
        layer(PositionEmbedding::made_of(site.input()?, self.shape.as_deref(), site.parameters)?)
    }
}

/// x + weight, with a weight that broadcasts to the batch.
#[derive(Debug)]
pub struct PositionEmbedding {
    parameters: Vec<Parameter>,
    spread: Spread,
}

impl PositionEmbedding {
    /// For samples of shape `input`, with a weight of this shape (the samples' own unless given), normal with deviation 0.02.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the weight does not broadcast to the samples.
    pub fn new(input: &[i64], shape: Option<&[i64]>) -> Result<Self> {
        Self::made_of(input, shape, ParameterSource::Drawn)
    }

    pub(crate) fn made_of(input: &[i64], shape: Option<&[i64]>, source: ParameterSource) -> Result<Self> {
        let shape = shape.unwrap_or(input);
        let spread = Spread::new("position_embedding", shape, input)?;
        let weight = source.plain("position_embedding", "weight", shape, Init::Normal(0.02))?;
        Ok(PositionEmbedding { parameters: vec![weight], spread })
    }
}

impl Layer for PositionEmbedding {
    fn kind(&self) -> &'static str {
        "position_embedding"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Spread::new(self.kind(), &self.parameters[0].value.size(), input)?;
        Ok(input.to_vec())
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, input.f_add(&self.parameters[0].value)?))
    }

    fn vjp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.shallow_clone())
    }

    fn jvp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.shallow_clone())
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn tangent(&self) -> Option<&dyn Tangent> {
        Some(self)
    }

    fn site(&self, _parameter: usize) -> ParameterSite<'_> {
        ParameterSite::Entrywise(self, "what is added to every sample has no Kronecker factors")
    }
}

impl EntrywiseSite for PositionEmbedding {
    fn gather(&self, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        self.spread.gather(v)
    }

    fn spread(&self, _saved: &Saved, _parameter: usize, directions: &Tensor) -> Result<Tensor> {
        self.spread.beside(directions)
    }
}

impl Tangent for PositionEmbedding {
    fn vjp_tangent(
        &self,
        _saved: &Saved,
        _g: &Tensor,
        _input: Option<&Tensor>,
        _parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        Ok(VjpTangent::default())
    }
}
