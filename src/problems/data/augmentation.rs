//! Random crops, flips and colour jitter on whole batches, as torchvision does them on 8-bit images.
//!
//! The chain is DeepOBS's for CIFAR and SVHN: pad with zeros, crop back to the size, flip, then brightness, contrast and
//! saturation in an order drawn for each image. Each jitter blends the image with a degenerate one as PIL's
//! `Image.blend` does in its C code: `degenerate + factor * (image - degenerate)` in single precision, clipped and
//! truncated to 8 bits. The degenerate image is black for brightness, the rounded mean of the grey image for contrast,
//! and the grey image for saturation; grey is PIL's `(19595 R + 38470 G + 7471 B + 2^15) >> 16`.
//!
//! The draws come from a stream on the CPU; the rest are tensor operations on the images' device. All sums here are
//! integers below 2^24, which single precision holds exactly.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// A jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Blend with black.
    Brightness,
    /// Blend with the rounded grey mean.
    Contrast,
    /// Blend with the grey image.
    Saturation,
}

/// How far each part of the augmentation goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Zeros added on each side before the crop.
    pub padding: i64,
    /// Whether half of the images are mirrored.
    pub flip: bool,
    /// Factors from 1 - b to 1 + b.
    pub brightness: f32,
    /// Factors from 1 - c to 1 + c.
    pub contrast: f32,
    /// Factors from 1 - s to 1 + s.
    pub saturation: f32,
}

impl Recipe {
    /// DeepOBS's for CIFAR-10 and CIFAR-100.
    pub const CIFAR: Recipe =
        Recipe { padding: 2, flip: true, brightness: 63.0 / 255.0, contrast: 0.8, saturation: 0.5 };
    /// DeepOBS's for SVHN: digits are not mirrored.
    pub const SVHN: Recipe = Recipe { flip: false, ..Recipe::CIFAR };
}

/// What was drawn for the images of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    /// The row of the padded image where the crop begins, from 0 to twice the padding.
    pub rows: Vec<i64>,
    /// The column where it begins.
    pub columns: Vec<i64>,
    /// Whether the crop is mirrored.
    pub flips: Vec<bool>,
    /// The jitters of each image, first to last, with their factors.
    pub jitters: Vec<[(Jitter, f32); 3]>,
}

impl Draws {
    /// Draws for `count` images.
    pub fn draw(recipe: &Recipe, count: usize, generator: &mut ChaCha8Rng) -> Self {
        let mut draws =
            Draws { rows: Vec::new(), columns: Vec::new(), flips: Vec::new(), jitters: Vec::with_capacity(count) };
        for _ in 0..count {
            draws.rows.push(generator.random_range(0..=2 * recipe.padding));
            draws.columns.push(generator.random_range(0..=2 * recipe.padding));
            draws.flips.push(recipe.flip && generator.random::<bool>());
            let mut factor = |spread: f32| generator.random_range(1.0 - spread..=1.0 + spread);
            let mut jitters = [
                (Jitter::Brightness, factor(recipe.brightness)),
                (Jitter::Contrast, factor(recipe.contrast)),
                (Jitter::Saturation, factor(recipe.saturation)),
            ];
            jitters.shuffle(generator);
            draws.jitters.push(jitters);
        }
        draws
    }
}

/// Augments images x [N, 3, H, W] Uint8 as drawn; the result has the same shape, in Float, with integers from 0 to 255.
///
/// # Errors
/// [`Error::Shape`] for other shapes or types, or draws for another number of images.
pub fn augment(x: &Tensor, recipe: &Recipe, draws: &Draws) -> Result<Tensor> {
    let (count, size) = (draws.jitters.len() as i64, x.size());
    if x.kind() != Kind::Uint8 || !matches!(size[..], [n, 3, _, _] if n == count) {
        return Err(Error::Shape(format!(
            "augmentation of {:?} of sizes {size:?} with draws for {count}: expected Uint8 [{count}, 3, H, W]",
            x.kind()
        )));
    }
    let mut x = crop(x, recipe.padding, draws)?.f_to_kind(Kind::Float)?;
    let pixels = size[2] * size[3];
    for round in 0..3 {
        x = jitter(&x, pixels, draws, round)?;
    }
    Ok(x)
}

/// Pads, crops and mirrors.
fn crop(x: &Tensor, padding: i64, draws: &Draws) -> Result<Tensor> {
    let size = x.size();
    let padded = x.f_constant_pad_nd([padding; 4])?;
    // A mirrored crop is a crop of the mirrored image from the other side. All images and all mirrored ones stand in
    // one tensor, of which every crop is a view, so that one gather fetches a batch.
    let both = Tensor::f_cat(&[&padded, &padded.f_flip([3])?], 0)?;
    let windows = both.f_unfold(2, size[2], 1)?.f_unfold(3, size[3], 1)?;
    let images: Vec<i64> =
        draws.flips.iter().enumerate().map(|(image, &flip)| image as i64 + if flip { size[0] } else { 0 }).collect();
    let columns: Vec<i64> = draws
        .columns
        .iter()
        .zip(&draws.flips)
        .map(|(&column, &flip)| if flip { 2 * padding - column } else { column })
        .collect();
    let place = |values: &[i64]| Some(Tensor::from_slice(values).to_device(x.device()));
    Ok(windows.f_index(&[place(&images), None, place(&draws.rows), place(&columns)])?)
}

