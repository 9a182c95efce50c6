//! `conv_transpose2d`: the adjoint of a convolution, with any stride, padding, dilation and groups.

use tch::{Kind, Tensor};

use super::affine::{Rows, signed_squares};
use super::channels::{channel_blocks, channel_factor, each_vector, image_shape, sum_positions};
use super::{Curvature, KroneckerSupport, Layer, Mode, NewParameter, Parameter, Saved, VjpTangent, merge, split};
use crate::backpack::native::{Geometry, Wanted, convolution_backward, convolution_weight_gradient};
use crate::error::{Error, Result};

/// The options of a transposed convolution, named as in PyTorch; pairs are (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose2dOptions {
    /// The number of output channels.
    pub out_channels: i64,
    /// The kernel's size.
    pub kernel_size: [i64; 2],
    /// The output's steps for one step in the input.
    pub stride: [i64; 2],
    /// Rows and columns taken off each side of the output.
    pub padding: [i64; 2],
    /// Rows and columns added at the output's far ends.
    pub output_padding: [i64; 2],
    /// Distance between the kernel's entries.
    pub dilation: [i64; 2],
    /// Groups of channels that do not mix.
    pub groups: i64,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Default for ConvTranspose2dOptions {
    /// PyTorch's defaults; the number of channels and the kernel's size, which have none, are 1.
    fn default() -> Self {
        ConvTranspose2dOptions {
            out_channels: 1,
            kernel_size: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            output_padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
            bias: true,
        }
    }
}

/// A transposed convolution with weight `[in, out / groups, kernel height, kernel width]` and bias `[out]`.
pub struct ConvTranspose2d {
    options: ConvTranspose2dOptions,
    input: [i64; 3],
    parameters: Vec<Parameter>,
}

const WEIGHT: usize = 0;

impl ConvTranspose2d {
    /// A transposed convolution for inputs of shape `[channels, height, width]`, its parameters zero.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input is no image, the groups do not divide the channels, nothing is left of the
    /// output, or the output padding is not smaller than the stride or the dilation.
    pub fn new(input: &[i64], options: &ConvTranspose2dOptions) -> Result<Self> {
        Self::made_of(input, options, Parameter::zeros)
    }

    pub(crate) fn made_of(input: &[i64], options: &ConvTranspose2dOptions, parameter: NewParameter) -> Result<Self> {
        let input = image_shape("conv_transpose2d", input)?;
        let ConvTranspose2dOptions { out_channels, groups, kernel_size, stride, dilation, output_padding, .. } =
            *options;
        if groups < 1 || out_channels < 1 || input[0] % groups != 0 || out_channels % groups != 0 {
            return Err(Error::Shape(format!(
                "conv_transpose2d: {groups} groups must divide {} input and {out_channels} output channels",
                input[0]
            )));
        }
        for axis in 0..2 {
            if kernel_size[axis] < 1 || stride[axis] < 1 || dilation[axis] < 1 || options.padding[axis] < 0 {
                return Err(Error::Shape("conv_transpose2d: kernel_size, stride and dilation start at 1".into()));
            }
            if output_padding[axis] < 0 || output_padding[axis] >= stride[axis].max(dilation[axis]) {
                return Err(Error::Shape(format!(
                    "conv_transpose2d: output_padding {output_padding:?} must be smaller than stride {stride:?} or \
                     dilation {dilation:?}"
                )));
            }
        }
        let mut parameters =
            vec![parameter("weight", &[input[0], out_channels / groups, kernel_size[0], kernel_size[1]])];
        if options.bias {
            parameters.push(parameter("bias", &[out_channels]));
        }
        let layer = ConvTranspose2d { options: *options, input, parameters };
        let size = layer.output_size();
        if size[0] < 1 || size[1] < 1 {
            return Err(Error::Shape(format!("conv_transpose2d: an output of {size:?} pixels; use less padding")));
        }
        Ok(layer)
    }

    fn weight(&self) -> &Tensor {
        &self.parameters[WEIGHT].value
    }

    fn bias(&self) -> Option<&Tensor> {
        self.parameters.get(1).map(|parameter| &parameter.value)
    }

    fn output_size(&self) -> [i64; 2] {
        let ConvTranspose2dOptions { kernel_size, stride, padding, output_padding, dilation, .. } = self.options;
        std::array::from_fn(|axis| {
            (self.input[axis + 1] - 1) * stride[axis] - 2 * padding[axis]
                + dilation[axis] * (kernel_size[axis] - 1)
                + output_padding[axis]
                + 1
        })
    }

    fn convolve(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let ConvTranspose2dOptions { stride, padding, output_padding, groups, dilation, .. } = self.options;
        Ok(x.f_conv_transpose2d(weight, bias, stride, padding, output_padding, groups, dilation)?)
    }

