//! Batch normalisation of `[N, C]`, sequences, images and volumes: with running statistics a fixed scaling of channels,
//! while training a function of the whole batch.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::axes::{Lift, sum_positions};
use super::layer_type::{LayerType, Site, Specimen, layer};
use super::sizes::{self, PerAxis};
use super::{
    Curvature, EntrywiseSite, Layer, Mode, Parameter, ParameterSite, ParameterSource, Recursion, Saved, Tangent,
    VjpTangent, built_for,
};
use crate::backpack::init::Init;
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The options of BatchNorm, named as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(bound = "")]
pub struct BatchNormOptions<A: PerAxis> {
    /// added to the variance
    #[serde(default = "sizes::eps", deserialize_with = "sizes::positive")]
    pub eps: f64,
    /// weight of a new batch in the running statistics
    #[serde(default = "momentum", deserialize_with = "sizes::share")]
    pub momentum: f64,
    /// whether it stays in evaluation mode
    #[serde(default)]
    pub frozen: bool,
    /// The axes behind the channels.
    #[serde(skip)]
    pub axes: PhantomData<A>,
}

fn momentum() -> f64 {
    0.1
}

impl<A: PerAxis> Default for BatchNormOptions<A> {
    fn default() -> Self {
        BatchNormOptions { eps: sizes::eps(), momentum: momentum(), frozen: false, axes: PhantomData }
    }
}

macro_rules! room {
    ($axes:literal, $name:literal, $summary:literal, $input:expr) => {
        impl LayerType for BatchNormOptions<[i64; $axes]> {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;
            const INITS: &'static [(&'static str, Init)] = super::WEIGHT_AND_BIAS;
            const SPECIMENS: &'static [Specimen] = &[
                Specimen::new("", $input).when("in evaluation"),
                Specimen::new("frozen = true", $input).when("frozen").training(),
                Specimen::new("", $input).when("while training").training(),
            ];

            fn build(&self, site: &Site) -> Result<Operation> {
                layer(BatchNorm::<$axes>::made_of(site.input()?, self, site.parameters)?)
            }
        }
    };
}

room!(1, "batch_norm1d", "batch normalisation of features, or of the channels of sequences", &[4, 6]);
room!(2, "batch_norm2d", "batch normalisation of channels", &[4, 5, 6]);
room!(3, "batch_norm3d", "batch normalisation of the channels of volumes", &[4, 3, 4, 5]);

/// BatchNorm of features or sequences.
pub type BatchNorm1d = BatchNorm<1>;
/// The options of [`BatchNorm1d`].
pub type BatchNorm1dOptions = BatchNormOptions<[i64; 1]>;
/// BatchNorm of images.
pub type BatchNorm2d = BatchNorm<2>;
/// The options of [`BatchNorm2d`].
pub type BatchNorm2dOptions = BatchNormOptions<[i64; 2]>;
/// BatchNorm of volumes.
pub type BatchNorm3d = BatchNorm<3>;
/// The options of [`BatchNorm3d`].
pub type BatchNorm3dOptions = BatchNormOptions<[i64; 3]>;

/// BatchNorm over channels, with weight and bias `[channels]`.
///
/// The extra tensors of its forward pass are the normalised input and the inverse standard deviation; and of a pass that
/// used the batch's own statistics their mean and unbiased variance, `[N, C]`. All but the first are expanded over samples.
#[derive(Debug)]
pub struct BatchNorm<const AXES: usize> {
    options: BatchNormOptions<[i64; AXES]>,
    /// The shape of a sample, `[C, *axes]`.
    input: Vec<i64>,
    parameters: Vec<Parameter>,
    running_mean: Tensor,
    running_var: Tensor,
}

