//! Normalisation of each sample by itself: `layer_norm`, `rms_norm` and `group_norm`, which differ in what is a row, in
//! whether its mean is taken away, and in the shape of scale and shift.

mod rows;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{
    Curvature, EntrywiseSite, Layer, Mode, Parameter, ParameterSite, Residual, Saved, Tangent, VjpTangent, built_for,
    gradient_by_parameter, sizes,
};
use crate::backpack::init::Init;
use crate::backpack::native::{WantedOfNorm, normalised_backward};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};
use rows::Rows;

/// Which entries of a sample have a scale and a shift in common.
#[derive(Clone, Debug)]
enum Shared {
    /// Those at the same place of every row: the parameters have the shape of the last axes.
    Places,
    /// Those of a channel, the first axis: the parameters are `[C]`.
    Channels,
}

/// A normalisation of rows of entries, times a scale, plus a shift.
///
/// The extra tensors of its forward pass are what is normalised, `[N, *input]`, and one over the rows' spreads, `[N, R, 1]`.
#[derive(Debug)]
pub struct Norm {
    kind: &'static str,
    /// The shape of a sample.
    input: Vec<i64>,
    rows: Rows,
    shared: Shared,
    /// The scale, and where there is one the shift.
    parameters: Vec<Parameter>,
}

/// Gradients of parameters, and of the input where it is wanted.
type Gradients = (Vec<Tensor>, Option<Tensor>);

/// Where the scale stands among the parameters.
const SCALE: usize = 0;

/// Whether a tensor `[N, C, *]` lies in memory without gaps, with its channels first or last.
fn in_order(x: &Tensor) -> bool {
    let axes = x.dim() as i64;
    let last: Vec<i64> = std::iter::once(0).chain(2..axes).chain([1]).collect();
    x.is_contiguous() || (axes >= 4 && x.permute(last.as_slice()).is_contiguous())
}

impl Norm {
    fn scale(&self) -> Option<Tensor> {
        self.parameters.first().map(|parameter| self.beside(&parameter.value))
    }

    /// A parameter, perhaps with vectors in front, as it broadcasts to `[N, *input]`.
    fn beside(&self, parameter: &Tensor) -> Tensor {
        match self.shared {
            Shared::Places => parameter.shallow_clone(),
            Shared::Channels => parameter.view([&[-1], vec![1; self.input.len() - 1].as_slice()].concat().as_slice()),
        }
    }

    /// `[V, *p]` as it broadcasts to `[V, N, *input]`.
    fn vectors_beside(&self, v: &Tensor) -> Tensor {
        let own = v.size()[1..].to_vec();
        let before = match self.shared {
            Shared::Places => vec![1; 1 + self.input.len() - own.len()],
            Shared::Channels => vec![1],
        };
        let behind = match self.shared {
            Shared::Places => Vec::new(),
            Shared::Channels => vec![1; self.input.len() - 1],
        };
        v.view([&v.size()[..1], &before, &own, &behind].concat().as_slice())
    }

    /// `[V, N, *input]` summed over what shares a parameter's entry: `[V, N, *p]`.
    fn summed(&self, v: &Tensor) -> Tensor {
        let size = v.size();
        let shape = self.parameters[0].value.size();
        let leading = &size[..2];
        let (split, axis) = match self.shared {
            Shared::Places => (vec![-1, shape.iter().product()], 2),
            Shared::Channels => (vec![self.input[0], self.input[1..].iter().product()], 3),
        };
        let sum = v.reshape([leading, &split].concat().as_slice()).sum_dim_intlist(axis, false, None::<Kind>);
        sum.view([leading, &shape].concat().as_slice())
    }

