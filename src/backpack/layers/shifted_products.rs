//! The input factor of a convolution with stride 1 without its patch matrix.
//!
//! The factor's block for two kernel entries (i, j) and (i', j') is a sum over output positions of outer products of
//! two pixels that lie (i' - i, j' - j) apart. With zeros around the image, the sum over *all* pixels at one distance
//! serves every pair of kernel entries at that distance; and the sums at all distances together are the weight gradient
//! of a convolution of the image with itself, which libtorch computes faster than any product of matrices. What an entry
//! never sees, a few rows and columns at the image's border, is taken away by inclusion and exclusion: rows, columns,
//! corners, each of which has its sums in the same way.

use tch::Tensor;

use super::{channels_last, channels_last_room};
use crate::backpack::native::{Geometry, convolution_weight_gradient};
use crate::error::Result;

/// Pixels (the convolution's padding included) under a kernel that moves by single steps.
pub(super) struct ShiftedProducts {
    /// `[N, C, H, W]`, channels last in memory.
    pixels: Tensor,
    /// The pixels with zeros as far as the kernel reaches below them, to their left and to their right.
    surrounded: Tensor,
    kernel: [i64; 2],
    /// The height and width of the pixels.
    size: [i64; 2],
    /// For each axis, the border rows (columns) that some kernel entry does not see and that are not all padding.
    border: [Vec<i64>; 2],
}

/// Sums of outer products of pixels, of a whole image and of its border, each `[.., rows, 2 columns - 1, C, C]` over the
/// distances within the kernel.
struct Sums {
    everywhere: Tensor,
    /// For each border row.
    rows: Option<Tensor>,
    /// For each border column.
    columns: Option<Tensor>,
    /// For each pixel where a border row and a border column cross, row by row.
    corners: Option<Tensor>,
}

impl ShiftedProducts {
    /// Multiplications of this way and of the one by patches, for a choice by count.
    pub fn costs(size: [i64; 2], kernel: [i64; 2], padding: [i64; 2], channels: i64) -> (f64, f64) {
        let offsets = kernel[0] * (2 * kernel[1] - 1);
        let border = [0, 1].map(|axis| border(size[axis], kernel[axis], padding[axis]).len() as i64);
        let rows = size[0] * size[1] + border[0] * size[1] + border[1] * size[0] + border[0] * border[1];
        let positions = (size[0] - kernel[0] + 1) * (size[1] - kernel[1] + 1);
        let features = channels * kernel[0] * kernel[1];
        ((offsets * rows * channels * channels) as f64, (positions * features * features) as f64)
    }

    /// Prepares pixels `[N, H, W, C]`; `padding` says how many rows and columns on each side are zeros of the
    /// convolution's.
    pub fn new(pixels: &Tensor, kernel: [i64; 2], padding: [i64; 2]) -> Self {
        let shape = pixels.size();
        let size = [shape[1], shape[2]];
        let reach = [kernel[0] - 1, kernel[1] - 1];
        let surrounded = pixels.constant_pad_nd([0, 0, reach[1], reach[1], 0, reach[0]]).permute([0, 3, 1, 2]);
        let border = [0, 1].map(|axis| border(size[axis], kernel[axis], padding[axis]));
        ShiftedProducts { pixels: pixels.permute([0, 3, 1, 2]), surrounded, kernel, size, border }
    }

    fn channels(&self) -> i64 {
        self.pixels.size()[1]
    }

