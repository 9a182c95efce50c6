//! `class_token`: a learned vector put before a sequence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{Curvature, Layer, Mode, Parameter, ParameterSite, ParameterSource, Saved, Tangent, VjpTangent};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

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
