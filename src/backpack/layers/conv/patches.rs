//! A convolution's input as patches, from which everything about its weight follows.

use tch::{Kind, Tensor};

use super::super::shifted_products::ShiftedProducts;
use super::super::{LayerType, Saved};
use super::{Conv, ConvOptions};
use crate::error::Result;

impl<const AXES: usize> Conv<AXES>
where
    ConvOptions<[i64; AXES]>: LayerType,
{
    /// The patches under the kernel, `[N, G, d, T]`. Without groups d runs over (*kernel, channel), as the image lies in
    /// memory, and the patches are a transposed view of contiguous rows; with groups over (channel, *kernel).
    /// [`Self::patches_as_weight`] brings both into the weight's order.
    pub(super) fn patch_rows(&self, saved: &Saved) -> Tensor {
        if self.options.groups != 1 {
            return self.rows_by_channel(saved);
        }
        let positions: i64 = self.positions.iter().product();
        let patches = self.patches(saved, true).reshape([saved.samples(), positions, -1]);
        patches.transpose(1, 2).unsqueeze(1)
    }

    /// The patches `[N, G, d, T]` with d over (channel, *kernel), as the weight lies.
    pub(super) fn rows_by_channel(&self, saved: &Saved) -> Tensor {
        let positions: i64 = self.positions.iter().product();
        self.patches(saved, false).reshape([saved.samples(), self.options.groups, -1, positions])
    }

    /// The mean patch of each sample, `[N, G, d]` with d over (channel, *kernel).
    pub(super) fn mean_patch(&self, saved: &Saved) -> Result<Tensor> {
        let axes = self.kernel.len() as i64;
        let over: Vec<i64> = (1..=axes).collect();
        let mean = self.patches(saved, true).f_mean_dim(over.as_slice(), false, None::<Kind>)?;
        let order: Vec<i64> = [0, axes + 1].into_iter().chain(1..=axes).collect();
        Ok(mean.permute(order.as_slice()).f_reshape([saved.samples(), self.options.groups, -1])?)
    }

    /// The patches as a view of the padded input: `[N, *positions, *kernel, channels]` where these are last in memory, else
    /// `[N, channels, *kernel, *positions]`.
    fn patches(&self, saved: &Saved, channels_last: bool) -> Tensor {
        let pixels = if channels_last { self.pixels(saved) } else { self.padded(saved).contiguous() };
        let shape = pixels.size();
        let samples = shape[0];
        let axes = self.kernel.len();
        // The steps from one entry to the next along each axis.
        let sizes = if channels_last { &shape[1..=axes] } else { &shape[2..] };
        let mut steps = vec![if channels_last { self.channels } else { 1 }; axes];
        for axis in (1..axes).rev() {
            steps[axis - 1] = steps[axis] * sizes[axis];
        }
        let sample = steps[0] * sizes[0] * if channels_last { 1 } else { self.channels };
        let channel = if channels_last { 1 } else { steps[0] * sizes[0] };
        let along = |by: &[i64]| -> Vec<i64> { steps.iter().zip(by).map(|(step, by)| step * by).collect() };
        let (out, within) = (along(&self.stride), along(&self.dilation));
        let (size, stride) = match channels_last {
            true => (
                [&[samples], self.positions.as_slice(), &self.kernel, &[self.channels]].concat(),
                [&[sample], out.as_slice(), &within, &[channel]].concat(),
            ),
            false => (
                [&[samples, self.channels], self.kernel.as_slice(), &self.positions].concat(),
                [&[sample, channel], within.as_slice(), &out].concat(),
            ),
        };
        pixels.as_strided(size.as_slice(), stride.as_slice(), None::<i64>)
    }

    /// The input with all its padding.
    fn padded(&self, saved: &Saved) -> Tensor {
        if self.native_padding.iter().all(|&size| size == 0) {
            return saved.input.shallow_clone();
        }
        self.padding.pad(&saved.input)
    }

    /// The input with all its padding, `[N, *axes, C]` and contiguous.
    pub(super) fn pixels(&self, saved: &Saved) -> Tensor {
        let axes = self.kernel.len() as i64;
        let order: Vec<i64> = std::iter::once(0).chain(2..axes + 2).chain([1]).collect();
        self.padded(saved).permute(order.as_slice()).contiguous()
    }

    /// Where the input factor is cheaper by shifted products than by patches, multiplications counted: the kernel, and
    /// the rows and columns of padding on each side.
    pub(super) fn shifted_padding(&self) -> Option<([i64; 2], [i64; 2])> {
        let (Ok(kernel), &[[top, bottom], [left, right]]) =
            (<[i64; 2]>::try_from(self.kernel.as_slice()), self.padding.0.as_slice())
        else {
            return None;
        };
        if self.stride != [1, 1] || self.dilation != [1, 1] || kernel == [1, 1] {
            return None;
        }
        let size = [self.input[0] + top + bottom, self.input[1] + left + right];
        let padding = [top.min(bottom), left.min(right)];
        let (shifted, patches) = ShiftedProducts::costs(size, kernel, padding, self.channels);
        // The strips along the border run at a lower rate than the rest: measured, a third more than by count. With few
        // channels the number of calls outweighs everything.
        (self.channels >= 16 && shifted * 1.35 < patches).then_some((kernel, padding))
    }

    /// `[*leading, G, out / G, d]` over the patches' features as the weight lies, `[*leading, out, in / G, *kernel]`;
    /// a view.
    pub(super) fn patches_as_weight(&self, products: &Tensor, leading: &[i64]) -> Tensor {
        let whole = self.weight_shape(leading);
        if self.options.groups != 1 {
            return products.reshape(whole.as_slice());
        }
        let kernel = &self.options.kernel_size;
        let split = [leading, &[self.options.out_channels], kernel, &[self.channels]].concat();
        let (axes, last) = (leading.len() as i64, split.len() as i64 - 1);
        let order: Vec<i64> = (0..=axes).chain([last]).chain(axes + 1..last).collect();
        products.reshape(split.as_slice()).permute(order.as_slice())
    }
}