impl<const AXES: usize> BatchNorm<AXES>
where
    BatchNormOptions<[i64; AXES]>: LayerType,
{
    const KIND: &'static str = <BatchNormOptions<[i64; AXES]> as LayerType>::NAME;

    /// BatchNorm for inputs of shape `[channels, *axes]` (with one axis also `[channels]`): weight and variance one, bias
    /// and mean zero.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input has another number of axes.
    pub fn new(input: &[i64], options: &BatchNormOptions<[i64; AXES]>) -> Result<Self> {
        Self::made_of(input, options, ParameterSource::Drawn)
    }

    fn made_of(input: &[i64], options: &BatchNormOptions<[i64; AXES]>, source: ParameterSource) -> Result<Self> {
        let features = AXES == 1 && input.len() == 1;
        let channels = if features { input[0] } else { Lift::<AXES>::shape(Self::KIND, input)?.0 };
        let parameter = |name, start| source.plain(Self::KIND, name, &[channels], Init::Constant(start));
        Ok(BatchNorm {
            options: *options,
            input: input.to_vec(),
            parameters: vec![parameter("weight", 1.0)?, parameter("bias", 0.0)?],
            running_mean: Tensor::zeros(channels, (Kind::Float, Device::Cpu)),
            running_var: Tensor::ones(channels, (Kind::Float, Device::Cpu)),
        })
    }

    /// `[*leading, C]` as it multiplies `[*leading, C, *axes]`.
    fn beside(&self, channels: &Tensor, leading: &[i64]) -> Tensor {
        let axes = self.input.len() - 1;
        channels.view([leading, &[-1], vec![1; axes].as_slice()].concat().as_slice())
    }

    /// The axes that statistics are over, behind `leading` others: samples and positions.
    fn averaged(&self, leading: i64) -> Vec<i64> {
        let axes = self.input.len() as i64;
        std::iter::once(leading).chain(leading + 2..leading + 1 + axes).collect()
    }

    /// `[V, N, C, *axes]` summed over positions.
    fn summed(&self, v: &Tensor) -> Tensor {
        if self.input.len() == 1 { v.shallow_clone() } else { sum_positions(v) }
    }

    fn uses_batch(&self, mode: Mode) -> bool {
        !self.options.frozen && matches!(mode, Mode::Training { .. })
    }

    /// The weight over the inverse standard deviation, `[N, C, 1, ..]`: the Jacobian's diagonal with fixed statistics.
    fn scale(&self, saved: &Saved) -> Tensor {
        &saved.extra[1] * self.beside(&self.parameters[0].value, &[1])
    }

    fn used_batch(saved: &Saved) -> bool {
        saved.extra.len() > 2
    }
}

