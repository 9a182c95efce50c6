//! `linear`: y = x W^T + b on the last axis; any extra axes between the samples and the features share the weight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::affine::{Rows, signed_squares};
use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{
    Curvature, KroneckerSupport, Layer, Mode, Parameter, ParameterSource, Saved, VjpTangent, second_moment, sizes,
};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The options of a linear layer, named as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinearOptions {
    /// outputs
    #[serde(deserialize_with = "sizes::size")]
    pub out_features: i64,
    /// whether there is a bias
    #[serde(default = "sizes::yes")]
    pub bias: bool,
}

impl LayerType for LinearOptions {
    const NAME: &'static str = "linear";
    const SUMMARY: &'static str = "affine map of the last dimension";
    const INITS: &'static [(&'static str, Init)] = super::WEIGHT_AND_BIAS;
    const CAN_BE_TIED: bool = true;
    const SPECIMENS: &'static [Specimen] = &[
        Specimen::new("out_features = 3", &[6]),
        Specimen::new("out_features = 3", &[2, 6]).when("with extra dimensions"),
    ];

    fn build(&self, site: &Site) -> Result<Operation> {
        layer(Linear::made_of(site.input()?, self, site.parameters)?)
    }
}

/// A linear layer with weight `[out, in]` and bias `[out]`.
#[derive(Debug)]
pub struct Linear {
    parameters: Vec<Parameter>,
}

const WEIGHT: usize = 0;

impl Linear {
    /// A layer for inputs of this shape (without the sample axis), its parameters drawn as PyTorch draws them.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input has no axis, or a size is not positive.
    pub fn new(input: &[i64], options: &LinearOptions) -> Result<Self> {
        Self::made_of(input, options, ParameterSource::Drawn)
    }

    pub(crate) fn made_of(input: &[i64], options: &LinearOptions, source: ParameterSource) -> Result<Self> {
        let Some(&features) = input.last() else {
            return Err(Error::Shape("linear: the input has no feature axis".into()));
        };
        if options.out_features < 1 || features < 1 {
            return Err(Error::Shape(format!("linear: {features} features to {}", options.out_features)));
        }
        let bias = options.bias.then_some(options.out_features);
        Ok(Linear { parameters: source.affine("linear", &[options.out_features, features], bias)? })
    }

    /// A layer with these values.
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        let mut parameters = vec![Parameter::new("weight", weight)];
        parameters.extend(bias.map(|value| Parameter::new("bias", value)));
        Linear { parameters }
    }

    fn weight(&self) -> &Tensor {
        &self.parameters[WEIGHT].value
    }

    fn bias(&self) -> Option<&Tensor> {
        self.parameters.get(1).map(|parameter| &parameter.value)
    }

    /// The input as rows with `T` positions; for `[N, in]` T is 1.
    fn rows(saved: &Saved) -> Rows {
        let x = &saved.input;
        let features = *x.size().last().expect("a linear layer's input has features");
        Rows(x.reshape([saved.samples(), -1, features]).transpose(1, 2).unsqueeze(1))
    }

    /// The input of every sample and position: `[N * T, in]`.
    fn flat_rows(saved: &Saved) -> Tensor {
        let features = *saved.input.size().last().expect("a linear layer's input has features");
        saved.input.reshape([-1, features])
    }

    /// Vectors in the format that goes with [`Self::rows`]: `[V, N, 1, out, T]`.
    fn shared(v: &Tensor) -> Tensor {
        let shape = v.size();
        let outputs = shape[shape.len() - 1];
        v.reshape([shape[0], shape[1], -1, outputs]).transpose(2, 3).unsqueeze(2)
    }

    /// Sums everything between the samples and the features.
    fn sum_positions(v: &Tensor) -> Tensor {
        match v.dim() {
            3 => v.shallow_clone(),
            dimensions => v.flatten(2, dimensions as i64 - 2).sum_dim_intlist(2, false, None::<Kind>),
        }
    }
}

/// `[V, N, .., f]` as `[V, N * .., f]`.
fn flat(v: &Tensor) -> Tensor {
    v.flatten(1, v.dim() as i64 - 2)
}

