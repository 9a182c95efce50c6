//! The file formats of data sets, one reader a file; each parses bytes without libtorch, so that it can be fuzzed.

pub mod cifar;
pub mod idx;
pub mod mat;
pub mod mini;
pub mod svhn;
pub mod synthetic;
pub mod text;
pub mod user;

use tch::Tensor;

use crate::problems::data::set::Samples;

/// Images of bytes with a label each, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// [channels, height, width] of one image.
    pub shape: [usize; 3],
    /// [n, channels, height, width], row-major.
    pub pixels: Vec<u8>,
    /// One class an image, counted from 0.
    pub labels: Vec<u8>,
}

impl Images {
    /// No images yet, with room for `count`.
    pub fn with_capacity(shape: [usize; 3], count: usize) -> Self {
        let size: usize = shape.iter().product();
        Images { shape, pixels: Vec::with_capacity(count * size), labels: Vec::with_capacity(count) }
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The bytes of one image.
    pub fn image_bytes(&self) -> usize {
        self.shape.iter().product()
    }

    /// As tensors: x `[n, channels, height, width]` Uint8, y `[n]` Int64.
    pub fn into_samples(self) -> Samples {
        let [channels, height, width] = self.shape.map(|size| size as i64);
        let x = Tensor::from_slice(&self.pixels).view([self.labels.len() as i64, channels, height, width]);
        let labels: Vec<i64> = self.labels.iter().map(|&label| label.into()).collect();
        Samples { x, y: Tensor::from_slice(&labels) }
    }
}