    /// What is normalised, `[N, *input]`, and one over the rows' spreads, `[N, R, 1]`.
    fn normalise(&self, input: &Tensor) -> Result<(Tensor, Tensor)> {
        let Rows { count, length, eps, .. } = self.rows;
        if matches!(self.shared, Shared::Places) {
            let (rows, inverse) = self.rows.normalise(input)?;
            return Ok((rows.f_view_as(input)?, inverse));
        }
        let (samples, channels, none) = (input.size()[0], self.input[0], None::<&Tensor>);
        let positions = length * count / channels;
        // libtorch's kernel takes either order of memory, but no other.
        let input = if in_order(input) { input.shallow_clone() } else { input.f_contiguous()? };
        let (rows, _, inverse) = input.f_native_group_norm(none, none, samples, channels, positions, count, eps)?;
        Ok((rows, inverse.f_unsqueeze(-1)?))
    }

    /// The gradients of the parameters that there are and are wanted, and of the input, by libtorch's own kernels, for the
    /// gradient `g` at the output, `[N, *input]`; None where libtorch has none.
    fn library_gradient(&self, saved: &Saved, g: &Tensor, wanted: WantedOfNorm) -> Result<Option<Gradients>> {
        if !self.rows.centred {
            return Ok(None);
        }
        let inverse = &saved.extra[1];
        let scale = self.parameters.first().map(|parameter| parameter.value.f_flatten(0, -1)).transpose()?;
        let [rows, scale, shift] = match self.shared {
            Shared::Places => {
                let rows = |x: &Tensor| self.rows.of(x, 1);
                let [of_rows, scale, shift] =
                    normalised_backward(&rows(g), &rows(&saved.extra[0]), None, scale.as_ref(), wanted)?;
                [of_rows.map(|of_rows| (of_rows * inverse).view_as(g)), scale, shift]
            }
            Shared::Channels => {
                let groups = self.rows.count;
                let [input, scale, shift] =
                    normalised_backward(g, &saved.extra[0], Some(groups), scale.as_ref(), wanted)?;
                let (samples, channels) = (g.size()[0], self.input[0]);
                let each = inverse.f_expand([samples, groups, channels / groups], false)?;
                let ones = vec![1; self.input.len() - 1];
                let each = each.f_reshape([&[samples, channels], ones.as_slice()].concat().as_slice())?;
                [input.map(|input| input * each), scale, shift]
            }
        };
        let shaped = |gradient: Tensor| Ok(gradient.f_view(self.parameters[SCALE].value.size().as_slice())?);
        let parameters: Result<Vec<Tensor>> = [scale, shift].into_iter().flatten().map(shaped).collect();
        Ok(Some((parameters?, rows)))
    }

    fn scaled(&self, v: &Tensor) -> Tensor {
        self.scale().map_or_else(|| v.shallow_clone(), |scale| v * scale)
    }
}

impl Layer for Norm {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        built_for(self.kind, &self.input, input)?;
        Ok(input.to_vec())
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let (rows, inverse) = self.normalise(input)?;
        let output = match (self.scale(), self.parameters.get(1)) {
            (Some(scale), Some(shift)) => self.beside(&shift.value).f_addcmul(&rows, &scale)?,
            _ => self.scaled(&rows),
        };
        Ok(Saved::new(input, output).with(vec![rows, inverse]))
    }

    fn library(&self, input: &Tensor, mode: Mode) -> Result<Tensor> {
        let [scale, shift] = [0, 1].map(|place| self.parameters.get(place).map(|parameter| &parameter.value));
        let Rows { count, length, centred, eps } = self.rows;
        Ok(match self.shared {
            Shared::Places if centred => {
                let shape = self.parameters.first().map_or_else(|| vec![length], |parameter| parameter.value.size());
                let rows = if scale.is_some() { input.shallow_clone() } else { self.rows.of(input, 1) };
                rows.f_layer_norm(shape, scale, shift, eps, false)?.view_as(input)
            }
            Shared::Channels => input.f_group_norm(count, scale, shift, eps, false)?,
            Shared::Places => self.forward(input, mode)?.output,
        })
    }

    fn gradient(&self, saved: &Saved, g: &Tensor, want_input: bool) -> Result<(Vec<Tensor>, Option<Tensor>)> {
        let (scale, shift) = (!self.parameters.is_empty(), self.parameters.len() > 1);
        match self.library_gradient(saved, g, WantedOfNorm { rows: want_input, scale, shift })? {
            Some(gradients) => Ok(gradients),
            None => gradient_by_parameter(self, saved, g, want_input),
        }
    }

    /// The Jacobian of the rows is symmetric.
    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        if v.size()[0] == 1 {
            let wanted = WantedOfNorm { rows: true, scale: false, shift: false };
            if let Some((_, Some(input))) = self.library_gradient(saved, &v.squeeze_dim(0), wanted)? {
                return Ok(input.unsqueeze(0));
            }
        }
        self.rows.jacobian(saved, &self.scaled(v))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(self.scaled(&self.rows.jacobian(saved, v)?))
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Mixed(self)
    }

    fn tangent(&self) -> Option<&dyn Tangent> {
        Some(self)
    }

    fn site(&self, _parameter: usize) -> ParameterSite<'_> {
        ParameterSite::Entrywise(self, "its scale acts on each entry by itself and has no Kronecker factors")
    }
}

