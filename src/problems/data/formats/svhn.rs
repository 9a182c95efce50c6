//! The cropped digits of SVHN (train_32x32.mat, test_32x32.mat): X [32, 32, 3, n] bytes, y [n, 1] with 10 for zero.

use std::path::Path;

use super::Images;
use super::mat::{self, Array, Header, Storage};
use crate::error::Result;
use crate::problems::data::defect::{REMEDY, defect};

/// [channels, height, width].
pub const SHAPE: [usize; 3] = [3, 32, 32];
/// The bytes of an image.
const IMAGE: usize = 3 * 32 * 32;

/// Reads one file's images; `count` is how many there must be, where that is known; `path` is for errors.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) as [`mat::parse`], and on missing variables, wrong sizes, counts or labels.
pub fn parse(bytes: &[u8], path: &Path, count: Option<usize>) -> Result<Images> {
    let mut seen = [false; 2];
    let arrays = mat::parse_wanted(bytes, path, |header| {
        let Some(place) = ["X", "y"].iter().position(|name| *name == header.name) else { return Ok(false) };
        if std::mem::replace(&mut seen[place], true) {
            return Ok(false);
        }
        match (place, &header.sizes[..], count) {
            (0, ..) => check_images(header, count, path).map(|()| true),
            (_, sizes, Some(count)) => check_labels(sizes, count, header.offset, path).map(|()| true),
            _ => Ok(true),
        }
    })?;
    let find = |name: &str| -> Result<&Array> {
        arrays.iter().find(|array| array.name == name).ok_or_else(|| {
            let names: Vec<_> = arrays.iter().map(|array| array.name.as_str()).collect();
            let found = format!("the variables [{}]", names.join(", "));
            defect(path, bytes.len(), found, format!("a numeric variable {name}"), REMEDY)
        })
    };
    let (x, y) = (find("X")?, find("y")?);
    let n = x.bytes.len() / IMAGE;
    check_labels(&y.sizes, n, y.offset, path)?;
    let mut labels = Vec::with_capacity(n);
    for (place, value) in y.values().enumerate() {
        match (1..=10u8).find(|&label| f64::from(label) == value) {
            Some(label) => labels.push(label % 10),
            None => {
                let found = format!("label {value} of image {place}");
                return Err(defect(path, y.offset, found, "a label from 1 to 10", REMEDY));
            }
        }
    }
    // The file holds each channel column after column.
    let mut pixels = vec![0; x.bytes.len()];
    for (from, to) in x.bytes.chunks_exact(1024).zip(pixels.chunks_exact_mut(1024)) {
        for (row, to) in to.chunks_exact_mut(32).enumerate() {
            for (column, to) in to.iter_mut().enumerate() {
                *to = from[column * 32 + row];
            }
        }
    }
    Ok(Images { shape: SHAPE, pixels, labels })
}

fn check_images(x: &Header, count: Option<usize>, path: &Path) -> Result<()> {
    let n = match x.sizes[..] {
        [32, 32, 3, n] if x.storage == Storage::U8 => n,
        // MATLAB drops a last dimension of one.
        [32, 32, 3] if x.storage == Storage::U8 => 1,
        _ => {
            let found = format!("X of sizes {:?} stored as {:?}", x.sizes, x.storage);
            return Err(defect(path, x.offset, found, "bytes of sizes [32, 32, 3, n]", REMEDY));
        }
    };
    match count {
        Some(count) if count != n => Err(defect(path, x.offset, format!("{n} images"), count.to_string(), REMEDY)),
        _ => Ok(()),
    }
}

fn check_labels(sizes: &[usize], n: usize, offset: usize, path: &Path) -> Result<()> {
    if sizes.iter().product::<usize>() == n && sizes.contains(&n) {
        return Ok(());
    }
    Err(defect(path, offset, format!("y of sizes {sizes:?}"), format!("sizes [{n}, 1]"), REMEDY))
}
