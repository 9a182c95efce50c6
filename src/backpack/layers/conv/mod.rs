//! Convolutions over one to three axes: any stride, padding, dilation and groups.

mod options;
mod patches;

use tch::{Kind, Tensor};

use super::affine::{self, Rows};
use super::axes::{Lift, Zeros, channel_blocks, channel_factor, each_vector, sum_positions};
use super::layer_type::{LayerType, Site, Specimen, layer};
use super::shifted_products::ShiftedProducts;
use super::site::OF_WEIGHT;
use super::{
    AffineSite, Curvature, EntrywiseSite, FactoredSite, Layer, Mode, OrderedRows, Parameter, ParameterSite,
    ParameterSource, Recursion, Saved, Tangent, VjpTangent, WEIGHT_AND_BIAS, built_for, channels_last, merge, site,
    split,
};
use crate::backpack::init::Init;
use crate::backpack::native::{Geometry, Wanted, convolution_backward, convolution_weight_gradient};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

pub use options::ConvOptions;

/// A convolution of sequences.
pub type Conv1d = Conv<1>;
/// The options of [`Conv1d`].
pub type Conv1dOptions = ConvOptions<[i64; 1]>;
/// A convolution of images.
pub type Conv2d = Conv<2>;
/// The options of [`Conv2d`].
pub type Conv2dOptions = ConvOptions<[i64; 2]>;
/// A convolution of volumes.
pub type Conv3d = Conv<3>;
/// The options of [`Conv3d`].
pub type Conv3dOptions = ConvOptions<[i64; 3]>;

/// A convolution with weight `[out, in / groups, *kernel]` and bias `[out]`.
///
/// All lists of numbers are lifted ([`Lift`]): a sequence is computed with as an image of height 1.
#[derive(Debug)]
pub struct Conv<const AXES: usize> {
    options: ConvOptions<[i64; AXES]>,
    /// The input's channels.
    channels: i64,
    /// The sizes of the input's axes.
    input: Vec<i64>,
    /// The sizes of the output's axes.
    positions: Vec<i64>,
    kernel: Vec<i64>,
    stride: Vec<i64>,
    dilation: Vec<i64>,
    /// All zeros around the input, on whichever path they are added.
    padding: Zeros,
    /// The part of the padding that libtorch's convolution adds itself: all, or nothing where the ends differ or a kernel
    /// can lie in the padding alone.
    native_padding: Vec<i64>,
    parameters: Vec<Parameter>,
}

const WEIGHT: usize = 0;

