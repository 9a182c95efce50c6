//! `conv2d`: any stride, padding, dilation and groups.

use tch::{Kind, Tensor};

use super::affine::{Rows, signed_squares};
use super::channels::{channel_blocks, channel_factor, each_vector, image_shape, sum_positions};
use super::shifted_products::ShiftedProducts;
use super::{
    Curvature, KroneckerSupport, Layer, Mode, NewParameter, Padding, PaddingChoice, Parameter, Saved, VjpTangent,
    channels_last, merge, split,
};
use crate::backpack::native::{Geometry, Wanted, convolution_backward, convolution_weight_gradient};
use crate::error::{Error, Result};

/// The options of a convolution, named as in PyTorch; pairs are (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// The number of output channels.
    pub out_channels: i64,
    /// The kernel's size.
    pub kernel_size: [i64; 2],
    /// Steps between positions.
    pub stride: [i64; 2],
    /// Zeros around the input.
    pub padding: PaddingChoice,
    /// Distance between the kernel's entries.
    pub dilation: [i64; 2],
    /// Groups of channels that do not mix.
    pub groups: i64,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Default for Conv2dOptions {
    /// PyTorch's defaults; the number of channels and the kernel's size, which have none, are 1.
    fn default() -> Self {
        Conv2dOptions {
            out_channels: 1,
            kernel_size: [1, 1],
            stride: [1, 1],
            padding: PaddingChoice::default(),
            dilation: [1, 1],
            groups: 1,
            bias: true,
        }
    }
}

/// A convolution with weight `[out, in / groups, kernel height, kernel width]` and bias `[out]`.
pub struct Conv2d {
    options: Conv2dOptions,
    /// The input's shape, `[in, height, width]`.
    input: [i64; 3],
    /// All zeros around the input, on whichever path they are added.
    padding: Padding,
    /// The part of the padding that libtorch's convolution adds itself: all, or nothing where the sides differ or a
    /// kernel can lie in the padding alone.
    native_padding: [i64; 2],
    parameters: Vec<Parameter>,
}

const WEIGHT: usize = 0;

/// How many bytes of patches are held at a time where they are summed over.
const PATCH_BYTES: i64 = 64 << 20;

impl Conv2d {
    /// A convolution for inputs of shape `[channels, height, width]`, its parameters zero.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input is no image, the groups do not divide the channels, or the kernel is larger
    /// than the padded input.
    pub fn new(input: &[i64], options: &Conv2dOptions) -> Result<Self> {
        Self::made_of(input, options, Parameter::zeros)
    }

    pub(crate) fn made_of(input: &[i64], options: &Conv2dOptions, parameter: NewParameter) -> Result<Self> {
        let input = image_shape("conv2d", input)?;
        let groups = options.groups;
        if groups < 1 || input[0] % groups != 0 || options.out_channels % groups != 0 || options.out_channels < 1 {
            return Err(Error::Shape(format!(
                "conv2d: {groups} groups must divide {} input and {} output channels",
                input[0], options.out_channels
            )));
        }
        let padding =
            options.padding.resolve([input[1], input[2]], options.kernel_size, options.stride, options.dilation);
        let [rows, columns] = [0, 1].map(|axis| options.dilation[axis] * (options.kernel_size[axis] - 1) + 1);
        // Where a kernel can lie in the padding alone, oneDNN reads beyond the input and may crash.
        let is_native = padding.is_symmetric() && padding.top < rows && padding.left < columns;
        let native_padding = if is_native { [padding.top, padding.left] } else { [0, 0] };
        let mut parameters = vec![parameter(
            "weight",
            &[options.out_channels, input[0] / groups, options.kernel_size[0], options.kernel_size[1]],
        )];
        if options.bias {
            parameters.push(parameter("bias", &[options.out_channels]));
        }
        let layer = Conv2d { options: *options, input, padding, native_padding, parameters };
        layer.positions()?;
        Ok(layer)
    }

    fn weight(&self) -> &Tensor {
        &self.parameters[WEIGHT].value
    }

    fn bias(&self) -> Option<&Tensor> {
        self.parameters.get(1).map(|parameter| &parameter.value)
    }