impl<const AXES: usize> Layer for BatchNorm<AXES>
where
    BatchNormOptions<[i64; AXES]>: LayerType,
{
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        built_for(Self::KIND, &self.input, input)?;
        Ok(input.to_vec())
    }

    fn forward(&self, input: &Tensor, mode: Mode) -> Result<Saved> {
        let samples = input.size()[0];
        let batch = self.uses_batch(mode);
        let mut statistics = Vec::new();
        let (mean, variance) = if batch {
            let axes = self.averaged(0);
            let mean = input.mean_dim(axes.as_slice(), false, None::<Kind>);
            let centred = input - self.beside(&mean, &[1]);
            let variance = centred.square().mean_dim(axes.as_slice(), false, None::<Kind>);
            let count = (samples * self.input[1..].iter().product::<i64>()) as f64;
            if count < 2.0 {
                let kind = Self::KIND;
                let reason = "one value per channel has no variance; use a larger batch";
                return Err(Error::Shape(format!("{kind}: {reason}")));
            }
            let each = [samples, self.input[0]];
            statistics.push(mean.expand(each, false));
            statistics.push((&variance * (count / (count - 1.0))).expand(each, false));
            (mean, variance)
        } else {
            (self.running_mean.shallow_clone(), self.running_var.shallow_clone())
        };
        let inverse = (variance + self.options.eps).rsqrt();
        let normalised = (input - self.beside(&mean, &[1])) * self.beside(&inverse, &[1]);
        let weight = self.beside(&self.parameters[0].value, &[1]);
        let output = &normalised * weight + self.beside(&self.parameters[1].value, &[1]);
        let inverse = self.beside(&inverse, &[1]);
        let each = [&[samples], &inverse.size()[1..]].concat();
        let inverse = inverse.expand(each.as_slice(), false);
        let mut extra = vec![normalised, inverse];
        extra.extend(statistics);
        Ok(Saved::new(input, output).with(extra))
    }

    fn library(&self, input: &Tensor, mode: Mode) -> Result<Tensor> {
        let [weight, bias] = [0, 1].map(|place| Some(&self.parameters[place].value));
        let BatchNormOptions { eps, momentum, .. } = self.options;
        // In training libtorch moves what it is given, and this is for yardsticks, whose statistics stay.
        let uses_batch = self.uses_batch(mode);
        let [mean, variance] = [&self.running_mean, &self.running_var]
            .map(|running| if uses_batch { running.copy() } else { running.shallow_clone() });
        Ok(input.f_batch_norm(weight, bias, Some(&mean), Some(&variance), uses_batch, momentum, eps, false)?)
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let scaled = v * self.scale(saved);
        if !Self::used_batch(saved) {
            return Ok(scaled);
        }
        // The statistics depend on the batch: take the mean and the part along the normalised input away.
        let axes = self.averaged(1);
        let normalised = saved.extra[0].unsqueeze(0);
        let mean = scaled.mean_dim(axes.as_slice(), true, None::<Kind>);
        let along = (&scaled * &normalised).mean_dim(axes.as_slice(), true, None::<Kind>);
        Ok(scaled - mean - normalised * along)
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        if Self::used_batch(saved) {
            return Err(Error::Unsupported(format!("{}: Jacobian products need fixed statistics", Self::KIND)));
        }
        Ok(v * self.scale(saved))
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("running_mean", &self.running_mean), ("running_var", &self.running_var)]
    }

    fn buffers_mut(&mut self) -> Vec<(&'static str, &mut Tensor)> {
        vec![("running_mean", &mut self.running_mean), ("running_var", &mut self.running_var)]
    }

    fn statistics(&self, saved: &Saved) -> Vec<Tensor> {
        saved.extra[2..].iter().map(|each| each.get(0)).collect()
    }

    fn update_buffers(&mut self, statistics: &[Tensor]) -> Result<()> {
        let momentum = self.options.momentum;
        for (running, new) in [&mut self.running_mean, &mut self.running_var].into_iter().zip(statistics) {
            running.f_copy_(&(&*running * (1.0 - momentum) + new * momentum))?;
        }
        Ok(())
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn tangent(&self) -> Option<&dyn Tangent> {
        Some(self)
    }

    fn samples_are_independent(&self, mode: Mode) -> bool {
        !self.uses_batch(mode)
    }

    fn site(&self, _parameter: usize) -> ParameterSite<'_> {
        ParameterSite::Entrywise(self, "its scale acts on each channel by itself and has no Kronecker factors")
    }

    fn recursion(&self) -> Option<&dyn Recursion> {
        Some(self)
    }
}

/// The scale and the shift.
impl<const AXES: usize> EntrywiseSite for BatchNorm<AXES>
where
    BatchNormOptions<[i64; AXES]>: LayerType,
{
    fn factor(&self, saved: &Saved, parameter: usize) -> Option<Tensor> {
        (parameter == 0).then(|| saved.extra[0].shallow_clone())
    }

    fn gather(&self, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(self.summed(v))
    }

    fn spread(&self, _saved: &Saved, _parameter: usize, directions: &Tensor) -> Result<Tensor> {
        Ok(self.beside(directions, &[directions.size()[0], 1]))
    }
}

impl<const AXES: usize> Recursion for BatchNorm<AXES>
where
    BatchNormOptions<[i64; AXES]>: LayerType,
{
    fn input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        let scale = self.scale(saved).get(0).expand(self.input.as_slice(), false).reshape([-1]);
        Ok(g * scale.unsqueeze(1) * scale.unsqueeze(0))
    }
}

impl<const AXES: usize> Tangent for BatchNorm<AXES>
where
    BatchNormOptions<[i64; AXES]>: LayerType,
{
    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let weight = input.map(|x| (g * x * &saved.extra[1]).sum_dim_intlist(self.averaged(0), false, None::<Kind>));
        Ok(VjpTangent {
            input: parameters[0].as_ref().map(|tangent| g * &saved.extra[1] * self.beside(tangent, &[1])),
            parameters: vec![weight, None],
        })
    }
}
