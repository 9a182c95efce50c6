//! The idx format of MNIST and Fashion-MNIST, plain or gzipped.
//!
//! Four bytes of magic (0, 0, the element type, the number of dimensions), the sizes as big-endian 32-bit integers, then
//! the elements, row-major (the format's description stands on MNIST's page). Only unsigned bytes (type 8) are read.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::Images;
use crate::error::Result;
use crate::problems::data::defect::{MAX_INFLATION, REMEDY, defect, read_up_to};

/// The element type of unsigned bytes.
const UNSIGNED_BYTE: u8 = 8;
/// Images have three dimensions; nothing here needs more than four.
const MAX_DIMENSIONS: usize = 4;

/// An array of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// The sizes, outermost first.
    pub sizes: Vec<usize>,
    /// The elements, row-major.
    pub elements: Vec<u8>,
}

/// Reads an idx array from the bytes of a file; gzip is recognised by its own magic. `path` is for errors.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) on a wrong magic, unreadable gzip data, sizes that the file cannot hold, an early
/// end or bytes left over.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Idx> {
    parse_checked(bytes, path, |_| Ok(()))
}

/// As [`parse`]; `check` sees the sizes before any element is read.
fn parse_checked(bytes: &[u8], path: &Path, check: impl FnOnce(&[usize]) -> Result<()>) -> Result<Idx> {
    if is_gzip(bytes) {
        parse_stream(MultiGzDecoder::new(bytes), bytes.len().saturating_mul(MAX_INFLATION), path, check)
    } else {
        parse_stream(bytes, bytes.len(), path, check)
    }
}

/// Whether a file that begins with these bytes is gzipped.
pub(crate) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// A stream and how much of it was read.
struct Reader<'a, R> {
    stream: R,
    offset: usize,
    path: &'a Path,
}

impl<R: Read> Reader<'_, R> {
    /// Up to `wanted` bytes; fewer where the file ends.
    fn up_to(&mut self, wanted: usize, what: &str) -> Result<Vec<u8>> {
        let (bytes, outcome) = read_up_to(&mut self.stream, wanted, 1 << 26);
        self.offset += bytes.len();
        match outcome {
            Ok(()) => Ok(bytes),
            Err(error) => {
                let found = format!("unreadable gzip data ({error})");
                Err(defect(self.path, self.offset, found, format!("{wanted} bytes of {what}"), REMEDY))
            }
        }
    }

    /// `wanted` bytes.
    fn exactly(&mut self, wanted: usize, what: &str) -> Result<Vec<u8>> {
        let bytes = self.up_to(wanted, what)?;
        if bytes.len() == wanted {
            return Ok(bytes);
        }
        let found = format!("the end of the file, after {} bytes of {what}", bytes.len());
        Err(defect(self.path, self.offset, found, format!("{wanted} bytes of {what}"), REMEDY))
    }
}

/// Reads from `stream`, which cannot hold more than `limit` bytes.
fn parse_stream(
    stream: impl Read,
    limit: usize,
    path: &Path,
    check: impl FnOnce(&[usize]) -> Result<()>,
) -> Result<Idx> {
    let mut reader = Reader { stream, offset: 0, path };
    let magic = reader.exactly(4, "magic number")?;
    let dimensions = usize::from(magic[3]);
    if magic[..3] != [0, 0, UNSIGNED_BYTE] || dimensions == 0 || dimensions > MAX_DIMENSIONS {
        let found = format!("magic number {}", u32::from_be_bytes([magic[0], magic[1], magic[2], magic[3]]));
        let expected = "an idx array of unsigned bytes (2051 for images, 2049 for labels)";
        return Err(defect(path, 0, found, expected, REMEDY));
    }
    let header = reader.exactly(4 * dimensions, "sizes")?;
    let sizes: Vec<usize> =
        header.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    check(&sizes)?;
    let count = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let Some(count) = count.filter(|&count| count <= limit) else {
        let found = format!("sizes {sizes:?}");
        return Err(defect(
            path,
            4,
            found,
            format!("an array that this file can hold (at most {limit} bytes)"),
            REMEDY,
        ));
    };
    let elements = reader.exactly(count, "elements")?;
    // Reading on to the end also has the gzip decoder compare its checksum.
    let end = reader.offset;
    if !reader.up_to(1, "nothing more")?.is_empty() {
        return Err(defect(path, end, "more bytes", format!("the end of the file after sizes {sizes:?}"), REMEDY));
    }
    Ok(Idx { sizes, elements })
}

/// What a pair of idx files must hold.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Height and width of an image.
    pub size: [usize; 2],
    /// Labels are below this.
    pub classes: u8,
    /// How many images, where that is known.
    pub count: Option<usize>,
}

/// Reads images and their labels from the bytes of two files.
///
/// # Errors
/// As [`parse`], and where counts, image size or labels are not what is expected.
pub fn parse_images(images: (&[u8], &Path), labels: (&[u8], &Path), expected: Expected) -> Result<Images> {
    let ([height, width], classes) = (expected.size, expected.classes);
    let found = |sizes: &[usize]| format!("an array of sizes {sizes:?}");
    let pixels = parse_checked(images.0, images.1, |sizes| match (sizes, expected.count) {
        ([count, h, w], Some(wanted)) if [*h, *w] == expected.size && *count != wanted => {
            Err(defect(images.1, 4, format!("{count} images"), format!("{wanted}"), REMEDY))
        }
        ([_, h, w], _) if [*h, *w] == expected.size => Ok(()),
        _ => Err(defect(images.1, 4, found(sizes), format!("images: sizes [n, {height}, {width}]"), REMEDY)),
    })?;
    let count = pixels.sizes[0];
    let classes_of = parse_checked(labels.0, labels.1, |sizes| match sizes {
        [labels] if *labels == count => Ok(()),
        _ => {
            let wanted = format!("one label for each of the {count} images in {}", images.1.display());
            Err(defect(labels.1, 4, found(sizes), wanted, REMEDY))
        }
    })?;
    if let Some(place) = classes_of.elements.iter().position(|&label| label >= classes) {
        let label = classes_of.elements[place];
        let wanted = format!("a class from 0 to {}", classes - 1);
        return Err(defect(labels.1, 8 + place, format!("label {label}"), wanted, REMEDY));
    }
    Ok(Images { shape: [1, height, width], pixels: pixels.elements, labels: classes_of.elements })
}
