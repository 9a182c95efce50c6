//! Layers with a learned tensor beside the sample: `gain`, `position_embedding` and `class_token`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{
    Curvature, EntrywiseSite, Layer, Mode, Parameter, ParameterSite, ParameterSource, Saved, Tangent, VjpTangent, sizes,
};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

// A parameter that is spread over a sample: added or multiplied entry by entry, its sizes of 1 standing for any size.

/// How a parameter of one shape goes with samples of another.
#[derive(Clone, Debug)]
struct Spread {
    /// The parameter's own shape.
    parameter: Vec<i64>,
    /// The same with as many axes as a sample has.
    aligned: Vec<i64>,
}

impl Spread {
    /// A parameter of this shape, aligned with the last axes of samples of shape `input`; it may have one axis more than
    /// these, for the samples, of size 1.
    ///
    /// # Errors
    /// [`Error::Shape`] when it does not broadcast to the samples.
    pub fn new(kind: &str, parameter: &[i64], input: &[i64]) -> Result<Self> {
        let misfit = || {
            Error::Shape(format!(
                "{kind}: a parameter of shape {parameter:?} does not go with samples of shape {input:?}; its sizes have \
                 to be theirs, or 1, from the last axis on"
            ))
        };
        let own = match parameter {
            [1, own @ ..] if own.len() == input.len() => own,
            own => own,
        };
        let missing = input.len().checked_sub(own.len()).ok_or_else(misfit)?;
        let aligned: Vec<i64> = std::iter::repeat_n(1, missing).chain(own.iter().copied()).collect();
        if aligned.iter().zip(input).any(|(own, size)| *own != 1 && own != size) {
            return Err(misfit());
        }
        Ok(Spread { parameter: parameter.to_vec(), aligned })
    }

    /// Sums over what the parameter is spread over, sample by sample: `[V, N, *out]` to `[V, N, *p]`.
    pub fn gather(&self, v: &Tensor) -> Result<Tensor> {
        let size = v.size();
        let axes: Vec<i64> = (2..size.len())
            .filter(|&axis| self.aligned[axis - 2] == 1 && size[axis] != 1)
            .map(|axis| axis as i64)
            .collect();
        let sum =
            if axes.is_empty() { v.shallow_clone() } else { v.f_sum_dim_intlist(axes.as_slice(), true, None::<Kind>)? };
        Ok(sum.f_reshape([&size[..2], self.parameter.as_slice()].concat().as_slice())?)
    }

    /// The parameter, or vectors `[V, *p]` of its shape, beside samples: `[V, 1, *]` with sizes of 1 where it is spread.
    pub fn beside(&self, vectors: &Tensor) -> Result<Tensor> {
        Ok(vectors.f_reshape([&vectors.size()[..1], &[1], self.aligned.as_slice()].concat().as_slice())?)
    }
}

// `gain`: every sample times a learned tensor.

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

// `position_embedding`: a learned tensor added to every sample.

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

// `class_token`: a learned vector put before a sequence.

/// The options of a class token: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClassTokenOptions {}

impl LayerType for ClassTokenOptions {
    const NAME: &'static str = "class_token";
    const SUMMARY: &'static str = "a learned vector put in front of a sequence [T, d]";
    const INITS: &'static [(&'static str, Init)] = &[("weight", Init::Constant(0.0))];
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("", &[3, 4])];

    fn build(&self, site: &Site) -> Result<Operation> {
        layer(ClassToken::made_of(site.input()?, site.parameters)?)
    }
}

/// `[N, T, d]` to `[N, T + 1, d]`: the weight `[1, 1, d]` first.
#[derive(Debug)]
pub struct ClassToken {
    parameters: [Parameter; 1],
}

impl ClassToken {
    /// For inputs of shape `[T, d]`, zero.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input of another number of axes.
    pub fn new(input: &[i64]) -> Result<Self> {
        Self::made_of(input, ParameterSource::Drawn)
    }

    fn made_of(input: &[i64], source: ParameterSource) -> Result<Self> {
        let &[_, width] = input else {
            return Err(Error::Shape(format!("class_token: expected an input of shape [T, d], got {input:?}")));
        };
        Ok(ClassToken { parameters: [source.plain("class_token", "weight", &[1, 1, width], Init::Constant(0.0))?] })
    }
}

impl Layer for ClassToken {
    fn kind(&self) -> &'static str {
        "class_token"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        let own = self.parameters[0].value.size()[2];
        match *input {
            [length, width] if width == own => Ok(vec![length + 1, width]),
            _ => Err(Error::Shape(format!("class_token: built for an input of [T, {own}], got {input:?}"))),
        }
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let token = self.parameters[0].value.expand([input.size()[0], 1, -1], false);
        Ok(Saved::new(input, Tensor::f_cat(&[token, input.shallow_clone()], 1)?))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.narrow(2, 1, saved.input.size()[1]))
    }

    fn jvp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.f_constant_pad_nd([0, 0, 1, 0])?)
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn parameter_vjp(&self, _saved: &Saved, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(v.narrow(2, 0, 1).unsqueeze(2))
    }

    fn parameter_vjp_sum(&self, _saved: &Saved, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(v.narrow(2, 0, 1).sum_dim_intlist(1, true, None::<Kind>))
    }

    fn parameter_jvp(&self, saved: &Saved, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        let (samples, length) = (saved.samples(), saved.input.size()[1]);
        Ok(v.f_expand([-1, samples, -1, -1], false)?.f_constant_pad_nd([0, 0, 0, length])?)
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn tangent(&self) -> Option<&dyn Tangent> {
        Some(self)
    }

    fn site(&self, _parameter: usize) -> ParameterSite<'_> {
        ParameterSite::Products("what is put before every sequence has no Kronecker factors")
    }
}

impl Tangent for ClassToken {
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
