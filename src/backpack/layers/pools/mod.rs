//! Pooling over one to three axes, and the geometry that max- and average-pooling share.

mod average;
mod max_pool;

use tch::Tensor;

use super::axes::{Lift, Zeros};
use super::{PaddingChoice, built_for, channels_last_room};
use crate::error::{Error, Result};

pub use average::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveAvgPoolOptions, AvgPool1d, AvgPool1dOptions,
    AvgPool2d, AvgPool2dOptions, AvgPool3d, AvgPool3dOptions, AvgPoolOptions,
};
pub use max_pool::{
    MaxPool1d, MaxPool1dOptions, MaxPool2d, MaxPool2dOptions, MaxPool3d, MaxPool3dOptions, MaxPoolOptions,
};

/// A window that moves over `AXES` axes. All lists of numbers are lifted ([`Lift`]).
#[derive(Clone, Debug)]
pub struct Window<const AXES: usize> {
    pub channels: i64,
    /// The sizes of the input's axes.
    pub input: Vec<i64>,
    pub kernel: Vec<i64>,
    pub stride: Vec<i64>,
    pub dilation: Vec<i64>,
    /// Zeros that are added to the input first.
    pub zeros: Zeros,
    /// Padding that libtorch's pooling does itself.
    pub native: Vec<i64>,
    pub ceil_mode: bool,
}

impl<const AXES: usize> Window<AXES> {
    pub fn new(
        kind: &str,
        input: &[i64],
        kernel: [i64; AXES],
        stride: [i64; AXES],
        padding: PaddingChoice<[i64; AXES]>,
        dilation: [i64; AXES],
        ceil_mode: bool,
    ) -> Result<Self> {
        let (channels, input) = Lift::<AXES>::shape(kind, input)?;
        let [kernel, stride, dilation] = [kernel, stride, dilation].map(|sizes| Lift::<AXES>::numbers(sizes, 1));
        let (zeros, native) = match padding {
            PaddingChoice::Symmetric(native) => (Zeros::none(input.len()), Lift::<AXES>::numbers(native, 0)),
            zeros => (zeros.resolve(&input, &kernel, &stride, &dilation), vec![0; input.len()]),
        };
        let window = Window { channels, input, kernel, stride, dilation, zeros, native, ceil_mode };
        for axis in 0..window.input.len() {
            window.check(kind, axis)?;
        }
        Ok(window)
    }

    /// PyTorch's conditions on the geometry along one axis, and that every window holds an entry: it takes some that hold
    /// none, and gives minus infinity from no place.
    fn check(&self, kind: &str, axis: usize) -> Result<()> {
        let (kernel, stride, dilation) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
        let (whole, padding) = (self.whole()[axis], self.native[axis]);
        let direction = match (AXES, self.input.len() - axis) {
            (1, _) => "length",
            (_, 1) => "width",
            (_, 2) => "height",
            _ => "depth",
        };
        let refuse = |reason: String| Err(Error::Shape(format!("{kind}: {reason}")));
        if kernel < 1 || stride < 1 || dilation < 1 {
            return refuse(format!(
                "kernel_size, stride and dilation must be at least 1; along the {direction} they are {kernel}, {stride} \
                 and {dilation}"
            ));
        }
        if !(0..=kernel / 2).contains(&padding) {
            return refuse(format!(
                "padding along the {direction} is {padding}, expected 0 to {}, half the kernel_size of {kernel}",
                kernel / 2
            ));
        }
        if whole < 1 || self.output_size()[axis] < 1 {
            return refuse(format!(
                "a window of {} pixels does not fit the {direction} of the input, which has {} with its padding",
                self.extent(axis),
                whole + 2 * padding
            ));
        }
        // The first entry that a window reaches within the input; windows begin before its end, so only those that
        // begin in the padding can miss it.
        let misses = |start: i64| {
            let steps = if start < 0 { (-start + dilation - 1) / dilation } else { 0 };
            steps >= kernel || start + steps * dilation >= whole
        };
        if (0..self.output_size()[axis]).any(|place| misses(place * stride - padding)) {
            return refuse(format!(
                "with padding {padding} and dilation {dilation} a window of kernel_size {kernel} holds no pixel of the \
                 {direction}, {whole}"
            ));
        }
        Ok(())
    }