impl<const AXES: usize> Conv<AXES>
where
    ConvOptions<[i64; AXES]>: LayerType,
{
    const KIND: &'static str = <ConvOptions<[i64; AXES]> as LayerType>::NAME;

    /// A convolution for inputs of shape `[channels, *axes]`, its parameters drawn as PyTorch draws them.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input has another number of axes, the groups do not divide the channels, or the kernel is
    /// larger than the padded input.
    pub fn new(input: &[i64], options: &ConvOptions<[i64; AXES]>) -> Result<Self> {
        Self::made_of(input, options, ParameterSource::Drawn)
    }

    pub(crate) fn made_of(input: &[i64], options: &ConvOptions<[i64; AXES]>, source: ParameterSource) -> Result<Self> {
        let kind = Self::KIND;
        let (channels, input) = Lift::<AXES>::shape(kind, input)?;
        let (groups, out_channels) = (options.groups, options.out_channels);
        if groups < 1 || channels % groups != 0 || out_channels % groups != 0 || out_channels < 1 {
            return Err(Error::Shape(format!(
                "{kind}: {groups} groups must divide {channels} input and {out_channels} output channels"
            )));
        }
        let [kernel, stride, dilation] =
            [options.kernel_size, options.stride, options.dilation].map(|values| Lift::<AXES>::numbers(values, 1));
        let padding = options.padding.resolve(&input, &kernel, &stride, &dilation);
        let padded = padding.around(&input);
        let mut positions = Vec::with_capacity(input.len());
        let mut covers = true;
        for axis in 0..input.len() {
            let reach = dilation[axis] * (kernel[axis] - 1) + 1;
            if kernel[axis] < 1 || stride[axis] < 1 || dilation[axis] < 1 || padded[axis] < reach {
                return Err(Error::Shape(format!(
                    "{kind}: a kernel of {:?} with dilation {:?} and stride {:?} does not fit a padded input of {:?}",
                    options.kernel_size,
                    options.dilation,
                    options.stride,
                    Lift::<AXES>::lower(&padded)
                )));
            }
            positions.push((padded[axis] - reach) / stride[axis] + 1);
            covers &= padding.0[axis][0] < reach;
        }
        // Where a kernel can lie in the padding alone, oneDNN reads beyond the input and may crash.
        let is_native = padding.is_symmetric() && covers;
        let native_padding = padding.0.iter().map(|[before, _]| if is_native { *before } else { 0 }).collect();
        let weight = [&[out_channels, channels / groups][..], &options.kernel_size].concat();
        let parameters = source.affine(kind, &weight, options.bias.then_some(out_channels))?;
        let options = *options;
        Ok(Conv { options, channels, input, positions, kernel, stride, dilation, padding, native_padding, parameters })
    }

    fn weight(&self) -> Tensor {
        Lift::<AXES>::up(&self.parameters[WEIGHT].value)
    }

    fn bias(&self) -> Option<&Tensor> {
        self.parameters.get(1).map(|parameter| &parameter.value)
    }

    /// Whether the zeros are added here, before libtorch's convolution.
    fn pads_first(&self) -> bool {
        !self.padding.is_zero() && self.native_padding.iter().all(|&size| size == 0)
    }

    /// The (lifted) input with the zeros that libtorch's convolution does not add itself.
    fn pad(&self, x: &Tensor) -> Tensor {
        let x = channels_last(x);
        if self.pads_first() { self.padding.pad(&x) } else { x }
    }

    /// Takes the zeros of [`Self::pad`] away again.
    fn crop(&self, x: Tensor) -> Tensor {
        if self.pads_first() { self.padding.crop(&x, &self.input) } else { x }
    }

    /// The input of libtorch's convolution in an order of memory in which its result is right: libtorch 2.13 reads beyond
    /// the images of a single channel with channels last, in single precision, where the output is one pixel wide and the
    /// stride along it is more than 1.
    fn in_safe_order(&self, padded: &Tensor) -> Tensor {
        let is_narrow = self.positions.last() == Some(&1) && self.stride.last().is_some_and(|&stride| stride > 1);
        match padded.size4() {
            Ok((samples, 1, height, width)) if is_narrow => {
                let strides = [height * width, height * width, width, 1];
                padded.contiguous().as_strided([samples, 1, height, width], strides, None::<i64>)
            }
            _ => padded.shallow_clone(),
        }
    }

    fn convolve(&self, padded: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.in_safe_order(padded).f_convolution(
            weight,
            bias,
            self.stride.as_slice(),
            self.native_padding.as_slice(),
            self.dilation.as_slice(),
            false,
            vec![0; self.stride.len()],
            self.options.groups,
        )?)
    }

    /// The transposed convolution of (lifted) `[N', out, *]` with a weight, back to `[N', in, *]`.
    fn transposed(&self, v: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let whole = if self.pads_first() { self.padding.around(&self.input) } else { self.input.clone() };
        // Entries at the far end that no position reaches when the stride does not divide evenly.
        let left_over = |axis: usize| {
            (whole[axis] + 2 * self.native_padding[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1)
                % self.stride[axis]
        };
        let left_over: Vec<i64> = (0..whole.len()).map(left_over).collect();
        let input = v.f_convolution(
            weight,
            None::<&Tensor>,
            self.stride.as_slice(),
            self.native_padding.as_slice(),
            self.dilation.as_slice(),
            true,
            left_over,
            self.options.groups,
        )?;
        Ok(self.crop(input))
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            stride: self.stride.clone(),
            padding: self.native_padding.clone(),
            dilation: self.dilation.clone(),
            output_padding: vec![0; self.stride.len()],
            transposed: false,
            groups: self.options.groups,
        }
    }

    /// The weight's gradient for one vector `[N, out, *]` at a padded and lifted input, in the weight's own shape.
    fn weight_gradient(&self, g: &Tensor, padded: &Tensor) -> Result<Tensor> {
        let lifted = convolution_weight_gradient(&Lift::<AXES>::up(g), padded, &self.weight(), &self.geometry())?;
        Ok(Lift::<AXES>::down(lifted))
    }

    fn weight_shape(&self, leading: &[i64]) -> Vec<i64> {
        [leading, &self.parameters[WEIGHT].value.size()].concat()
    }
}

