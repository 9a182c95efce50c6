//! A deterministic set that a network can learn: class prototypes with noise, and a fifth of the labels drawn anew.
//!
//! A sample is its class's prototype plus uniform noise, in bytes. Prototypes of images are blocks of even colour, so
//! that convolutions and pooling find them. A fifth of the labels, in training and test, are replaced by uniform draws:
//! the reachable accuracy is 0.8 + 0.2 / classes for a network of any shape.

use rand::{Rng, RngExt};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::problems::data::source::SyntheticOptions;
use crate::random::{Purpose, stream};

/// One label in so many is drawn anew.
const RELABELLED: u32 = 5;
/// Prototypes lie at least this far from 0 and 255, which is the amplitude of the noise, so that nothing is clipped.
const MARGIN: u8 = 64;
/// The side of a block of even colour.
const BLOCK: usize = 4;

/// Samples of one part.
#[derive(Debug)]
pub struct Synthetic {
    /// [n, *shape], row-major.
    pub x: Vec<u8>,
    /// One class a sample.
    pub y: Vec<i64>,
}

/// Checks the options.
///
/// # Errors
/// [`Error::Usage`] that names the option and what it must be.
pub fn check(options: &SyntheticOptions) -> Result<()> {
    let refuse = |message: String| Err(Error::Usage(format!("synthetic data set: {message}")));
    let size = sample_size(options);
    if options.shape.is_empty() || size.is_none() {
        return refuse(format!("shape {:?}: expected positive sizes, as in [3, 32, 32]", options.shape));
    }
    if !(2..=1 << 20).contains(&options.classes) {
        return refuse(format!("classes = {}: expected at least 2", options.classes));
    }
    for (name, count) in [("train", options.train), ("test", options.test), ("classes", options.classes)] {
        if count == 0 {
            return refuse(format!("{name} = 0: expected at least 1"));
        }
        // Each class has a sample of its own that its samples are variations of.
        let bytes = size.and_then(|size| size.checked_mul(count));
        if bytes.is_none_or(|bytes| bytes > 1 << 36) {
            return refuse(format!("{name} = {count} samples of shape {:?} do not fit into memory", options.shape));
        }
    }
    Ok(())
}

fn sample_size(options: &SyntheticOptions) -> Option<usize> {
    options.shape.iter().try_fold(1usize, |product, &size| {
        usize::try_from(size).ok().filter(|&size| size > 0).and_then(|size| product.checked_mul(size))
    })
}

/// What tells the set apart from others.
pub(crate) fn fingerprint(options: &SyntheticOptions) -> String {
    let SyntheticOptions { shape, classes, train, test, seed } = options;
    hex::encode(Sha256::digest(format!("synthetic 1 {shape:?} {classes} {train} {test} {seed}")))
}

/// The most bytes that computing the set takes: its parts, each twice for a moment, and the classes' prototypes.
pub(crate) fn bytes(options: &SyntheticOptions) -> u64 {
    let samples = [options.train, options.test, options.classes].into_iter().fold(0, usize::saturating_add);
    let sample = sample_size(options).unwrap_or(usize::MAX).saturating_add(2 * size_of::<i64>());
    (samples.saturating_mul(sample) as u64).saturating_mul(2)
}

/// Computes the training and the test part.
///
/// # Errors
/// As [`check`].
pub fn generate(options: &SyntheticOptions) -> Result<(Synthetic, Synthetic)> {
    check(options)?;
    let prototypes = prototypes(options);
    Ok((part(options, &prototypes, options.train, 1), part(options, &prototypes, options.test, 3)))
}

/// [classes][*shape], each from `MARGIN` to `255 - MARGIN`.
fn prototypes(options: &SyntheticOptions) -> Vec<Vec<u8>> {
    let mut generator = stream(options.seed, Purpose::Synthetic, 0);
    let size = sample_size(options).unwrap_or(0);
    // The last two sizes of an image; a shape without them is one pixel high and wide.
    let image = match options.shape[..] {
        [.., height, width] if options.shape.len() >= 3 && height.min(width) >= 2 * BLOCK as i64 => {
            Some((height as usize, width as usize))
        }
        _ => None,
    };
    let mut level = || generator.random_range(MARGIN..=255 - MARGIN);
    (0..options.classes)
        .map(|_| match image {
            None => (0..size).map(|_| level()).collect(),
            Some((height, width)) => {
                let columns = width.div_ceil(BLOCK);
                let mut prototype = Vec::with_capacity(size);
                for _ in 0..size / (height * width) {
                    let blocks: Vec<u8> = (0..columns * height.div_ceil(BLOCK)).map(|_| level()).collect();
                    for y in 0..height {
                        prototype.extend((0..width).map(|x| blocks[y / BLOCK * columns + x / BLOCK]));
                    }
                }
                prototype
            }
        })
        .collect()
}