    /// The entries from a window's first to its last, dilation included.
    fn extent(&self, axis: usize) -> i64 {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// The sizes after the zeros have been added.
    pub fn whole(&self) -> Vec<i64> {
        self.zeros.around(&self.input)
    }

    pub fn output_shape(&self, kind: &str, input: &[i64]) -> Result<Vec<i64>> {
        built_for(kind, &[&[self.channels], Lift::<AXES>::lower(&self.input)].concat(), input)?;
        Ok([&[self.channels], Lift::<AXES>::lower(&self.output_size())].concat())
    }

    fn output_size(&self) -> Vec<i64> {
        let whole = self.whole();
        let size = |axis: usize| {
            let span = whole[axis] + 2 * self.native[axis] - self.extent(axis);
            let up = if self.ceil_mode { self.stride[axis] - 1 } else { 0 };
            // The quotient is rounded down where the window is larger than the input, too.
            let mut size = (span + up).div_euclid(self.stride[axis]) + 1;
            // A window must begin inside the input or its padding before the first entry.
            if self.ceil_mode && (size - 1) * self.stride[axis] >= whole[axis] + self.native[axis] {
                size -= 1;
            }
            size
        };
        (0..self.input.len()).map(size).collect()
    }

    pub fn pad(&self, x: &Tensor) -> Tensor {
        if self.zeros.is_zero() { x.shallow_clone() } else { self.zeros.pad(x) }
    }

    pub fn crop(&self, x: Tensor) -> Tensor {
        if self.zeros.is_zero() { x } else { self.zeros.crop(&x, &self.input) }
    }

    /// `[V, N, C, *whole]`: room for vectors at the padded input.
    pub fn room(&self, v: &Tensor) -> Tensor {
        let whole = self.whole();
        match whole[..] {
            [height, width] => channels_last_room(&v.size()[..2], [self.channels, height, width], v),
            _ => {
                let shape = [&v.size()[..2], &[self.channels], &whole].concat();
                Tensor::empty(shape.as_slice(), (v.kind(), v.device()))
            }
        }
    }

    /// The same window without the zeros, where a last partial window of libtorch's ceil mode covers what they would:
    /// zeros behind only. Its maxima are those over the zeros too as long as the border's are not negative.
    pub fn without_zeros(&self) -> Option<Self> {
        let other = Window { zeros: Zeros::none(self.input.len()), ceil_mode: true, ..self.clone() };
        let behind_only = !self.zeros.is_zero() && self.zeros.0.iter().all(|[before, _]| *before == 0);
        let same = behind_only && !self.ceil_mode && other.output_size() == self.output_size();
        same.then_some(other)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    /// Every small geometry: what libtorch takes is taken, with its size, but for windows without a pixel.
    #[test]
    fn takes_what_libtorch_takes() {
        let (mut taken, mut refused, mut empty) = (0, 0, 0);
        for number in 0..6 * 4 * 3 * 3 * 3 * 2 {
            let mut rest = number;
            let mut next = |count: i64| {
                let digit = rest % count;
                rest /= count;
                digit
            };
            let (length, kernel, stride) = (next(6) + 1, next(4) + 1, next(3) + 1);
            let (padding, dilation, ceil_mode) = (next(3), next(3) + 1, next(2) == 1);
            let geometry = format!(
                "{length} pixels, kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}, {ceil_mode}"
            );
            let x = Tensor::ones([1, 1, 2, length], (Kind::Float, Device::Cpu));
            let (kernels, strides, native, dilations) = ([1, kernel], [1, stride], [0, padding], [1, dilation]);
            let padding = PaddingChoice::Symmetric(native);
            let ours = Window::new("", &[1, 2, length], kernels, strides, padding, dilations, ceil_mode);
            let mut theirs = vec![x.f_max_pool2d(kernels, strides, native, dilations, ceil_mode)];
            if dilation == 1 {
                theirs.push(x.f_avg_pool2d(kernels, strides, native, ceil_mode, true, None::<i64>));
            }
            for theirs in theirs {
                match (&ours, theirs) {
                    (Ok(ours), Ok(theirs)) => {
                        assert_eq!(ours.output_shape("", &[1, 2, length]).unwrap(), theirs.size()[1..], "{geometry}");
                        assert!(f64::try_from(theirs.min()).unwrap() > 0.0, "{geometry}: a window without a pixel");
                        taken += 1;
                    }
                    (Err(_), Err(_)) => refused += 1,
                    (Err(error), Ok(theirs)) => {
                        assert!(f64::try_from(theirs.min()).unwrap() == f64::NEG_INFINITY, "{geometry}: {error}");
                        empty += 1;
                    }
                    (Ok(_), Err(error)) => panic!("{geometry} is taken; libtorch: {error}"),
                }
            }
        }
        assert!(taken > 500 && refused > 300 && empty > 5, "{taken} {refused} {empty}");
    }
}