    /// The output's height and width.
    fn positions(&self) -> Result<[i64; 2]> {
        let Conv2dOptions { kernel_size, stride, dilation, .. } = self.options;
        let padded = [
            self.input[1] + self.padding.top + self.padding.bottom,
            self.input[2] + self.padding.left + self.padding.right,
        ];
        let mut positions = [0; 2];
        for axis in 0..2 {
            let reach = dilation[axis] * (kernel_size[axis] - 1) + 1;
            if kernel_size[axis] < 1 || stride[axis] < 1 || dilation[axis] < 1 || padded[axis] < reach {
                return Err(Error::Shape(format!(
                    "conv2d: a kernel of {kernel_size:?} with dilation {dilation:?} and stride {stride:?} does not fit \
                     a padded input of {padded:?}"
                )));
            }
            positions[axis] = (padded[axis] - reach) / stride[axis] + 1;
        }
        Ok(positions)
    }

    /// Whether the zeros are added here, before libtorch's convolution.
    fn pads_first(&self) -> bool {
        self.native_padding == [0, 0] && !self.padding.is_zero()
    }

    /// The input with the zeros that libtorch's convolution does not add itself.
    fn pad(&self, x: &Tensor) -> Tensor {
        let x = channels_last(x);
        if self.pads_first() { x.constant_pad_nd(self.padding.list()) } else { x }
    }

    /// Takes the zeros of [`Self::pad`] away again.
    fn crop(&self, x: Tensor) -> Tensor {
        if !self.pads_first() {
            return x;
        }
        x.narrow(-2, self.padding.top, self.input[1]).narrow(-1, self.padding.left, self.input[2])
    }

    fn convolve(&self, padded: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ok(padded.f_conv2d(
            weight,
            bias,
            self.options.stride,
            self.native_padding,
            self.options.dilation,
            self.options.groups,
        )?)
    }

