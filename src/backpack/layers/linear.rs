//! `linear`: y = x W^T + b on the last axis; any extra axes between the samples and the features share the weight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::site::{self, OF_WEIGHT};
use super::{
    AffineSite, Curvature, EntrywiseSite, FactoredSite, Layer, MixedDerivative, Mode, OrderedRows, Parameter,
    ParameterSite, ParameterSource, Recursion, Saved, Tangent, VjpTangent, second_moment, sizes,
};
use crate::backpack::init::Init;
use crate::backpack::native::product::{linear, matmul};
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

    /// The input of every sample and position: `[N * T, in]`.
    fn inputs(saved: &Saved) -> Tensor {
        let features = *saved.input.size().last().expect("a linear layer's input has features");
        saved.input.reshape([-1, features])
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
        let output = linear(input, self.weight(), self.bias())?;
        Ok(Saved::new(input, output))
    }

    fn vjp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        matmul(v, self.weight())
    }

    fn jvp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        matmul(v, &self.weight().tr())
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn site(&self, parameter: usize) -> ParameterSite<'_> {
        if parameter == WEIGHT { ParameterSite::Factored(self) } else { ParameterSite::Entrywise(self, OF_WEIGHT) }
    }

    fn parameter_jvp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        if parameter != WEIGHT {
            return site::entrywise_moved(self, saved, parameter, v);
        }
        let features = *saved.input.size().last().expect("a linear layer's input has features");
        let x = saved.input.reshape([1, -1, features]);
        let full = [&v.size()[..1], saved.output.size().as_slice()].concat();
        Ok(matmul(&x, &v.transpose(1, 2))?.view(full.as_slice()))
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn tangent(&self) -> Option<&dyn Tangent> {
        Some(self)
    }

    fn parameter_vjp_sum(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        let v = flat(v);
        if parameter != WEIGHT {
            return Ok(v.sum_dim_intlist(1, false, None::<Kind>));
        }
        let x = Self::inputs(saved);
        if v.size()[0] == 1 {
            return Ok(matmul(&v.squeeze_dim(0).tr(), &x)?.unsqueeze(0));
        }
        matmul(&v.transpose(1, 2), &x)
    }

    fn mixed(&self) -> Option<&dyn MixedDerivative> {
        Some(self)
    }

    fn recursion(&self) -> Option<&dyn Recursion> {
        Some(self)
    }
}

impl MixedDerivative for Linear {
    fn mixed_squares(&self, parameter: usize, g: &Tensor, start: i64, products: &Tensor) -> Result<Tensor> {
        let shape = products.size();
        let (entries, samples) = (shape[0], shape[1]);
        if parameter != WEIGHT {
            return Ok(Tensor::f_zeros(&shape[1..], (products.kind(), products.device()))?);
        }
        // Input entry (t, i) meets the weights (o, i) alone, where the product of g has the slope g[t, o].
        let (outputs, features) = self.weight().size2()?;
        let number = Tensor::arange_start(start, start + entries, (Kind::Int64, g.device()));
        let (t, i) = (number.f_floor_divide_scalar(features)?, number.f_remainder(features)?);
        let slopes = g.f_reshape([samples, -1, outputs])?.f_index_select(1, &t)?.transpose(0, 1);
        let column = i.view([entries, 1, 1, 1]).f_expand([entries, samples, outputs, 1], false)?;
        let each = products.f_gather(3, &column, false)?.squeeze_dim(3) * slopes * 2.0;
        let sum = Tensor::f_zeros([features, samples, outputs], (g.kind(), g.device()))?;
        Ok(sum.f_index_add(0, &i, &each)?.permute([1, 2, 0]))
    }
}

impl AffineSite for Linear {
    /// For an input `[N, in]` T is 1.
    fn rows(&self, saved: &Saved, _parameter: usize) -> Result<Tensor> {
        let x = &saved.input;
        let features = *x.size().last().expect("a linear layer's input has features");
        Ok(x.reshape([saved.samples(), -1, features]).transpose(1, 2).unsqueeze(1))
    }

    fn vectors(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let shape = v.size();
        let outputs = shape[shape.len() - 1];
        Ok(v.reshape([shape[0], shape[1], -1, outputs]).transpose(2, 3).unsqueeze(2))
    }

    fn as_weight(&self, _parameter: usize, products: &Tensor, leading: &[i64]) -> Tensor {
        products.squeeze_dim(leading.len() as i64)
    }

    fn single_position(&self, saved: &Saved, v: &Tensor) -> Option<(Tensor, Tensor)> {
        (saved.input.dim() == 2).then(|| (saved.input.shallow_clone(), v.shallow_clone()))
    }
}

/// The bias.
impl EntrywiseSite for Linear {
    fn gather(&self, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(Self::sum_positions(v))
    }

    fn spread(&self, saved: &Saved, _parameter: usize, directions: &Tensor) -> Result<Tensor> {
        let (vectors, outputs) = directions.size2()?;
        let between = vec![1; saved.output.dim() - 1];
        Ok(directions.view([&[vectors], between.as_slice(), &[outputs]].concat().as_slice()))
    }
}

impl FactoredSite for Linear {
    fn matrix(&self, weight: &Tensor) -> Tensor {
        weight.shallow_clone()
    }

    fn weight_of(&self, matrix: &Tensor) -> Tensor {
        matrix.shallow_clone()
    }

    fn input_factor(&self, saved: &Saved) -> Result<Tensor> {
        second_moment(&Self::inputs(saved), 1.0)
    }

    fn flat_rows(&self, saved: &Saved) -> Option<Tensor> {
        Some(Self::inputs(saved))
    }

    fn output_factor(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        second_moment(&Self::sum_positions(v).flatten(0, 1), 1.0)
    }

    fn ordered_rows(&self) -> Option<&dyn OrderedRows> {
        Some(self)
    }

    fn averaged_output_factor(&self, g: &Tensor) -> Result<Tensor> {
        Ok(g.shallow_clone())
    }
}

impl OrderedRows for Linear {
    fn ordered(&self, saved: &Saved) -> Result<Tensor> {
        self.rows(saved, WEIGHT)
    }
}

impl Tangent for Linear {
    fn vjp_tangent(
        &self,
        _saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let features = self.weight().size()[1];
        let outputs = self.weight().size()[0];
        let rows = g.reshape([-1, outputs]);
        let weight = input.map(|x| matmul(&rows.tr(), &x.reshape([-1, features]))).transpose()?;
        Ok(VjpTangent {
            input: parameters[WEIGHT].as_ref().map(|tangent| matmul(g, tangent)).transpose()?,
            parameters: self
                .parameters
                .iter()
                .enumerate()
                .map(|(i, _)| if i == WEIGHT { weight.as_ref().map(Tensor::shallow_clone) } else { None })
                .collect(),
        })
    }
}

impl Recursion for Linear {
    fn refuses(&self, input: &[i64]) -> Option<String> {
        (input.len() != 1)
            .then(|| "kfra cannot go through a linear layer with extra dimensions; kfac and kflr can".into())
    }

    fn input(&self, _saved: &Saved, g: &Tensor) -> Result<Tensor> {
        matmul(&matmul(&self.weight().tr(), g)?, self.weight())
    }
}
