//! The input factor of a convolution with stride 1 without its patch matrix.
//!
//! The factor's block for two kernel entries (i, j) and (i', j') is a sum over output positions of outer products of
//! two pixels that lie (i' - i, j' - j) apart. With the pixels as rows of one matrix, and zeros between image rows and
//! between images, the sum over *all* pixels at one distance serves every pair of kernel entries at that distance; and
//! the sums at all distances together are the weight gradient of a convolution of the image with itself, which
//! libtorch computes faster than any product of matrices. What an entry never sees, a few rows and columns at the
//! image's border, is taken away by inclusion and exclusion: rows, columns, corners.

use tch::Tensor;

use super::channels_last_room;
use crate::backpack::native::{Geometry, convolution_weight_gradient};
use crate::error::Result;

/// Pixels `[N, H, W, C]` (the convolution's padding included) under a kernel that moves by single steps.
pub(super) struct ShiftedProducts {
    /// `[N, H + kernel - 1, W + kernel - 1, C]`: the pixels with zeros below and to the right.
    spaced: Tensor,
    kernel: [i64; 2],
    /// The height and width of the pixels.
    size: [i64; 2],
    /// For each axis, the border rows (columns) that some kernel entry does not see and that are not all padding.
    border: [Vec<i64>; 2],
}

impl ShiftedProducts {
    /// Multiplications of this way and of the one by patches, for a choice by count.
    pub fn costs(size: [i64; 2], kernel: [i64; 2], padding: [i64; 2], channels: i64) -> (f64, f64) {
        let offsets = ((2 * kernel[0] - 1) * (2 * kernel[1] - 1) + 1) / 2;
        let spaced = [size[0] + kernel[0] - 1, size[1] + kernel[1] - 1];
        let border = [0, 1].map(|axis| border(size[axis], kernel[axis], padding[axis]).len() as i64);
        let rows = spaced[0] * spaced[1] + border[0] * spaced[1] + border[1] * spaced[0] + border[0] * border[1];
        let positions = (size[0] - kernel[0] + 1) * (size[1] - kernel[1] + 1);
        let features = channels * kernel[0] * kernel[1];
        ((offsets * rows * channels * channels) as f64, (positions * features * features) as f64)
    }

    /// Prepares pixels; `padding` says how many rows and columns on each side are zeros of the convolution's.
    pub fn new(pixels: &Tensor, kernel: [i64; 2], padding: [i64; 2]) -> Self {
        let shape = pixels.size();
        let size = [shape[1], shape[2]];
        let spaced = pixels.constant_pad_nd([0, 0, 0, kernel[1] - 1, 0, kernel[0] - 1]);
        let border = [0, 1].map(|axis| border(size[axis], kernel[axis], padding[axis]));
        ShiftedProducts { spaced, kernel, size, border }
    }