    /// The transposed convolution of `[N', out, *]` with a weight, back to `[N', in, *]`.
    fn transposed(&self, v: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let Conv2dOptions { kernel_size, stride, dilation, groups, .. } = self.options;
        let whole = if self.pads_first() {
            [
                self.input[1] + self.padding.top + self.padding.bottom,
                self.input[2] + self.padding.left + self.padding.right,
            ]
        } else {
            [self.input[1], self.input[2]]
        };
        // Rows and columns at the far end that no position reaches when the stride does not divide evenly.
        let left_over = |axis: usize| {
            (whole[axis] + 2 * self.native_padding[axis] - dilation[axis] * (kernel_size[axis] - 1) - 1) % stride[axis]
        };
        let input = v.f_conv_transpose2d(
            weight,
            None::<&Tensor>,
            stride,
            self.native_padding,
            [left_over(0), left_over(1)],
            groups,
            dilation,
        )?;
        Ok(self.crop(input))
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            stride: self.options.stride.to_vec(),
            padding: self.native_padding.to_vec(),
            dilation: self.options.dilation.to_vec(),
            output_padding: vec![0, 0],
            transposed: false,
            groups: self.options.groups,
        }
    }

    /// The patches under the kernel, `[N, G, d, T]`. Without groups d runs over (kernel row, kernel column, channel), as
    /// the image lies in memory, and the patches are a transposed view of contiguous rows; with groups over (channel,
    /// kernel row, kernel column). [`Self::as_weight`] brings both into the weight's order.
    fn rows(&self, saved: &Saved) -> Rows {
        let Conv2dOptions { kernel_size, stride, dilation, groups, .. } = self.options;
        if groups != 1 {
            let patches = saved.input.contiguous().im2col(kernel_size, dilation, self.native_padding, stride);
            let (n, features, t) = patches.size3().expect("patches have three dimensions");
            return Rows(patches.view([n, groups, features / groups, t]));
        }
        let pixels = self.pixels(saved);
        let (n, height, width, channels) = pixels.size4().expect("images have four dimensions");
        let (rows, columns) = (saved.output.size()[2], saved.output.size()[3]);
        let row = width * channels;
        let patches = pixels
            .as_strided(
                [n, rows, columns, kernel_size[0], kernel_size[1], channels],
                [height * row, stride[0] * row, stride[1] * channels, dilation[0] * row, dilation[1] * channels, 1],
                None::<i64>,
            )
            .reshape([n, rows * columns, kernel_size[0] * kernel_size[1] * channels]);
        Rows(patches.transpose(1, 2).unsqueeze(1))
    }

    /// The input with all its padding, `[N, H, W, C]` and contiguous.
    fn pixels(&self, saved: &Saved) -> Tensor {
        let [top, left] = self.native_padding;
        let padded = match (top, left) {
            (0, 0) => saved.input.shallow_clone(),
            _ => saved.input.constant_pad_nd([left, left, top, top]),
        };
        padded.permute([0, 2, 3, 1]).contiguous()
    }

    /// Where the input factor is cheaper by shifted products than by patches, multiplications counted: the rows and
    /// columns of padding on each side.
    fn shifted_padding(&self) -> Option<[i64; 2]> {
        let Conv2dOptions { kernel_size, stride, dilation, .. } = self.options;
        if stride != [1, 1] || dilation != [1, 1] || kernel_size == [1, 1] {
            return None;
        }
        let Padding { left, right, top, bottom } = self.padding;
        let size = [self.input[1] + top + bottom, self.input[2] + left + right];
        let padding = [top.min(bottom), left.min(right)];
        let (shifted, patches) = ShiftedProducts::costs(size, kernel_size, padding, self.input[0]);
        // The strips along the border run at a lower rate than the rest: measured, a third more than by count. With few
        // channels the number of calls outweighs everything.
        (self.input[0] >= 16 && shifted * 1.35 < patches).then_some(padding)
    }

    /// Adds up `work` over parts of the samples whose patches stay below a bound; `work` gets a part, its first sample
    /// and its length.
    fn sum_parts(&self, saved: &Saved, work: impl Fn(&Saved, i64, i64) -> Result<Tensor>) -> Result<Tensor> {
        let samples = saved.samples();
        let [rows, columns] = self.options.kernel_size;
        let positions = saved.output.size()[2] * saved.output.size()[3];
        let bytes = self.input[0] * rows * columns * positions * saved.input.kind().elt_size_in_bytes() as i64;
        let length = (PATCH_BYTES / bytes.max(1)).clamp(1, samples.max(1));
        if length == samples {
            return work(saved, 0, samples);
        }
        let mut sum: Option<Tensor> = None;
        let mut start = 0;
        while start < samples {
            let part = work(&saved.narrow(start, length.min(samples - start)), start, length.min(samples - start))?;
            sum = Some(match sum {
                Some(sum) => sum + part,
                None => part,
            });
            start += length;
        }
        sum.ok_or_else(|| Error::Shape("conv2d: a batch without samples".into()))
    }

    /// `[*leading, G, out / G, d]` over the patches' features as the weight lies, `[*leading, out, in / G, kernel..]`;
    /// a view.
    fn as_weight(&self, products: &Tensor, leading: &[i64]) -> Tensor {
        let [rows, columns] = self.options.kernel_size;
        if self.options.groups != 1 {
            return products.reshape(self.weight_shape(leading).as_slice());
        }
        let channels = self.input[0];
        let split = [leading, &[self.options.out_channels, rows, columns, channels]].concat();
        let axes = leading.len() as i64;
        let order: Vec<i64> = (0..=axes).chain([axes + 3, axes + 1, axes + 2]).collect();
        products.reshape(split.as_slice()).permute(order.as_slice())
    }

    /// Vectors in the format that goes with [`Self::rows`]: `[V, N, G, out / G, T]`.
    fn shared(&self, v: &Tensor) -> Tensor {
        let (vectors, samples) = (v.size()[0], v.size()[1]);
        let groups = self.options.groups;
        v.reshape([vectors, samples, groups, self.options.out_channels / groups, -1])
    }

    fn weight_shape(&self, leading: &[i64]) -> Vec<i64> {
        [leading, &self.weight().size()].concat()
    }
}

