//! A user's own data set: a safetensors file with `x` and `y` `[n, ...]`, and perhaps `x_test`, `y_test`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors};

use crate::error::{IoContext, Result};
use crate::problems::data::defect::{defect, read_up_to};
use crate::{files, tensor_head};

const REMEDY: &str = "Write the file again, with tensors x, y and, for testing, x_test, y_test";
/// A label beyond this is a mistake, not a class.
const MAX_CLASSES: i64 = 1 << 20;
/// Targets are read in pieces of so many bytes, a multiple of every element's.
const PIECE: usize = 1 << 16;

/// A tensor of the file: its type, shape, and where its bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The element type.
    pub dtype: Dtype,
    /// The sizes.
    pub shape: Vec<usize>,
    /// The bytes' first place in the file.
    pub start: usize,
    /// The place after the last.
    pub end: usize,
}

/// What targets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Integers: so many classes, one more than the largest label.
    Classes(usize),
    /// Floats.
    Values,
}

impl Targets {
    /// How many classes, where there are any.
    pub fn classes(self) -> Option<usize> {
        match self {
            Targets::Classes(classes) => Some(classes),
            Targets::Values => None,
        }
    }
}

impl Stored {
    /// Whether its elements are integers.
    pub fn is_integer(&self) -> bool {
        integer_width(self.dtype).is_some()
    }
}

/// Samples and targets of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// [n, ...]
    pub x: Stored,
    /// `[n, ...]`: integers or floats.
    pub y: Stored,
}

/// The tensors of a user's file, checked against each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFile {
    /// `x` and `y`.
    pub train: Half,
    /// `x_test` and `y_test`, where the file holds them.
    pub test: Option<Half>,
    /// What `y` and `y_test` are.
    pub targets: Targets,
    /// The shape of one sample's; one float is a row of one.
    pub target_shape: Vec<i64>,
}

/// Checks the bytes of a file and says where its tensors lie. `path` is for errors.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) on a broken file, missing tensors, types or shapes that do not fit, and labels
/// that are no classes.
pub fn parse(bytes: &[u8], path: &Path) -> Result<UserFile> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| {
        defect(path, 0, format!("unreadable safetensors ({error})"), "a whole safetensors file", REMEDY)
    })?;
    layout(&metadata, 8 + header, path, |stored| Ok(&bytes[stored.start..stored.end]))
}

/// As [`parse`], but reads only the header and the targets from the file.
///
/// # Errors
/// As [`parse`], and [`Error::Io`](crate::Error::Io).
pub fn read_layout(path: &Path) -> Result<UserFile> {
    let (file, metadata, start) = read_header(path)?;
    layout(&metadata, start, path, |stored| {
        (&file).seek(SeekFrom::Start(stored.start as u64)).at("reading", path)?;
        Ok((&file).take((stored.end - stored.start) as u64))
    })
}

/// Opens a file and reads what precedes its tensors, which must fit the file's size.
pub(crate) fn read_header(path: &Path) -> Result<(File, Metadata, usize)> {
    let mut file = files::open(path).at("opening the data set", path)?;
    let length = file.metadata().at("reading", path)?.len();
    let (metadata, start) = tensor_head::read(&mut file, length).at("reading", path)?.map_err(|what| {
        defect(path, 0, format!("unreadable safetensors ({what})"), "a whole safetensors file", REMEDY)
    })?;
    Ok((file, metadata, start))
}

fn layout<R: Read>(
    metadata: &Metadata,
    data: usize,
    path: &Path,
    bytes_of: impl Fn(&Stored) -> Result<R>,
) -> Result<UserFile> {
    let find = |name: &str| {
        metadata.info(name).map(|info| Stored {
            dtype: info.dtype,
            shape: info.shape.clone(),
            start: data + info.data_offsets.0,
            end: data + info.data_offsets.1,
        })
    };
    let names = || {
        let mut names = metadata.offset_keys();
        names.truncate(20);
        format!("the tensors [{}]", names.join(", "))
    };
    let half = |x: &str, y: &str| match (find(x), find(y)) {
        (Some(x), Some(y)) => Ok(Some(Half { x, y })),
        (None, None) => Ok(None),
        _ => Err(defect(path, 8, names(), format!("both {x} and {y}"), REMEDY)),
    };
    let Some(train) = half("x", "y")? else {
        return Err(defect(path, 8, names(), "x and y", REMEDY));
    };
    let test = half("x_test", "y_test")?;
    let mut targets = check(&train, ("x", "y"), path, bytes_of(&train.y)?)?;
    if train.x.shape[0] < 2 {
        return Err(defect(path, 8, "one sample in x", "at least two", REMEDY));
    }
    if let Some(test) = &test {
        if test.x.shape[1..] != train.x.shape[1..] || test.x.dtype != train.x.dtype {
            let found = format!("x_test {:?} of sizes {:?}", test.x.dtype, test.x.shape);
            let expected = format!("samples as in x, {:?} of sizes [n, {:?}]", train.x.dtype, &train.x.shape[1..]);
            return Err(defect(path, test.x.start, found, expected, REMEDY));
        }
        let of_test = check(test, ("x_test", "y_test"), path, bytes_of(&test.y)?)?;
        targets = match (targets, of_test, target_shape(&train, targets) == target_shape(test, of_test)) {
            (Targets::Classes(one), Targets::Classes(other), true) => Targets::Classes(one.max(other)),
            (Targets::Values, Targets::Values, true) => Targets::Values,
            _ => {
                let found = format!("y_test {:?} of sizes {:?}", test.y.dtype, test.y.shape);
                let expected = format!("targets as in y, {:?} of sizes {:?}", train.y.dtype, train.y.shape);
                return Err(defect(path, test.y.start, found, expected, REMEDY));
            }
        };
    }
    let target_shape = target_shape(&train, targets);
    Ok(UserFile { train, test, targets, target_shape })
}

