//! Transposed convolutions over one to three axes, the adjoints of convolutions: any stride, padding, dilation and
//! groups.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::axes::{Lift, channel_blocks, channel_factor, each_vector, sum_positions};
use super::layer_type::{LayerType, Site, Specimen, layer};
use super::site::OF_WEIGHT;
use super::sizes::{self, PerAxis};
use super::{
    AffineSite, Curvature, EntrywiseSite, FactoredSite, Layer, Mode, OrderedRows, Parameter, ParameterSite,
    ParameterSource, Recursion, Saved, Tangent, VjpTangent, affine, built_for, merge, site, split,
};
use crate::backpack::init::Init;
use crate::backpack::native::{Geometry, Wanted, convolution_backward, convolution_weight_gradient};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

/// The options of a transposed convolution over `AXES` axes, named as in PyTorch; for images a pair is (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(bound(serialize = "A: Serialize", deserialize = ""))]
pub struct ConvTransposeOptions<A: PerAxis> {
    /// output channels
    #[serde(deserialize_with = "sizes::size")]
    pub out_channels: i64,
    /// the window's size, one for all axes or one each
    #[serde(deserialize_with = "sizes::sizes")]
    pub kernel_size: A,
    /// steps in the output for each step in the input
    #[serde(default = "sizes::ones::<A>", deserialize_with = "sizes::sizes")]
    #[schemars(extend("x-default" = "1"))]
    pub stride: A,
    /// what is cut off the output at both ends of each axis
    #[serde(default = "sizes::none::<A>", deserialize_with = "sizes::counts")]
    #[schemars(extend("x-default" = "0"))]
    pub padding: A,
    /// what is added at the output's far ends
    #[serde(default = "sizes::none::<A>", deserialize_with = "sizes::counts")]
    #[schemars(extend("x-default" = "0"))]
    pub output_padding: A,
    /// steps between a window's entries
    #[serde(default = "sizes::ones::<A>", deserialize_with = "sizes::sizes")]
    #[schemars(extend("x-default" = "1"))]
    pub dilation: A,
    /// groups of channels that do not mix
    #[serde(default = "sizes::one", deserialize_with = "sizes::size")]
    pub groups: i64,
    /// whether there is a bias
    #[serde(default = "sizes::yes")]
    pub bias: bool,
}

impl<A: PerAxis> Default for ConvTransposeOptions<A> {
    /// PyTorch's defaults; the number of channels and the kernel's size, which have none, are 1.
    fn default() -> Self {
        ConvTransposeOptions {
            out_channels: 1,
            kernel_size: sizes::ones(),
            stride: sizes::ones(),
            padding: sizes::none(),
            output_padding: sizes::none(),
            dilation: sizes::ones(),
            groups: 1,
            bias: true,
        }
    }
}

macro_rules! room {
    ($axes:literal, $name:literal, $summary:literal, $kernel:literal, $input:expr) => {
        impl LayerType for ConvTransposeOptions<[i64; $axes]> {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;
            const INITS: &'static [(&'static str, Init)] = super::WEIGHT_AND_BIAS;
            const SPECIMENS: &'static [Specimen] = &[
                Specimen::new(concat!("out_channels = 2, kernel_size = ", $kernel), $input),
                Specimen::new(concat!("out_channels = 2, groups = 2, kernel_size = ", $kernel), $input)
                    .when("with groups"),
            ];

            fn build(&self, site: &Site) -> Result<Operation> {
                layer(ConvTranspose::<$axes>::made_of(site.input()?, self, site.parameters)?)
            }
        }
    };
}

room!(1, "conv_transpose1d", "transposed convolution of sequences", "2", &[4, 6]);
room!(2, "conv_transpose2d", "transposed convolution", "[2, 3]", &[4, 5, 6]);
room!(3, "conv_transpose3d", "transposed convolution of volumes", "[2, 1, 3]", &[4, 3, 4, 5]);

/// A transposed convolution of sequences.
pub type ConvTranspose1d = ConvTranspose<1>;
/// The options of [`ConvTranspose1d`].
pub type ConvTranspose1dOptions = ConvTransposeOptions<[i64; 1]>;
/// A transposed convolution of images.
pub type ConvTranspose2d = ConvTranspose<2>;
/// The options of [`ConvTranspose2d`].
pub type ConvTranspose2dOptions = ConvTransposeOptions<[i64; 2]>;
/// A transposed convolution of volumes.
pub type ConvTranspose3d = ConvTranspose<3>;
/// The options of [`ConvTranspose3d`].
pub type ConvTranspose3dOptions = ConvTransposeOptions<[i64; 3]>;