impl Layer for Conv2d {
    fn kind(&self) -> &'static str {
        "conv2d"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        if input != self.input {
            return Err(Error::Shape(format!("conv2d: built for an input of {:?}, got {input:?}", self.input)));
        }
        let [rows, columns] = self.positions()?;
        Ok(vec![self.options.out_channels, rows, columns])
    }

    /// What is saved as the input is the input after the padding that libtorch does not add itself.
    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let padded = self.pad(input);
        let output = self.convolve(&padded, self.weight(), self.bias())?;
        Ok(Saved::new(&padded, output))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(split(&self.transposed(&merge(v), self.weight())?, saved.samples()))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(split(&self.convolve(&self.pad(&merge(v)), self.weight(), None)?, saved.samples()))
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn parameter_vjp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(sum_positions(v));
        }
        Ok(self.as_weight(&self.rows(saved).outer(&self.shared(v)), &v.size()[..2]))
    }

    fn parameter_jvp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        each_vector(v, |tangent| match parameter {
            WEIGHT => self.convolve(&saved.input, tangent, None),
            _ => Ok(tangent.view([1, -1, 1, 1]).expand_as(&saved.output)),
        })
    }

    fn curvature(&self) -> Curvature {
        Curvature::Zero
    }

    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let weight = input
            .map(|tangent| convolution_weight_gradient(g, &self.pad(tangent), self.weight(), &self.geometry()))
            .transpose()?;
        let input = parameters[WEIGHT].as_ref().map(|tangent| self.transposed(g, tangent)).transpose()?;
        debug_assert_eq!(saved.output.size(), g.size());
        let mut tangents = vec![weight];
        tangents.resize_with(self.parameters.len(), || None);
        Ok(VjpTangent { input, parameters: tangents })
    }

    fn gradient(&self, saved: &Saved, g: &Tensor, want_input: bool) -> Result<(Vec<Tensor>, Option<Tensor>)> {
        let wanted = Wanted { input: want_input, weight: true, bias: self.bias().is_some() };
        let [input, weight, bias] = convolution_backward(g, &saved.input, self.weight(), &self.geometry(), wanted)?;
        let parameters = [weight, bias].into_iter().flatten().collect();
        Ok((parameters, input.map(|input| self.crop(input))))
    }

    fn parameter_vjp_sum(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(sum_positions(v).sum_dim_intlist(1, false, None::<Kind>));
        }
        each_vector(v, |g| convolution_weight_gradient(g, &saved.input, self.weight(), &self.geometry()))
    }

    fn squares_sum(&self, saved: &Saved, parameter: usize, v: &Tensor, signs: Option<&Tensor>) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(signed_squares(&sum_positions(v), signs).sum_dim_intlist(0, false, None::<Kind>));
        }
        let squares = self.sum_parts(saved, |part, start, length| {
            let signs = signs.map(|signs| signs.narrow(1, start, length));
            self.rows(part).squares_sum(&self.shared(&v.narrow(1, start, length)), signs.as_ref())
        })?;
        Ok(self.as_weight(&squares, &[]).contiguous())
    }

    fn squares_per_sample(
        &self,
        saved: &Saved,
        parameter: usize,
        v: &Tensor,
        signs: Option<&Tensor>,
    ) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(signed_squares(&sum_positions(v), signs));
        }
        let squares = self.rows(saved).squares_per_sample(&self.shared(v), signs)?;
        Ok(self.as_weight(&squares, &[saved.samples()]))
    }

    fn squared_norms(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(sum_positions(v).square().sum_dim_intlist(2, false, None::<Kind>));
        }
        self.rows(saved).squared_norms(&self.shared(v))
    }

    fn choices(&self) -> Vec<String> {
        let Conv2dOptions { kernel_size, groups, out_channels, .. } = self.options;
        let features = self.input[0] / groups * kernel_size[0] * kernel_size[1];
        let positions = self.positions().map_or(0, |[rows, columns]| rows * columns);
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

    fn kronecker(&self) -> KroneckerSupport {
        KroneckerSupport::Factors
    }

    fn kronecker_matrix(&self, weight: &Tensor) -> Tensor {
        let (rows, groups) = (weight.flatten(1, -1), self.options.groups);
        if groups == 1 { rows } else { rows.reshape([groups, self.options.out_channels / groups, -1]) }
    }

    fn input_factor(&self, saved: &Saved) -> Result<Tensor> {
        if self.options.groups != 1 {
            return self.sum_parts(saved, |part, _, _| self.rows(part).second_moment());
        }
        let factor = match self.shifted_padding() {
            Some(padding) => ShiftedProducts::new(&self.pixels(saved), self.options.kernel_size, padding).factor()?,
            None => self.sum_parts(saved, |part, _, _| Ok(self.rows(part).second_moment()?.squeeze_dim(0)))?,
        };
        // From (kernel row, kernel column, channel) to (channel, kernel row, kernel column) on both sides.
        let [rows, columns] = self.options.kernel_size;
        let channels = self.input[0];
        let features = channels * rows * columns;
        let split = factor.view([rows, columns, channels, rows, columns, channels]);
        Ok(split.permute([2, 0, 1, 5, 3, 4]).reshape([features, features]))
    }

    fn output_factor(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        channel_factor(v, self.options.groups)
    }

    fn refuses_kfra(&self, _input: &[i64]) -> Option<String> {
        None
    }

    fn kfra_input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        super::both_sides(g, &saved.output.size()[1..], |rows| self.transposed(rows, self.weight()))
    }

    fn position_sums(&self) -> Option<i64> {
        Some(self.options.out_channels)
    }

    fn kfra_output_factor(&self, g: &Tensor) -> Result<Tensor> {
        channel_blocks(g, self.options.out_channels, self.options.groups)
    }
}
