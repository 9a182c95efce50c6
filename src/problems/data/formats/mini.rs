//! `fashion_mnist_mini`: a fixed, balanced part of Fashion-MNIST that is part of the program.
//!
//! The first 350 training and the first 100 test images of each of the ten classes, in the order of the published
//! files, written by `scripts/make_fashion_mnist_mini.py`; Fashion-MNIST is under the MIT licence, which stands beside
//! the files. A fifth of the training images, 700, is for validation unless a problem says otherwise.

use std::path::Path;

use super::Images;
use super::idx::{Expected, parse_images};
use crate::error::Result;

/// Training images, those for validation included.
pub const TRAIN: usize = 3500;
/// Test images.
pub const TEST: usize = 1000;

/// Reads the training and the test images.
///
/// # Errors
/// None but on a broken build, in which the embedded files are not what the script writes.
pub fn read() -> Result<(Images, Images)> {
    let part = |images: (&[u8], &str), labels: (&[u8], &str), count: usize| {
        let expected = Expected { size: [28, 28], classes: 10, count: Some(count) };
        parse_images((images.0, Path::new(images.1)), (labels.0, Path::new(labels.1)), expected)
    };
    macro_rules! embedded {
        ($name:literal) => {
            (
                &include_bytes!(concat!("../../../../assets/fashion_mnist_mini/", $name))[..],
                concat!("fashion_mnist_mini/", $name),
            )
        };
    }
    Ok((
        part(embedded!("train-images-idx3-ubyte.gz"), embedded!("train-labels-idx1-ubyte.gz"), TRAIN)?,
        part(embedded!("t10k-images-idx3-ubyte.gz"), embedded!("t10k-labels-idx1-ubyte.gz"), TEST)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_balanced_and_real() {
        let (train, test) = read().unwrap();
        for (images, each) in [(&train, 350), (&test, 100)] {
            for class in 0..10 {
                assert_eq!(images.labels.iter().filter(|&&label| label == class).count(), each);
            }
            // Fashion-MNIST's mean is 72.94 of 255; that of a part is near.
            let mean = images.pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / images.pixels.len() as f64;
            assert!((70.0..76.0).contains(&mean), "{mean}");
        }
    }
}