    /// The adjoint of [`Self::convolve`], an ordinary convolution.
    fn adjoint(&self, v: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let ConvTranspose2dOptions { stride, padding, groups, dilation, .. } = self.options;
        let input = v.f_conv2d(weight, None::<&Tensor>, stride, padding, dilation, groups)?;
        // An output padding beyond the stride (possible with dilation) would give rows the input does not have.
        Ok(input.narrow(-2, 0, self.input[1]).narrow(-1, 0, self.input[2]))
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            stride: self.options.stride.to_vec(),
            padding: self.options.padding.to_vec(),
            dilation: self.options.dilation.to_vec(),
            output_padding: self.options.output_padding.to_vec(),
            transposed: true,
            groups: self.options.groups,
        }
    }

    /// What reaches each output position, `[N, G, d, T]` with d over (input channel, kernel row, kernel column): the
    /// transposed convolution of every channel with each one-hot kernel.
    fn rows(&self, saved: &Saved) -> Result<Rows> {
        let ConvTranspose2dOptions { kernel_size: [rows, columns], stride, padding, output_padding, dilation, .. } =
            self.options;
        let (channels, entries) = (self.input[0], rows * columns);
        let one_hot = Tensor::eye(entries, (saved.input.kind(), saved.input.device()))
            .view([1, entries, rows, columns])
            .expand([channels, entries, rows, columns], false)
            .contiguous();
        let spread = saved.input.f_conv_transpose2d(
            &one_hot,
            None::<&Tensor>,
            stride,
            padding,
            output_padding,
            channels,
            dilation,
        )?;
        let groups = self.options.groups;
        Ok(Rows(spread.reshape([saved.samples(), groups, channels / groups * entries, -1])))
    }

    fn shared(&self, v: &Tensor) -> Tensor {
        let groups = self.options.groups;
        v.reshape([v.size()[0], v.size()[1], groups, self.options.out_channels / groups, -1])
    }

    /// `[*leading, G, out / G, in / G * kernel]` as the weight lies: `[*leading, in, out / G, kernel..]`.
    fn as_weight(&self, products: &Tensor, leading: &[i64]) -> Tensor {
        let groups = self.options.groups;
        let [rows, columns] = self.options.kernel_size;
        let (outputs, inputs) = (self.options.out_channels / groups, self.input[0] / groups);
        let axes = leading.len() as i64;
        let split = [leading, &[groups, outputs, inputs, rows, columns]].concat();
        let whole = [leading, &[self.input[0], outputs, rows, columns]].concat();
        products.view(split.as_slice()).transpose(axes + 1, axes + 2).reshape(whole.as_slice())
    }
}

impl Layer for ConvTranspose2d {
    fn kind(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        if input != self.input {
            return Err(Error::Shape(format!(
                "conv_transpose2d: built for an input of {:?}, got {input:?}",
                self.input
            )));
        }
        let [rows, columns] = self.output_size();
        Ok(vec![self.options.out_channels, rows, columns])
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let output = self.convolve(input, self.weight(), self.bias())?;
        Ok(Saved::new(input, output))
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(split(&self.adjoint(&merge(v), self.weight())?, saved.samples()))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(split(&self.convolve(&merge(v), self.weight(), None)?, saved.samples()))
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
        Ok(self.as_weight(&self.rows(saved)?.outer(&self.shared(v)), &v.size()[..2]))
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
        _saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let weight = input
            .map(|tangent| convolution_weight_gradient(g, tangent, self.weight(), &self.geometry()))
            .transpose()?;
        let input = parameters[WEIGHT].as_ref().map(|tangent| self.adjoint(g, tangent)).transpose()?;
        let mut tangents = vec![weight];
        tangents.resize_with(self.parameters.len(), || None);
        Ok(VjpTangent { input, parameters: tangents })
    }

    fn gradient(&self, saved: &Saved, g: &Tensor, want_input: bool) -> Result<(Vec<Tensor>, Option<Tensor>)> {
        let wanted = Wanted { input: want_input, weight: true, bias: self.bias().is_some() };
        let [input, weight, bias] = convolution_backward(g, &saved.input, self.weight(), &self.geometry(), wanted)?;
        Ok(([weight, bias].into_iter().flatten().collect(), input))
    }

    fn squares_sum(&self, saved: &Saved, parameter: usize, v: &Tensor, signs: Option<&Tensor>) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(signed_squares(&sum_positions(v), signs).sum_dim_intlist(0, false, None::<Kind>));
        }
        Ok(self.as_weight(&self.rows(saved)?.squares_sum(&self.shared(v), signs)?, &[]))
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
        let squares = self.rows(saved)?.squares_per_sample(&self.shared(v), signs)?;
        Ok(self.as_weight(&squares, &[saved.samples()]))
    }

    fn squared_norms(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        if parameter != WEIGHT {
            return Ok(sum_positions(v).square().sum_dim_intlist(2, false, None::<Kind>));
        }
        self.rows(saved)?.squared_norms(&self.shared(v))
    }

    fn kronecker(&self) -> KroneckerSupport {
        KroneckerSupport::Factors
    }

    fn kronecker_matrix(&self, weight: &Tensor) -> Tensor {
        let groups = self.options.groups;
        let [rows, columns] = self.options.kernel_size;
        let (outputs, inputs) = (self.options.out_channels / groups, self.input[0] / groups);
        let matrix = weight.reshape([groups, inputs, outputs, rows, columns]).transpose(1, 2).reshape([
            groups,
            outputs,
            inputs * rows * columns,
        ]);
        if groups == 1 { matrix.squeeze_dim(0) } else { matrix }
    }

    fn kronecker_weight(&self, matrix: &Tensor) -> Tensor {
        self.as_weight(&matrix.contiguous(), &[])
    }

    fn input_factor(&self, saved: &Saved) -> Result<Tensor> {
        let factor = self.rows(saved)?.second_moment()?;
        Ok(if self.options.groups == 1 { factor.squeeze_dim(0) } else { factor })
    }

    fn output_factor(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        channel_factor(v, self.options.groups)
    }

    fn refuses_kfra(&self, _input: &[i64]) -> Option<String> {
        None
    }

    fn kfra_input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        super::both_sides(g, &saved.output.size()[1..], |rows| self.adjoint(rows, self.weight()))
    }

    fn position_sums(&self) -> Option<i64> {
        Some(self.options.out_channels)
    }

    fn kfra_output_factor(&self, g: &Tensor) -> Result<Tensor> {
        channel_blocks(g, self.options.out_channels, self.options.groups)
    }
}