/// The scale and the shift.
impl EntrywiseSite for Norm {
    fn factor(&self, saved: &Saved, parameter: usize) -> Option<Tensor> {
        (parameter == SCALE).then(|| saved.extra[0].shallow_clone())
    }

    fn gather(&self, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(self.summed(v))
    }

    fn spread(&self, _saved: &Saved, _parameter: usize, directions: &Tensor) -> Result<Tensor> {
        Ok(self.vectors_beside(directions))
    }
}

impl Tangent for Norm {
    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let mut below = None;
        let mut shares: Vec<Option<Tensor>> = parameters.iter().map(|_| None).collect();
        if let Some(tangent) = input {
            below = Some(self.rows.residual_times(saved, &self.scaled(g), tangent));
            if !shares.is_empty() {
                let moved = self.rows.jacobian(saved, &tangent.unsqueeze(0))?;
                let each = self.summed(&(moved * g));
                shares[0] = Some(each.sum_dim_intlist([0i64, 1].as_slice(), false, None::<Kind>));
            }
        }
        if let Some(Some(tangent)) = parameters.first() {
            let turned = g * self.vectors_beside(&tangent.unsqueeze(0)).squeeze_dim(0);
            let turned = self.rows.jacobian(saved, &turned.unsqueeze(0))?.squeeze_dim(0);
            below = Some(match below {
                Some(below) => below + turned,
                None => turned,
            });
        }
        Ok(VjpTangent { input: below, parameters: shares })
    }
}

impl Residual for Norm {
    fn root_width(&self, _saved: &Saved) -> i64 {
        self.rows.root_width()
    }

    fn signed_root(&self, saved: &Saved, g: &Tensor, start: i64, count: i64) -> Result<(Vec<Tensor>, Tensor)> {
        let (vectors, signs) = self.rows.signed_root(saved, &self.scaled(g), start, count);
        Ok((vec![vectors], signs))
    }
}

// `layer_norm`: the last axes of a sample with mean zero and variance one (Ba et al., 2016).

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
    const INITS: &'static [(&'static str, Init)] = super::WEIGHT_AND_BIAS;
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
fn of_last_axes(kind: &str, input: &[i64], shape: Option<&[i64]>) -> Result<(Vec<i64>, i64, i64)> {
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

// `rms_norm`: the last axes of a sample over their root mean square (Zhang and Sennrich, 2019).

/// The options of root-mean-square normalisation, named as in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RmsNormOptions {
    /// the last axes, which are normalised together
    #[serde(default, deserialize_with = "sizes::shape_or_size", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "the last axis"))]
    pub normalized_shape: Option<Vec<i64>>,
    /// added to the mean square
    #[serde(default = "rms_eps", deserialize_with = "sizes::positive")]
    pub eps: f64,
    /// whether there is a scale
    #[serde(default = "sizes::yes")]
    pub elementwise_affine: bool,
}

fn rms_eps() -> f64 {
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

// `group_norm`: groups of channels of a sample with mean zero and variance one (Wu and He, 2018).

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
    const INITS: &'static [(&'static str, Init)] = super::WEIGHT_AND_BIAS;
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