/// A transposed convolution with weight `[in, out / groups, *kernel]` and bias `[out]`.
///
/// All lists of numbers are lifted ([`Lift`]): a sequence is computed with as an image of height 1.
#[derive(Debug)]
pub struct ConvTranspose<const AXES: usize> {
    options: ConvTransposeOptions<[i64; AXES]>,
    /// The input's channels.
    channels: i64,
    /// The sizes of the input's axes.
    input: Vec<i64>,
    /// The sizes of the output's axes.
    output: Vec<i64>,
    kernel: Vec<i64>,
    stride: Vec<i64>,
    padding: Vec<i64>,
    output_padding: Vec<i64>,
    dilation: Vec<i64>,
    parameters: Vec<Parameter>,
}

const WEIGHT: usize = 0;

impl<const AXES: usize> ConvTranspose<AXES>
where
    ConvTransposeOptions<[i64; AXES]>: LayerType,
{
    const KIND: &'static str = <ConvTransposeOptions<[i64; AXES]> as LayerType>::NAME;

    /// A transposed convolution for inputs of shape `[channels, *axes]`, its parameters drawn as PyTorch draws them.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input has another number of axes, the groups do not divide the channels, nothing is left
    /// of the output, or the output padding is not smaller than the stride or the dilation.
    pub fn new(input: &[i64], options: &ConvTransposeOptions<[i64; AXES]>) -> Result<Self> {
        Self::made_of(input, options, ParameterSource::Drawn)
    }

    pub(crate) fn made_of(
        input: &[i64],
        options: &ConvTransposeOptions<[i64; AXES]>,
        source: ParameterSource,
    ) -> Result<Self> {
        let kind = Self::KIND;
        let (channels, input) = Lift::<AXES>::shape(kind, input)?;
        let ConvTransposeOptions {
            out_channels, groups, kernel_size, stride, dilation, padding, output_padding, ..
        } = *options;
        if groups < 1 || out_channels < 1 || channels % groups != 0 || out_channels % groups != 0 {
            return Err(Error::Shape(format!(
                "{kind}: {groups} groups must divide {channels} input and {out_channels} output channels"
            )));
        }
        for axis in 0..AXES {
            if kernel_size[axis] < 1 || stride[axis] < 1 || dilation[axis] < 1 || padding[axis] < 0 {
                return Err(Error::Shape(format!("{kind}: kernel_size, stride and dilation start at 1")));
            }
            if output_padding[axis] < 0 || output_padding[axis] >= stride[axis].max(dilation[axis]) {
                return Err(Error::Shape(format!(
                    "{kind}: output_padding {output_padding:?} must be smaller than stride {stride:?} or dilation \
                     {dilation:?}"
                )));
            }
        }
        let weight = [&[channels, out_channels / groups][..], &kernel_size].concat();
        let parameters = source.affine(kind, &weight, options.bias.then_some(out_channels))?;
        let [kernel, stride, dilation] = [kernel_size, stride, dilation].map(|sizes| Lift::<AXES>::numbers(sizes, 1));
        let [padding, output_padding] = [padding, output_padding].map(|sizes| Lift::<AXES>::numbers(sizes, 0));
        let size = |axis: usize| {
            (input[axis] - 1) * stride[axis] - 2 * padding[axis]
                + dilation[axis] * (kernel[axis] - 1)
                + output_padding[axis]
                + 1
        };
        let output: Vec<i64> = (0..input.len()).map(size).collect();
        if output.iter().any(|&size| size < 1) {
            let size = Lift::<AXES>::lower(&output);
            return Err(Error::Shape(format!("{kind}: an output of {size:?} entries; use less padding")));
        }
        let options = *options;
        Ok(ConvTranspose {
            options,
            channels,
            input,
            output,
            kernel,
            stride,
            padding,
            output_padding,
            dilation,
            parameters,
        })
    }

    fn weight(&self) -> Tensor {
        Lift::<AXES>::up(&self.parameters[WEIGHT].value)
    }

    fn bias(&self) -> Option<&Tensor> {
        self.parameters.get(1).map(|parameter| &parameter.value)
    }

    /// Of (lifted) `[N', in, *]` with a weight.
    fn convolve(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, groups: i64) -> Result<Tensor> {
        Ok(x.f_convolution(
            weight,
            bias,
            self.stride.as_slice(),
            self.padding.as_slice(),
            self.dilation.as_slice(),
            true,
            self.output_padding.as_slice(),
            groups,
        )?)
    }

    /// The adjoint of [`Self::convolve`], an ordinary convolution.
    fn adjoint(&self, v: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let input = v.f_convolution(
            weight,
            None::<&Tensor>,
            self.stride.as_slice(),
            self.padding.as_slice(),
            self.dilation.as_slice(),
            false,
            vec![0; self.stride.len()],
            self.options.groups,
        )?;
        // An output padding beyond the stride (possible with dilation) would give rows the input does not have.
        let axes = self.input.len() as i64;
        let sizes = self.input.iter().enumerate();
        Ok(sizes.fold(input, |input, (axis, size)| input.narrow(axis as i64 - axes, 0, *size)))
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            stride: self.stride.clone(),
            padding: self.padding.clone(),
            dilation: self.dilation.clone(),
            output_padding: self.output_padding.clone(),
            transposed: true,
            groups: self.options.groups,
        }
    }

    /// What reaches each output position, `[N, G, d, T]` with d over (input channel, *kernel): the transposed convolution
    /// of every channel with each one-hot kernel.
    fn spread(&self, saved: &Saved) -> Result<Tensor> {
        let (channels, entries) = (self.channels, self.kernel.iter().product::<i64>());
        let one_hot = Tensor::eye(entries, (saved.input.kind(), saved.input.device()))
            .view([&[1, entries], self.kernel.as_slice()].concat().as_slice())
            .expand([&[channels, entries], self.kernel.as_slice()].concat().as_slice(), false)
            .contiguous();
        let spread = self.convolve(&Lift::<AXES>::up(&saved.input), &one_hot, None, channels)?;
        let groups = self.options.groups;
        Ok(spread.reshape([saved.samples(), groups, channels / groups * entries, -1]))
    }

    /// `[*leading, G, out / G, in / G * kernel]` as the weight lies: `[*leading, in, out / G, *kernel]`.
    fn laid_as_weight(&self, products: &Tensor, leading: &[i64]) -> Tensor {
        let groups = self.options.groups;
        let kernel = &self.options.kernel_size;
        let (outputs, inputs) = (self.options.out_channels / groups, self.channels / groups);
        let axes = leading.len() as i64;
        let split = [leading, &[groups, outputs, inputs], kernel].concat();
        let whole = [leading, &[self.channels, outputs], kernel].concat();
        products.view(split.as_slice()).transpose(axes + 1, axes + 2).reshape(whole.as_slice())
    }
}