    /// The factor, `[d, d]` with d over (kernel row, kernel column, channel), not divided by N.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn factor(&self) -> Result<Tensor> {
        let everywhere = self.everywhere()?;
        let channels = self.spaced.size()[3];
        let [rows, columns] = self.kernel;
        let options = (self.spaced.kind(), self.spaced.device());
        let factor = Tensor::empty([rows, columns, channels, rows, columns, channels], options);
        for down in 0..rows {
            for right in (1 - columns)..columns {
                if down > 0 || right >= 0 {
                    self.fill(&factor, &everywhere, down, right);
                }
            }
        }
        let features = rows * columns * channels;
        Ok(factor.view([features, features]))
    }

    /// Fills all blocks whose kernel entries lie (down, right) apart, and their mirror images.
    fn fill(&self, factor: &Tensor, everywhere: &Tensor, down: i64, right: i64) {
        let [rows, columns] = self.kernel;
        let channels = self.spaced.size()[3];
        // Kernel entries (i, j) for which (i + down, j + right) is in the kernel too.
        let (first, count) = ([0, (-right).max(0)], [rows - down, columns - right.abs()]);
        let everywhere = everywhere.get(rows - 1 + down).get(columns - 1 + right).view([1, 1, channels, channels]);
        let unseen = [0, 1].map(|axis| self.unseen(axis, first[axis], count[axis]));
        let mix = |unseen: &Tensor, strips: &Tensor| unseen.mm(&strips.flatten(1, -1));
        let mut terms = vec![everywhere];
        if !self.border[0].is_empty() {
            let strips = mix(&unseen[0], &self.row_strips(down, right));
            terms.push(strips.view([count[0], 1, channels, channels]).neg());
        }
        if !self.border[1].is_empty() {
            let strips = mix(&unseen[1], &self.column_strips(down, right));
            terms.push(strips.view([1, count[1], channels, channels]).neg());
        }
        if !self.border[0].is_empty() && !self.border[1].is_empty() {
            let both = unseen[0].kron(&unseen[1]);
            let corners = mix(&both, &self.corners(down, right));
            terms.push(corners.view([count[0], count[1], channels, channels]));
        }
        let blocks = terms.iter().skip(1).fold(terms[0].shallow_clone(), |sum, term| sum + term);
        let blocks = blocks.expand([count[0], count[1], channels, channels], false);
        // A diagonal over the two kernel rows, then over the two kernel columns: [C, C, rows, columns].
        let place = |down: i64, right: i64| factor.diagonal(down, 0, 3).diagonal(right, 0, 2);
        place(down, right).copy_(&blocks.permute([2, 3, 0, 1]));
        place(-down, -right).copy_(&blocks.permute([3, 2, 0, 1]));
    }

    /// The sum over all pixels of the outer product of a pixel with the one (down, right) of it, for every distance
    /// within the kernel: `[2 kernel rows - 1, 2 kernel columns - 1, C, C]`.
    fn everywhere(&self) -> Result<Tensor> {
        let [rows, columns] = self.kernel;
        let image = self.spaced.permute([0, 3, 1, 2]);
        let channels = image.size()[1];
        let geometry = Geometry {
            stride: vec![1, 1],
            padding: vec![rows - 1, columns - 1],
            dilation: vec![1, 1],
            output_padding: vec![0, 0],
            transposed: false,
            groups: 1,
        };
        // Only the weight's shape and order in memory are read.
        let weight = channels_last_room(&[channels], [channels, 2 * rows - 1, 2 * columns - 1], &image);
        let sums = convolution_weight_gradient(&image, &image, &weight, &geometry)?;
        Ok(sums.permute([2, 3, 0, 1]).contiguous())
    }

    /// The same sum over each border row: `[rows, C, C]`.
    fn row_strips(&self, down: i64, right: i64) -> Tensor {
        let lines = |shift: i64| {
            let chosen: Vec<i64> = self.border[0].iter().map(|row| row + shift).collect();
            self.select(1, &chosen).transpose(0, 1).flatten(1, 2)
        };
        product(&lines(0), &lines(down), right)
    }

    /// The same sum over each border column: `[columns, C, C]`.
    fn column_strips(&self, down: i64, right: i64) -> Tensor {
        let lines = |shift: i64| self.select(2, &self.shifted_columns(shift)).permute([2, 0, 1, 3]).flatten(1, 2);
        product(&lines(0), &lines(right), down)
    }

    /// The same sum over each pixel where a border row and a border column cross: `[rows * columns, C, C]`.
    fn corners(&self, down: i64, right: i64) -> Tensor {
        let pixels = |down: i64, right: i64| {
            let chosen: Vec<i64> = self.border[0].iter().map(|row| row + down).collect();
            let lines = self.select(1, &chosen);
            let columns = Tensor::from_slice(&self.shifted_columns(right)).to_device(lines.device());
            lines.index_select(2, &columns).permute([1, 2, 0, 3]).flatten(0, 1)
        };
        product(&pixels(0, 0), &pixels(down, right), 0)
    }

    /// The border columns moved to the right; what falls off the image's left side is put on a column of zeros.
    fn shifted_columns(&self, right: i64) -> Vec<i64> {
        self.border[1].iter().map(|column| if column + right < 0 { self.size[1] } else { column + right }).collect()
    }

    fn select(&self, axis: i64, chosen: &[i64]) -> Tensor {
        self.spaced.index_select(axis, &Tensor::from_slice(chosen).to_device(self.spaced.device()))
    }

    /// Which border rows (columns) each of `count` kernel entries from `first` on does not see: `[count, border]` of
    /// ones and zeros.
    fn unseen(&self, axis: usize, first: i64, count: i64) -> Tensor {
        let seen = self.size[axis] - self.kernel[axis] + 1;
        let marks: Vec<f64> = (first..first + count)
            .flat_map(|entry| {
                self.border[axis].iter().map(move |line| f64::from(!(entry..entry + seen).contains(line)))
            })
            .collect();
        Tensor::from_slice(&marks)
            .view([count, self.border[axis].len() as i64])
            .to_kind(self.spaced.kind())
            .to_device(self.spaced.device())
    }
}

/// The lines that some kernel entry does not see, except those that are padding and so all zeros.
fn border(size: i64, kernel: i64, padding: i64) -> Vec<i64> {
    let seen = size - kernel + 1;
    (0..size)
        .filter(|line| *line < kernel - 1 || *line >= seen)
        .filter(|line| (padding..size - padding).contains(line))
        .collect()
}

/// `sum_r left[b, r] right[b, r + shift]^T`, `[B, R, C]` twice to `[B, C, C]`.
fn product(left: &Tensor, right: &Tensor, shift: i64) -> Tensor {
    let length = left.size()[1] - shift.abs();
    let left = left.narrow(1, (-shift).max(0), length);
    let right = right.narrow(1, shift.max(0), length);
    if left.size()[0] == 1 {
        return left.squeeze_dim(0).tr().mm(&right.squeeze_dim(0)).unsqueeze(0);
    }
    left.transpose(1, 2).bmm(&right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Against the patches themselves, for odd and even sizes, oblong kernels, and kernels as large as the image.
    #[test]
    fn shifted_products_are_the_patches_second_moment() {
        tch::manual_seed(0);
        for (size, kernel, padding) in [
            ([7, 6], [3, 3], [0, 0]),
            ([8, 8], [3, 3], [1, 1]),
            ([9, 7], [5, 3], [2, 1]),
            ([6, 5], [2, 4], [0, 0]),
            ([4, 4], [4, 3], [1, 0]),
            ([5, 6], [1, 3], [0, 1]),
            ([5, 5], [1, 1], [0, 0]),
        ] {
            let [height, width] = size;
            let pixels = Tensor::zeros([3, height, width, 2], (Kind::Double, Device::Cpu));
            let inside = [height - 2 * padding[0], width - 2 * padding[1]];
            let values = Tensor::randn([3, inside[0], inside[1], 2], (Kind::Double, Device::Cpu));
            pixels.narrow(1, padding[0], inside[0]).narrow(2, padding[1], inside[1]).copy_(&values);
            let patches = pixels
                .unfold(1, kernel[0], 1)
                .unfold(2, kernel[1], 1)
                .permute([0, 1, 2, 4, 5, 3])
                .reshape([-1, kernel[0] * kernel[1] * 2]);
            let expected = patches.tr().mm(&patches);
            let ours = ShiftedProducts::new(&pixels, kernel, padding).factor().unwrap();
            let error = f64::try_from((ours - expected).abs().max()).unwrap();
            assert!(error < 1e-12, "{size:?} {kernel:?} {padding:?}: {error}");
        }
    }
}