impl<const AXES: usize> Layer for Conv<AXES>
where
    ConvOptions<[i64; AXES]>: LayerType,
{
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        built_for(Self::KIND, &[&[self.channels], Lift::<AXES>::lower(&self.input)].concat(), input)?;
        Ok([&[self.options.out_channels], Lift::<AXES>::lower(&self.positions)].concat())
    }

    /// What is saved as the input is the lifted input after the padding that libtorch does not add itself.
    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let padded = self.pad(&Lift::<AXES>::up(input));
        let output = self.convolve(&padded, &self.weight(), self.bias())?;
        Ok(Saved::new(&padded, Lift::<AXES>::down(output)))
    }

    fn library(&self, input: &Tensor, _mode: Mode) -> Result<Tensor> {
        let input = Lift::<AXES>::up(input);
        let padded = if self.pads_first() { self.padding.pad(&input) } else { input };
        Ok(Lift::<AXES>::down(self.convolve(&padded, &self.weight(), self.bias())?))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let input = self.transposed(&Lift::<AXES>::up(&merge(v)), &self.weight())?;
        Ok(split(&Lift::<AXES>::down(input), saved.samples()))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let output = self.convolve(&self.pad(&Lift::<AXES>::up(&merge(v))), &self.weight(), None)?;
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
            Ok(Lift::<AXES>::down(self.convolve(&saved.input, &Lift::<AXES>::up(tangent), None)?))
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
        let g = Lift::<AXES>::up(g);
        let [input, weight, bias] = convolution_backward(&g, &saved.input, &self.weight(), &self.geometry(), wanted)?;
        let parameters = [weight.map(Lift::<AXES>::down), bias].into_iter().flatten().collect();
        Ok((parameters, input.map(|input| Lift::<AXES>::down(self.crop(input)))))
    }

    fn parameter_vjp_sum(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(sum_positions(v).sum_dim_intlist(1, false, None::<Kind>));
        }
        each_vector(v, |g| self.weight_gradient(g, &saved.input))
    }

    fn choices(&self) -> Vec<String> {
        let ConvOptions { groups, out_channels, .. } = self.options;
        let features = self.channels / groups * self.kernel.iter().product::<i64>();
        let positions = self.positions.iter().product();
        let factor = match self.shifted_padding() {
            Some(_) => "shifted products of the image",
            None => "patches",
        };
        let norms = match Rows::gram_is_cheaper(features, out_channels / groups, positions) {
            true => "Gram matrices of the positions",
            false => "the products themselves",
        };
        vec![format!("input factor by {factor}"), format!("norms of individual gradients by {norms}")]
    }

    fn recursion(&self) -> Option<&dyn Recursion> {
        Some(self)
    }
}

impl<const AXES: usize> AffineSite for Conv<AXES>
where
    ConvOptions<[i64; AXES]>: LayerType,
{
    fn rows(&self, saved: &Saved, _parameter: usize) -> Result<Tensor> {
        Ok(self.patch_rows(saved))
    }

    fn vectors(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let (vectors, samples) = (v.size()[0], v.size()[1]);
        let groups = self.options.groups;
        Ok(v.reshape([vectors, samples, groups, self.options.out_channels / groups, -1]))
    }

    /// A view.
    fn as_weight(&self, _parameter: usize, products: &Tensor, leading: &[i64]) -> Tensor {
        self.patches_as_weight(products, leading)
    }

    fn made_bytes(&self, saved: &Saved) -> i64 {
        let entries: i64 = self.kernel.iter().chain(&self.positions).product();
        self.channels * entries * saved.input.kind().elt_size_in_bytes() as i64
    }
}

/// The bias.
impl<const AXES: usize> EntrywiseSite for Conv<AXES>
where
    ConvOptions<[i64; AXES]>: LayerType,
{
    fn gather(&self, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(sum_positions(v))
    }

    fn spread(&self, _saved: &Saved, _parameter: usize, directions: &Tensor) -> Result<Tensor> {
        Ok(directions.view([&[directions.size()[0], 1, -1][..], &[1; AXES]].concat().as_slice()))
    }
}

impl<const AXES: usize> FactoredSite for Conv<AXES>
where
    ConvOptions<[i64; AXES]>: LayerType,
{
    fn matrix(&self, weight: &Tensor) -> Tensor {
        let (rows, groups) = (weight.flatten(1, -1), self.options.groups);
        if groups == 1 { rows } else { rows.reshape([groups, self.options.out_channels / groups, -1]) }
    }

    fn weight_of(&self, matrix: &Tensor) -> Tensor {
        matrix.reshape(self.weight_shape(&[]).as_slice())
    }

    fn input_factor(&self, saved: &Saved) -> Result<Tensor> {
        if self.options.groups != 1 {
            return affine::second_moments(self, saved, WEIGHT);
        }
        let factor = match self.shifted_padding() {
            Some((kernel, padding)) => ShiftedProducts::new(&self.pixels(saved), kernel, padding).factor()?,
            None => affine::second_moments(self, saved, WEIGHT)?.squeeze_dim(0),
        };
        // From (*kernel, channel) to (channel, *kernel) on both sides.
        let axes = self.kernel.len() as i64;
        let side = [self.kernel.as_slice(), &[self.channels]].concat();
        let features: i64 = side.iter().product();
        let order: Vec<i64> = [0, axes + 1]
            .into_iter()
            .flat_map(|first| std::iter::once(first + axes).chain(first..first + axes))
            .collect();
        let split = factor.view([side.as_slice(), side.as_slice()].concat().as_slice());
        Ok(split.permute(order.as_slice()).reshape([features, features]))
    }

    fn output_factor(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        channel_factor(v, self.options.groups)
    }

    fn ordered_rows(&self) -> Option<&dyn OrderedRows> {
        Some(self)
    }

    fn position_sums(&self) -> Option<i64> {
        Some(self.options.out_channels)
    }

    fn averaged_output_factor(&self, g: &Tensor) -> Result<Tensor> {
        channel_blocks(g, self.options.out_channels, self.options.groups)
    }
}