/// The shape of one sample's targets.
fn target_shape(half: &Half, targets: Targets) -> Vec<i64> {
    match &half.y.shape[1..] {
        [] if targets == Targets::Values => vec![1],
        shape => shape.iter().map(|&size| size as i64).collect(),
    }
}

fn check(half: &Half, (x, y): (&str, &str), path: &Path, mut targets: impl Read) -> Result<Targets> {
    let describe = |name: &str, stored: &Stored| format!("{name} {:?} of sizes {:?}", stored.dtype, stored.shape);
    let samples = &half.x;
    if !is_float(samples.dtype) && integer_width(samples.dtype).is_none() {
        let expected = "U8 (divided by 255), F32, F64, F16, BF16, I8, I16, I32 or I64";
        return Err(defect(path, samples.start, describe(x, samples), expected, REMEDY));
    }
    if samples.shape.len() < 2 || samples.shape.contains(&0) {
        return Err(defect(path, samples.start, describe(x, samples), "sizes [n, ...], none of them 0", REMEDY));
    }
    let n = samples.shape[0];
    if half.y.shape.first() != Some(&n) || half.y.shape.contains(&0) {
        let expected = format!("[{n}, ..] integer classes or floats, for each sample in {x}");
        return Err(defect(path, half.y.start, describe(y, &half.y), expected, REMEDY));
    }
    if is_float(half.y.dtype) {
        return Ok(Targets::Values);
    }
    let Some(bytes) = integer_width(half.y.dtype) else {
        let expected = format!("[{n}, ..] integer classes or floats");
        return Err(defect(path, half.y.start, describe(y, &half.y), expected, REMEDY));
    };
    let labels = half.y.shape.iter().product::<usize>();
    let mut largest = 0;
    let mut place = half.y.start;
    each_integer(&mut targets, (half.y.dtype, bytes), path, |label| {
        if !(0..MAX_CLASSES).contains(&label) {
            return Err(defect(path, place, format!("label {label} in {y}"), "a class counted from 0", REMEDY));
        }
        largest = largest.max(label);
        place += bytes;
        Ok(())
    })?;
    if place != half.y.end {
        let found = format!("the end of the file, {} bytes into {y}", place - half.y.start);
        return Err(defect(path, place, found, format!("{labels} labels"), REMEDY));
    }
    Ok(Targets::Classes(largest as usize + 1))
}

/// Reads integers, each of so many bytes, to the stream's end.
fn each_integer(
    stream: &mut impl Read,
    (dtype, bytes): (Dtype, usize),
    path: &Path,
    mut take: impl FnMut(i64) -> Result<()>,
) -> Result<()> {
    loop {
        let (piece, outcome) = read_up_to(stream, PIECE, PIECE);
        outcome.at("reading", path)?;
        if piece.is_empty() {
            return Ok(());
        }
        piece.chunks_exact(bytes).try_for_each(|one| take(integer(one, dtype != Dtype::U8)))?;
    }
}

/// The least and the largest of the integers in `x` and `x_test`.
///
/// # Errors
/// As [`read_layout`]; where `x` holds floats.
pub fn integers_of(path: &Path) -> Result<(i64, i64)> {
    let layout = read_layout(path)?;
    let file = files::open(path).at("opening the data set", path)?;
    let mut range = (i64::MAX, i64::MIN);
    for half in std::iter::once(&layout.train).chain(&layout.test) {
        let stored = &half.x;
        let Some(bytes) = integer_width(stored.dtype) else {
            let found = format!("x {:?} of sizes {:?}", stored.dtype, stored.shape);
            return Err(defect(path, stored.start, found, "integers, which the network takes", REMEDY));
        };
        (&file).seek(SeekFrom::Start(stored.start as u64)).at("reading", path)?;
        let mut stream = (&file).take((stored.end - stored.start) as u64);
        each_integer(&mut stream, (stored.dtype, bytes), path, |value| {
            range = (range.0.min(value), range.1.max(value));
            Ok(())
        })?;
    }
    Ok(range)
}

fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}

fn integer_width(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::U8 | Dtype::I8 => Some(1),
        Dtype::I16 => Some(2),
        Dtype::I32 => Some(4),
        Dtype::I64 => Some(8),
        _ => None,
    }
}

/// A little-endian integer of one to eight bytes.
fn integer(bytes: &[u8], signed: bool) -> i64 {
    let negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut word = [if negative { 0xff } else { 0 }; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(word)
}