impl Layer for Linear {
    fn kind(&self) -> &'static str {
        "linear"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        let (outputs, features) = self.weight().size2()?;
        match input.last() {
            Some(&last) if last == features => {
                let mut shape = input.to_vec();
                *shape.last_mut().expect("it has a last axis") = outputs;
                Ok(shape)
            }
            _ => Err(Error::Shape(format!(
                "linear: expected {features} features on the last axis, got the shape {input:?}"
            ))),
        }
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let output = input.f_linear(self.weight(), self.bias())?;
        Ok(Saved::new(input, output))
    }

    fn vjp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.f_matmul(self.weight())?)
    }

    fn jvp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v.f_matmul(&self.weight().tr())?)
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn parameter_vjp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(Self::sum_positions(v));
        }
        if saved.input.dim() == 2 {
            return Ok(v.unsqueeze(-1) * saved.input.unsqueeze(-2));
        }
        Ok(Self::rows(saved).outer(&Self::shared(v)).squeeze_dim(2))
    }

    fn parameter_jvp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        let shape = saved.output.size();
        if parameter != WEIGHT {
            let outputs = shape[shape.len() - 1];
            let mut view = vec![1; shape.len() + 1];
            view[0] = v.size()[0];
            view[shape.len()] = outputs;
            let mut full = shape;
            full.insert(0, v.size()[0]);
            return Ok(v.view(view.as_slice()).expand(full.as_slice(), false));
        }
        let features = *saved.input.size().last().expect("a linear layer's input has features");
        let x = saved.input.reshape([1, -1, features]);
        let mut full = shape;
        full.insert(0, v.size()[0]);
        Ok(x.matmul(&v.transpose(1, 2)).view(full.as_slice()))
    }

    fn curvature(&self) -> Curvature {
        Curvature::Zero
    }

    fn vjp_tangent(
        &self,
        _saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let features = self.weight().size()[1];
        let outputs = self.weight().size()[0];
        let weight = input.map(|x| g.reshape([-1, outputs]).tr().matmul(&x.reshape([-1, features])));
        Ok(VjpTangent {
            input: parameters[WEIGHT].as_ref().map(|tangent| g.matmul(tangent)),
            parameters: self
                .parameters
                .iter()
                .enumerate()
                .map(|(i, _)| if i == WEIGHT { weight.as_ref().map(Tensor::shallow_clone) } else { None })
                .collect(),
        })
    }

    fn parameter_vjp_sum(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        let v = flat(v);
        if parameter != WEIGHT {
            return Ok(v.sum_dim_intlist(1, false, None::<Kind>));
        }
        let x = Self::flat_rows(saved);
        if v.size()[0] == 1 {
            return Ok(v.squeeze_dim(0).tr().f_mm(&x)?.unsqueeze(0));
        }
        Ok(v.transpose(1, 2).f_matmul(&x)?)
    }

    fn squares_sum(&self, saved: &Saved, parameter: usize, v: &Tensor, signs: Option<&Tensor>) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(signed_squares(&Self::sum_positions(v), signs).sum_dim_intlist(0, false, None::<Kind>));
        }
        if saved.input.dim() == 2 {
            return Ok(signed_squares(v, signs).tr().f_mm(&saved.input.square())?);
        }
        Ok(Self::rows(saved).squares_sum(&Self::shared(v), signs)?.squeeze_dim(0))
    }

    fn squares_per_sample(
        &self,
        saved: &Saved,
        parameter: usize,
        v: &Tensor,
        signs: Option<&Tensor>,
    ) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(signed_squares(&Self::sum_positions(v), signs));
        }
        if saved.input.dim() == 2 {
            return Ok(signed_squares(v, signs).unsqueeze(-1) * saved.input.square().unsqueeze(-2));
        }
        Ok(Self::rows(saved).squares_per_sample(&Self::shared(v), signs)?.squeeze_dim(1))
    }

    fn squared_norms(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        let norms = |tensor: &Tensor| tensor.square().sum_dim_intlist(-1, false, None::<Kind>);
        if parameter != WEIGHT {
            return Ok(norms(&Self::sum_positions(v)));
        }
        if saved.input.dim() == 2 {
            return Ok(norms(v) * norms(&saved.input));
        }
        Self::rows(saved).squared_norms(&Self::shared(v))
    }

    fn kronecker(&self) -> KroneckerSupport {
        KroneckerSupport::Factors
    }

    fn input_rows(&self, saved: &Saved) -> Option<Tensor> {
        Some(Self::flat_rows(saved))
    }

    fn has_positions(&self) -> bool {
        true
    }

    fn shared_rows(&self, saved: &Saved) -> Result<Tensor> {
        Ok(Self::rows(saved).0)
    }

    fn shared_vectors(&self, v: &Tensor) -> Result<Tensor> {
        Ok(Self::shared(v))
    }

    fn output_factor(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        second_moment(&Self::sum_positions(v).flatten(0, 1), 1.0)
    }

    fn refuses_kfra(&self, input: &[i64]) -> Option<String> {
        (input.len() != 1)
            .then(|| "kfra cannot go through a linear layer with extra dimensions; kfac and kflr can".into())
    }

    fn kfra_input(&self, _saved: &Saved, g: &Tensor) -> Result<Tensor> {
        Ok(self.weight().tr().f_mm(g)?.f_mm(self.weight())?)
    }

    fn kfra_output_factor(&self, g: &Tensor) -> Result<Tensor> {
        Ok(g.shallow_clone())
    }
}
