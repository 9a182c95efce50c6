//! `gain`: every sample times a learned tensor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::spread::Spread;
use super::{
    Curvature, EntrywiseSite, Layer, Mode, Parameter, ParameterSite, ParameterSource, Saved, Tangent, VjpTangent, sizes,
};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The options of a gain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GainOptions {
    /// the weight's shape, which broadcasts to the batch
    #[serde(default, deserialize_with = "sizes::shape", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "the last axis"))]
    pub shape: Option<Vec<i64>>,
    /// what every entry starts as
    #[serde(default = "sizes::unit", deserialize_with = "sizes::finite")]
    pub value: f64,
}

impl LayerType for GainOptions {
    const NAME: &'static str = "gain";
    const SUMMARY: &'static str = "every sample times a learned tensor";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("shape = [4, 1, 6], value = 0.8", &[4, 5, 6])];

    fn build(&self, site: &Site) -> Result<Operation> {
        layer(Gain::made_of(site.input()?, self.shape.as_deref(), self.value, site.parameters)?)
    }
}

/// x times weight, entry by entry, with a weight that broadcasts to the batch.
#[derive(Debug)]
pub struct Gain {
    parameters: Vec<Parameter>,
    spread: Spread,
}

impl Gain {
    /// For samples of shape `input`, with a weight of this shape (the samples' last axis unless given), `value` everywhere.
    ///
    /// # Errors
    /// [`Error::Shape`] when the weight does not broadcast to the samples.
    pub fn new(input: &[i64], shape: Option<&[i64]>, value: f64) -> Result<Self> {
        Self::made_of(input, shape, value, ParameterSource::Drawn)
    }

    fn made_of(input: &[i64], shape: Option<&[i64]>, value: f64, source: ParameterSource) -> Result<Self> {
        let shape = match shape {
            Some(shape) => shape,
            None => input
                .len()
                .checked_sub(1)
                .map(|last| &input[last..])
                .ok_or_else(|| Error::Shape("gain: the input has no axis".into()))?,
        };
        let spread = Spread::new("gain", shape, input)?;
        let weight = source.plain("gain", "weight", shape, Init::Constant(value))?;
        Ok(Gain { parameters: vec![weight], spread })
    }

    fn weight(&self) -> &Tensor {
        &self.parameters[0].value
    }
}

impl Layer for Gain {
    fn kind(&self) -> &'static str {
        "gain"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Spread::new(self.kind(), &self.weight().size(), input)?;
        Ok(input.to_vec())
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, input.f_mul(self.weight())?))
    }

    fn vjp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.f_mul(self.weight())?)
    }

    fn jvp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.f_mul(self.weight())?)
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
        ParameterSite::Entrywise(self, "what multiplies every sample has no Kronecker factors")
    }
}

impl EntrywiseSite for Gain {
    fn factor(&self, saved: &Saved, _parameter: usize) -> Option<Tensor> {
        Some(saved.input.shallow_clone())
    }

    fn gather(&self, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        self.spread.gather(v)
    }

    fn spread(&self, _saved: &Saved, _parameter: usize, directions: &Tensor) -> Result<Tensor> {
        self.spread.beside(directions)
    }
}

impl Tangent for Gain {
    fn vjp_tangent(
        &self,
        _saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let weight = input.map(|tangent| -> Result<Tensor> {
            let product = g.f_mul(tangent)?.f_sum_dim_intlist(0, true, None::<Kind>)?;
            Ok(self.spread.gather(&product.unsqueeze(0))?.squeeze_dim(0).squeeze_dim(0))
        });
        Ok(VjpTangent {
            input: parameters[0].as_ref().map(|tangent| g.f_mul(tangent)).transpose()?,
            parameters: vec![weight.transpose()?],
        })
    }
}