fn part(options: &SyntheticOptions, prototypes: &[Vec<u8>], count: usize, step: u64) -> Synthetic {
    let mut labels = stream(options.seed, Purpose::Synthetic, step);
    let mut noise = stream(options.seed, Purpose::Synthetic, step + 1);
    let mut x = vec![0; count * prototypes[0].len()];
    noise.fill_bytes(&mut x);
    let mut y = Vec::with_capacity(count);
    for (sample, x) in x.chunks_exact_mut(prototypes[0].len()).enumerate() {
        let class = sample % options.classes;
        for (value, &prototype) in x.iter_mut().zip(&prototypes[class]) {
            // A byte of noise, from -64 to 63.
            *value = prototype - MARGIN + (*value >> 1);
        }
        let drawn = labels.random_range(0..options.classes);
        let relabelled = labels.random_range(0..RELABELLED) == 0;
        y.push(if relabelled { drawn } else { class } as i64);
    }
    Synthetic { x, y }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(shape: &[i64]) -> SyntheticOptions {
        SyntheticOptions { shape: shape.to_vec(), classes: 10, train: 2000, test: 1000, seed: 3 }
    }

    /// The accuracy of the nearest class mean, estimated on the training part.
    fn nearest_mean_accuracy(shape: &[i64]) -> f64 {
        let (train, test) = generate(&options(shape)).unwrap();
        let size = shape.iter().product::<i64>() as usize;
        let mut means = vec![vec![0.0f64; size]; 10];
        let mut counts = [0.0f64; 10];
        for (x, &y) in train.x.chunks_exact(size).zip(&train.y) {
            counts[y as usize] += 1.0;
            x.iter().zip(&mut means[y as usize]).for_each(|(&x, mean)| *mean += f64::from(x));
        }
        means.iter_mut().zip(counts).for_each(|(mean, count)| mean.iter_mut().for_each(|value| *value /= count));
        let distance = |x: &[u8], mean: &[f64]| -> f64 {
            x.iter().zip(mean).map(|(&x, mean)| (f64::from(x) - mean).powi(2)).sum()
        };
        let hits = test.x.chunks_exact(size).zip(&test.y).filter(|(x, y)| {
            let best = (0..10).min_by(|&a, &b| distance(x, &means[a]).total_cmp(&distance(x, &means[b])));
            best == Some(**y as usize)
        });
        hits.count() as f64 / 1000.0
    }

    #[test]
    fn it_can_be_learned_and_not_perfectly() {
        for shape in [&[20][..], &[1, 28, 28], &[3, 32, 32]] {
            let accuracy = nearest_mean_accuracy(shape);
            assert!((0.7..0.87).contains(&accuracy), "{shape:?}: {accuracy}");
        }
    }

    #[test]
    fn it_is_a_function_of_its_options() {
        let draw = |options: SyntheticOptions| generate(&options).unwrap().0;
        let base = draw(options(&[8]));
        assert_eq!(draw(options(&[8])).x, base.x);
        assert_ne!(draw(SyntheticOptions { seed: 4, ..options(&[8]) }).x, base.x);
        let shorter = draw(SyntheticOptions { train: 100, ..options(&[8]) });
        assert_eq!(shorter.x, base.x[..800], "the first samples do not depend on how many there are");
    }

    #[test]
    fn impossible_options_are_refused() {
        for (bad, word) in [
            (SyntheticOptions { shape: vec![], ..options(&[8]) }, "shape"),
            (SyntheticOptions { shape: vec![3, -1], ..options(&[8]) }, "shape"),
            (SyntheticOptions { shape: vec![i64::MAX, 3], ..options(&[8]) }, "shape"),
            (SyntheticOptions { classes: 1, ..options(&[8]) }, "classes"),
            (SyntheticOptions { train: 0, ..options(&[8]) }, "train"),
            (SyntheticOptions { test: usize::MAX, ..options(&[8]) }, "test"),
        ] {
            let error = generate(&bad).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