impl<const AXES: usize> OrderedRows for Conv<AXES>
where
    ConvOptions<[i64; AXES]>: LayerType,
{
    fn ordered(&self, saved: &Saved) -> Result<Tensor> {
        Ok(self.rows_by_channel(saved))
    }

    fn mean(&self, saved: &Saved) -> Result<Tensor> {
        self.mean_patch(saved)
    }
}

impl<const AXES: usize> Tangent for Conv<AXES>
where
    ConvOptions<[i64; AXES]>: LayerType,
{
    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let weight = input.map(|tangent| self.weight_gradient(g, &self.pad(&Lift::<AXES>::up(tangent)))).transpose()?;
        let back = |tangent: &Tensor| -> Result<Tensor> {
            let input = self.transposed(&Lift::<AXES>::up(g), &Lift::<AXES>::up(tangent))?;
            Ok(Lift::<AXES>::down(input))
        };
        let input = parameters[WEIGHT].as_ref().map(back).transpose()?;
        debug_assert_eq!(saved.output.size(), g.size());
        let mut tangents = vec![weight];
        tangents.resize_with(self.parameters.len(), || None);
        Ok(VjpTangent { input, parameters: tangents })
    }
}

impl<const AXES: usize> Recursion for Conv<AXES>
where
    ConvOptions<[i64; AXES]>: LayerType,
{
    fn input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        super::both_sides(g, &saved.output.size()[1..], |rows| self.transposed(&Lift::<AXES>::up(rows), &self.weight()))
    }
}

macro_rules! room {
    ($axes:literal, $name:literal, $summary:literal, $kernel:literal, $input:expr) => {
        impl LayerType for ConvOptions<[i64; $axes]> {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;
            const INITS: &'static [(&'static str, Init)] = WEIGHT_AND_BIAS;
            const SPECIMENS: &'static [Specimen] = &[
                Specimen::new(concat!("out_channels = 2, kernel_size = ", $kernel), $input),
                Specimen::new(concat!("out_channels = 2, groups = 2, kernel_size = ", $kernel), $input)
                    .when("with groups"),
            ];

            fn settle(self) -> Self {
                ConvOptions { padding: self.padding.in_pairs(), ..self }
            }

            fn build(&self, site: &Site) -> Result<Operation> {
                layer(Conv::<$axes>::made_of(site.input()?, self, site.parameters)?)
            }
        }
    };
}

room!(1, "conv1d", "convolution of sequences", "2", &[4, 6]);
room!(2, "conv2d", "convolution", "[2, 3]", &[4, 5, 6]);
room!(3, "conv3d", "convolution of volumes", "[2, 1, 3]", &[4, 3, 4, 5]);

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn images_of_one_channel_may_become_one_pixel_wide() {
        for (width, stride) in [(4, [1, 3]), (5, [1, 3]), (4, [1, 2]), (4, [2, 3]), (3, [1, 1])] {
            let options = ConvOptions { out_channels: 2, kernel_size: [3, 3], stride, ..Default::default() };
            let conv = Conv::<2>::new(&[1, 6, width], &options).unwrap();
            for samples in [1, 2, 5] {
                // Freed memory that is no number, so that reading beyond the images shows.
                drop(Tensor::full([1 << 12], f64::NAN, (Kind::Float, Device::Cpu)));
                let x = Tensor::randn([samples, 1, 6, width], (Kind::Float, Device::Cpu));
                let output = conv.forward(&x, Mode::Evaluation).unwrap().output;
                let [weight, bias] = [&conv.parameters[0].value, &conv.parameters[1].value];
                let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
                let expected = double(&x).conv2d(&double(weight), Some(double(bias)), stride, [0, 0], [1, 1], 1);
                let error = f64::try_from((double(&output) - expected).abs().max()).unwrap();
                assert!(error < 1e-5, "width {width}, stride {stride:?}, {samples} samples: off by {error}");
            }
        }
    }
}