impl<const AXES: usize> Layer for ConvTranspose<AXES>
where
    ConvTransposeOptions<[i64; AXES]>: LayerType,
{
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        built_for(Self::KIND, &[&[self.channels], Lift::<AXES>::lower(&self.input)].concat(), input)?;
        Ok([&[self.options.out_channels], Lift::<AXES>::lower(&self.output)].concat())
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let output = self.convolve(&Lift::<AXES>::up(input), &self.weight(), self.bias(), self.options.groups)?;
        Ok(Saved::new(input, Lift::<AXES>::down(output)))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let input = self.adjoint(&Lift::<AXES>::up(&merge(v)), &self.weight())?;
        Ok(split(&Lift::<AXES>::down(input), saved.samples()))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let output = self.convolve(&Lift::<AXES>::up(&merge(v)), &self.weight(), None, self.options.groups)?;
        Ok(split(&Lift::<AXES>::down(output), saved.samples()))
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
        each_vector(v, |tangent| {
            let (input, weight) = (Lift::<AXES>::up(&saved.input), Lift::<AXES>::up(tangent));
            Ok(Lift::<AXES>::down(self.convolve(&input, &weight, None, self.options.groups)?))
        })
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn tangent(&self) -> Option<&dyn Tangent> {
        Some(self)
    }

    fn gradient(&self, saved: &Saved, g: &Tensor, want_input: bool) -> Result<(Vec<Tensor>, Option<Tensor>)> {
        let wanted = Wanted { input: want_input, weight: true, bias: self.bias().is_some() };
        let (g, input) = (Lift::<AXES>::up(g), Lift::<AXES>::up(&saved.input));
        let [input, weight, bias] = convolution_backward(&g, &input, &self.weight(), &self.geometry(), wanted)?;
        let parameters = [weight.map(Lift::<AXES>::down), bias].into_iter().flatten().collect();
        Ok((parameters, input.map(Lift::<AXES>::down)))
    }

    fn recursion(&self) -> Option<&dyn Recursion> {
        Some(self)
    }
}