/// The jitter that each image has in this round.
fn jitter(x: &Tensor, pixels: i64, draws: &Draws, round: usize) -> Result<Tensor> {
    let column = |value: &dyn Fn((Jitter, f32)) -> f32| -> Tensor {
        let values: Vec<f32> = draws.jitters.iter().map(|jitters| value(jitters[round])).collect();
        Tensor::from_slice(&values).view([-1, 1, 1, 1]).to_device(x.device())
    };
    let is = |wanted: Jitter| column(&|(jitter, _)| f32::from(u8::from(jitter == wanted)));
    let factor = column(&|(_, factor)| factor);

    let channel = |c: i64| x.f_narrow(1, c, 1);
    let mut grey = channel(0)?.f_mul_scalar(19595.0)?;
    grey = grey.f_add_(&channel(1)?.f_mul_scalar(38470.0)?)?;
    grey = grey.f_add_(&channel(2)?.f_mul_scalar(7471.0)?)?;
    grey = grey.f_add_scalar_(32768.0)?.f_mul_scalar_(1.0 / 65536.0)?.f_floor_()?;
    let mut mean = grey.f_sum_dim_intlist([1i64, 2, 3].as_slice(), true, Kind::Double)?;
    let mean = mean.f_div_scalar_(pixels as f64)?.f_add_scalar_(0.5)?.f_floor_()?.f_to_kind(Kind::Float)?;
    let degenerate = grey.f_mul_(&is(Jitter::Saturation))?.f_add_(&mean.f_mul(&is(Jitter::Contrast))?)?;

    let mut blend = x.f_sub(&degenerate)?.f_mul_(&factor)?.f_add_(&degenerate)?;
    Ok(blend.f_clamp_(0.0, 255.0)?.f_trunc_()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use tch::Device;

    fn images(count: i64) -> Tensor {
        tch::manual_seed(1);
        Tensor::randint(256, [count, 3, 32, 32], (Kind::Uint8, Device::Cpu))
    }

    fn neutral(count: usize) -> Draws {
        let jitters = [(Jitter::Brightness, 1.0), (Jitter::Contrast, 1.0), (Jitter::Saturation, 1.0)];
        Draws {
            rows: vec![2; count],
            columns: vec![2; count],
            flips: vec![false; count],
            jitters: vec![jitters; count],
        }
    }

    #[test]
    fn neutral_draws_change_nothing() {
        let x = images(4);
        let same = augment(&x, &Recipe::CIFAR, &neutral(4)).unwrap();
        assert_eq!(same, x.to_kind(Kind::Float));
    }

    #[test]
    fn crops_and_flips_move_pixels() {
        let x = images(2);
        let draws = Draws { rows: vec![0, 3], columns: vec![4, 1], flips: vec![false, true], ..neutral(2) };
        let got = augment(&x, &Recipe::CIFAR, &draws).unwrap();
        let padded = x.constant_pad_nd([2, 2, 2, 2]).to_kind(Kind::Float);
        let crop = |image: i64, row: i64, column: i64| padded.get(image).narrow(1, row, 32).narrow(2, column, 32);
        assert_eq!(got.get(0), crop(0, 0, 4));
        assert_eq!(got.get(1), crop(1, 3, 1).flip([2]));
    }

    #[test]
    fn draws_cover_their_ranges_and_orders() {
        let draws = Draws::draw(&Recipe::CIFAR, 4000, &mut stream(1, Purpose::Augmentation, 0));
        for offsets in [&draws.rows, &draws.columns] {
            for offset in 0..=4 {
                let share = offsets.iter().filter(|&&o| o == offset).count() as f64 / 4000.0;
                assert!((share - 0.2).abs() < 0.03, "{offset}: {share}");
            }
        }
        let flips = draws.flips.iter().filter(|&&flip| flip).count() as f64 / 4000.0;
        assert!((flips - 0.5).abs() < 0.03, "{flips}");
        let mut orders = std::collections::HashMap::new();
        for jitters in &draws.jitters {
            *orders.entry(format!("{:?}", jitters.map(|(jitter, _)| jitter))).or_insert(0) += 1;
            for (jitter, factor) in jitters {
                let spread = match jitter {
                    Jitter::Brightness => 63.0 / 255.0,
                    Jitter::Contrast => 0.8,
                    Jitter::Saturation => 0.5,
                };
                assert!((factor - 1.0).abs() <= spread + 1e-6, "{jitter:?} {factor}");
            }
        }
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|&count| (count as f64 / 4000.0 - 1.0 / 6.0).abs() < 0.03), "{orders:?}");
        let svhn = Draws::draw(&Recipe::SVHN, 100, &mut stream(1, Purpose::Augmentation, 0));
        assert!(svhn.flips.iter().all(|flip| !flip));
    }

    #[test]
    fn wrong_shapes_are_refused() {
        assert!(augment(&images(3), &Recipe::CIFAR, &neutral(4)).is_err());
        assert!(augment(&images(4).to_kind(Kind::Float), &Recipe::CIFAR, &neutral(4)).is_err());
    }
}