    /// The factor, `[d, d]` with d over (kernel row, kernel column, channel), not divided by N.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn factor(&self) -> Result<Tensor> {
        let sums = self.sums()?;
        let channels = self.channels();
        let [rows, columns] = self.kernel;
        let options = (self.pixels.kind(), self.pixels.device());
        let factor = Tensor::empty([rows, columns, channels, rows, columns, channels], options);
        for down in 0..rows {
            for right in (1 - columns)..columns {
                if down > 0 || right >= 0 {
                    self.fill(&factor, &sums, down, right);
                }
            }
        }
        let features = rows * columns * channels;
        Ok(factor.view([features, features]))
    }

    /// Fills all blocks whose kernel entries lie (down, right) apart, and their mirror images.
    fn fill(&self, factor: &Tensor, sums: &Sums, down: i64, right: i64) {
        let [rows, columns] = self.kernel;
        let channels = self.channels();
        // Kernel entries (i, j) for which (i + down, j + right) is in the kernel too.
        let (first, count) = ([0, (-right).max(0)], [rows - down, columns - right.abs()]);
        let unseen = [0, 1].map(|axis| self.unseen(axis, first[axis], count[axis]));
        let at = |sums: &Tensor| sums.select(-4, down).select(-3, columns - 1 + right);
        let mix = |unseen: &Tensor, sums: &Tensor| unseen.mm(&at(sums).flatten(1, -1));
        let mut blocks = at(&sums.everywhere).view([1, 1, channels, channels]);
        if let Some(sums) = &sums.rows {
            blocks = &blocks - mix(&unseen[0], sums).view([count[0], 1, channels, channels]);
        }
        if let Some(sums) = &sums.columns {
            blocks = &blocks - mix(&unseen[1], sums).view([1, count[1], channels, channels]);
        }
        if let Some(sums) = &sums.corners {
            let both = unseen[0].kron(&unseen[1]);
            blocks = &blocks + mix(&both, sums).view([count[0], count[1], channels, channels]);
        }
        let blocks = blocks.expand([count[0], count[1], channels, channels], false);
        // A diagonal over the two kernel rows, then over the two kernel columns: [C, C, rows, columns].
        let place = |down: i64, right: i64| factor.diagonal(down, 0, 3).diagonal(right, 0, 2);
        place(down, right).copy_(&blocks.permute([2, 3, 0, 1]));
        place(-down, -right).copy_(&blocks.permute([3, 2, 0, 1]));
    }

    fn sums(&self) -> Result<Sums> {
        let [height, width] = self.size;
        let each = |windows: Vec<[i64; 4]>| -> Result<Option<Tensor>> {
            let sums: Result<Vec<Tensor>> = windows.into_iter().map(|window| self.window(window)).collect();
            let sums = sums?;
            Ok(if sums.is_empty() { None } else { Some(Tensor::stack(&sums, 0)) })
        };
        let [rows, columns] = &self.border;
        Ok(Sums {
            everywhere: self.window([0, height, 0, width])?,
            rows: each(rows.iter().map(|row| [*row, 1, 0, width]).collect())?,
            columns: each(columns.iter().map(|column| [0, height, *column, 1]).collect())?,
            corners: each(rows.iter().flat_map(|row| columns.iter().map(|column| [*row, 1, *column, 1])).collect())?,
        })
    }

    /// The sum over the pixels of a window (first row, rows, first column, columns) of the outer product of a pixel
    /// with the one (down, right) of it, for every distance within the kernel that does not go up:
    /// `[kernel rows, 2 kernel columns - 1, C, C]`. The distances that go up are the mirror images.
    fn window(&self, [top, height, left, width]: [i64; 4]) -> Result<Tensor> {
        let [rows, columns] = self.kernel;
        let channels = self.channels();
        let pixels = self.pixels.narrow(2, top, height).narrow(3, left, width);
        let around = self.surrounded.narrow(2, top, height + rows - 1).narrow(3, left, width + 2 * (columns - 1));
        if height == 1 && width == 1 {
            // A single pixel has no positions to sum over, and is a product of matrices.
            let (pixels, around) = (pixels.flatten(1, -1), around.permute([0, 2, 3, 1]).flatten(1, -1));
            let sums = pixels.tr().mm(&around).view([channels, rows, 2 * columns - 1, channels]);
            return Ok(sums.permute([1, 2, 0, 3]).contiguous());
        }
        if width == 1 {
            // libtorch is at its fastest along rows.
            let sums = autocorrelation(&pixels.transpose(2, 3), &around.transpose(2, 3))?;
            return Ok(sums.permute([3, 2, 0, 1]).contiguous());
        }
        Ok(autocorrelation(&pixels, &around)?.permute([2, 3, 0, 1]).contiguous())
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
            .to_kind(self.pixels.kind())
            .to_device(self.pixels.device())
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

/// `sum_{n, p} pixels[n, c, p] around[n, d, p + distance]` for every distance at which the pixels lie within what is
/// around them: `[C, C, distances down, distances right]`.
fn autocorrelation(pixels: &Tensor, around: &Tensor) -> Result<Tensor> {
    let (pixels, around) = (channels_last(pixels), channels_last(around));
    let geometry = Geometry {
        stride: vec![1, 1],
        padding: vec![0, 0],
        dilation: vec![1, 1],
        output_padding: vec![0, 0],
        transposed: false,
        groups: 1,
    };
    let channels = pixels.size()[1];
    let distances = [2, 3].map(|axis| around.size()[axis] - pixels.size()[axis] + 1);
    // Only the weight's shape and order in memory are read.
    let weight = channels_last_room(&[channels], [channels, distances[0], distances[1]], &pixels);
    convolution_weight_gradient(&pixels, &around, &weight, &geometry)
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