impl<const AXES: usize> AffineSite for ConvTranspose<AXES>
where
    ConvTransposeOptions<[i64; AXES]>: LayerType,
{
    fn rows(&self, saved: &Saved, _parameter: usize) -> Result<Tensor> {
        self.spread(saved)
    }

    fn vectors(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let groups = self.options.groups;
        Ok(v.reshape([v.size()[0], v.size()[1], groups, self.options.out_channels / groups, -1]))
    }

    fn as_weight(&self, _parameter: usize, products: &Tensor, leading: &[i64]) -> Tensor {
        self.laid_as_weight(products, leading)
    }
}

/// The bias.
impl<const AXES: usize> EntrywiseSite for ConvTranspose<AXES>
where
    ConvTransposeOptions<[i64; AXES]>: LayerType,
{
    fn gather(&self, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(sum_positions(v))
    }

    fn spread(&self, _saved: &Saved, _parameter: usize, directions: &Tensor) -> Result<Tensor> {
        Ok(directions.view([&[directions.size()[0], 1, -1][..], &[1; AXES]].concat().as_slice()))
    }
}

impl<const AXES: usize> FactoredSite for ConvTranspose<AXES>
where
    ConvTransposeOptions<[i64; AXES]>: LayerType,
{
    fn matrix(&self, weight: &Tensor) -> Tensor {
        let groups = self.options.groups;
        let (outputs, inputs) = (self.options.out_channels / groups, self.channels / groups);
        let matrix = weight.reshape([groups, inputs, outputs, -1]).transpose(1, 2).reshape([groups, outputs, -1]);
        if groups == 1 { matrix.squeeze_dim(0) } else { matrix }
    }

    fn weight_of(&self, matrix: &Tensor) -> Tensor {
        self.laid_as_weight(&matrix.contiguous(), &[])
    }

    fn input_factor(&self, saved: &Saved) -> Result<Tensor> {
        let factor = affine::second_moments(self, saved, WEIGHT)?;
        Ok(if self.options.groups == 1 { factor.squeeze_dim(0) } else { factor })
    }

    fn output_factor(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        channel_factor(v, self.options.groups)
    }

    /// Which of the overlapping patches a position is made of is left open by the readings.
    fn ordered_rows(&self) -> Option<&dyn OrderedRows> {
        None
    }

    fn position_sums(&self) -> Option<i64> {
        Some(self.options.out_channels)
    }

    fn averaged_output_factor(&self, g: &Tensor) -> Result<Tensor> {
        channel_blocks(g, self.options.out_channels, self.options.groups)
    }
}

impl<const AXES: usize> Tangent for ConvTranspose<AXES>
where
    ConvTransposeOptions<[i64; AXES]>: LayerType,
{
    fn vjp_tangent(
        &self,
        _saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let weight = input
            .map(|tangent| -> Result<Tensor> {
                let (g, tangent) = (Lift::<AXES>::up(g), Lift::<AXES>::up(tangent));
                let gradient = convolution_weight_gradient(&g, &tangent, &self.weight(), &self.geometry())?;
                Ok(Lift::<AXES>::down(gradient))
            })
            .transpose()?;
        let back = |tangent: &Tensor| -> Result<Tensor> {
            Ok(Lift::<AXES>::down(self.adjoint(&Lift::<AXES>::up(g), &Lift::<AXES>::up(tangent))?))
        };
        let input = parameters[WEIGHT].as_ref().map(back).transpose()?;
        let mut tangents = vec![weight];
        tangents.resize_with(self.parameters.len(), || None);
        Ok(VjpTangent { input, parameters: tangents })
    }
}

impl<const AXES: usize> Recursion for ConvTranspose<AXES>
where
    ConvTransposeOptions<[i64; AXES]>: LayerType,
{
    fn input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        super::both_sides(g, &saved.output.size()[1..], |rows| self.adjoint(&Lift::<AXES>::up(rows), &self.weight()))
    }
}
