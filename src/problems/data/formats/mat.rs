//! Numeric arrays of MATLAB's level 5 MAT-files, of which SVHN is made.
//!
//! A header of 128 bytes, then elements of a type, a size and data ("MAT-File Format", The MathWorks, chapter 1). A
//! matrix holds its flags, dimensions, name and elements as such elements again; a compressed element is a zlib stream
//! of one matrix. The crate `matfile` reads this too, and the tests compare with it; but it inflates without a bound,
//! follows compressed elements in compressed elements, prints to stdout and cannot say at which byte a file is broken,
//! so it is not handed files that may be damaged.

use std::path::Path;

use flate2::read::ZlibDecoder;

use crate::error::Result;
use crate::problems::data::defect::{MAX_INFLATION, REMEDY, defect, read_up_to};

const HEADER: usize = 128;
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
/// The array classes double (6) to uint64 (15) are numeric.
const NUMERIC: std::ops::RangeInclusive<u8> = 6..=15;
/// The arrays that are inflated of one file have at most so many bytes together; SVHN's come to a quarter of it.
const MAX_ARRAYS: usize = 1 << 30;
/// What precedes the elements of an array is shorter than this, its name included.
const MAX_HEAD: usize = 1 << 12;

/// A numeric array, its elements as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// The variable's name.
    pub name: String,
    /// The sizes; the first index varies fastest.
    pub sizes: Vec<usize>,
    /// How the elements are stored.
    pub storage: Storage,
    /// The elements, little-endian.
    pub bytes: Vec<u8>,
    /// Where the variable begins in the file.
    pub offset: usize,
}

/// How elements are stored, which need not be the class that MATLAB shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// 8 bits, signed.
    I8,
    /// 8 bits, unsigned.
    U8,
    /// 16 bits, signed.
    I16,
    /// 16 bits, unsigned.
    U16,
    /// 32 bits, signed.
    I32,
    /// 32 bits, unsigned.
    U32,
    /// IEEE single.
    F32,
    /// IEEE double.
    F64,
}

impl Storage {
    fn from_type(kind: u32) -> Option<Self> {
        Some(match kind {
            INT8 => Storage::I8,
            UINT8 => Storage::U8,
            3 => Storage::I16,
            4 => Storage::U16,
            INT32 => Storage::I32,
            UINT32 => Storage::U32,
            7 => Storage::F32,
            9 => Storage::F64,
            _ => return None,
        })
    }

    /// The bytes of one element.
    pub fn width(self) -> usize {
        match self {
            Storage::I8 | Storage::U8 => 1,
            Storage::I16 | Storage::U16 => 2,
            Storage::I32 | Storage::U32 | Storage::F32 => 4,
            Storage::F64 => 8,
        }
    }

    /// One element, from its bytes, as a double.
    fn value(self, bytes: &[u8]) -> f64 {
        let wide = |signed: bool| {
            let fill = if signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
            let mut word = [fill; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            i64::from_le_bytes(word) as f64
        };
        match self {
            Storage::U8 | Storage::U16 | Storage::U32 => wide(false),
            Storage::I8 | Storage::I16 | Storage::I32 => wide(true),
            Storage::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into(),
            Storage::F64 => f64::from_bits(u64::from_le_bytes(bytes.try_into().unwrap_or_default())),
        }
    }
}

impl Array {
    /// The elements as doubles.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.bytes.chunks_exact(self.storage.width()).map(|bytes| self.storage.value(bytes))
    }
}

/// A part of the file (or of an inflated variable), read from the front.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The place of byte 0 in the file; inside a compressed variable, that variable's.
    base: usize,
    inflated: bool,
    path: &'a Path,
}

impl<'a> Cursor<'a> {
    fn fail<T>(&self, found: impl Into<String>, expected: impl Into<String>) -> Result<T> {
        let found = found.into();
        let (offset, found) = if self.inflated {
            (self.base, format!("{found} (byte {} of the inflated variable)", self.at))
        } else {
            (self.base + self.at, found)
        };
        Err(defect(self.path, offset, found, expected, REMEDY))
    }

    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if rest.len() < count {
            return self.fail(format!("the end, {} bytes on", rest.len()), format!("{count} bytes of {what}"));
        }
        self.at += count;
        Ok(&rest[..count])
    }

    fn word(&mut self, what: &str) -> Result<u32> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// The type and the size of the next element, whose data follow. A small element has both in one word, and its data in
    /// the next.
    fn tag(&mut self, what: &str) -> Result<(u32, usize)> {
        let first = self.word(what)?;
        if first >> 16 == 0 {
            return Ok((first, self.word(what)? as usize));
        }
        let (kind, size) = (first & 0xffff, (first >> 16) as usize);
        if size > 4 {
            self.at -= 4;
            return self.fail(format!("a small element of {size} bytes"), "at most 4");
        }
        Ok((kind, size))
    }

    /// The next element: its type and data, the padding skipped.
    fn element(&mut self, what: &str) -> Result<(u32, &'a [u8])> {
        let start = self.at;
        let (kind, size) = self.tag(what)?;
        let small = self.at - start == 4;
        let data = self.take(size, what)?;
        let padding = if small { 4 - size } else { (8 - size % 8) % 8 };
        if kind != COMPRESSED {
            self.at = (self.at + padding).min(self.bytes.len());
        }
        Ok((kind, data))
    }
}

/// What is known of a numeric array before its elements are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The variable's name.
    pub name: String,
    /// The sizes; the first index varies fastest.
    pub sizes: Vec<usize>,
    /// How the elements are stored.
    pub storage: Storage,
    /// Where the variable begins in the file.
    pub offset: usize,
    /// Where its elements begin in the matrix's inside, and how many bytes they are.
    elements: (usize, usize),
}

/// Reads the numeric arrays of a MAT-file; other variables are passed over. `path` is for errors.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) on a wrong header, an early end, an element that is not what it says, or
/// unreadable zlib data.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Array>> {
    parse_wanted(bytes, path, |_| Ok(true))
}

/// As [`parse`], but `want` sees each array's header first: what it does not want is not inflated, and where it fails
/// nothing more is read.
///
/// # Errors
/// As [`parse`], and those of `want`.
pub fn parse_wanted(bytes: &[u8], path: &Path, mut want: impl FnMut(&Header) -> Result<bool>) -> Result<Vec<Array>> {
    let mut file = Cursor { bytes, at: 0, base: 0, inflated: false, path };
    let header = file.take(HEADER, "the header")?;
    if header[124..] != [0x00, 0x01, b'I', b'M'] {
        file.at = 124;
        return file
            .fail(format!("version and byte order {:?}", &header[124..]), "a little-endian MAT-file of level 5");
    }
    let mut arrays = Vec::new();
    let mut room = MAX_ARRAYS;
    while file.at < bytes.len() {
        let offset = file.at;
        let (kind, data) = file.element("a variable")?;
        let variable = match kind {
            MATRIX => Variable { bytes: data, base: offset + 8, packed: None, path, offset },
            COMPRESSED => Variable { bytes: &[], base: offset, packed: Some(data), path, offset },
            _ => {
                file.at = offset;
                return file.fail(format!("an element of type {kind}"), "a variable (type 14 or 15)");
            }
        };
        arrays.extend(variable.read(&mut room, &mut want)?);
    }
    Ok(arrays)
}

/// A variable of the file.
struct Variable<'a> {
    /// A matrix's inside.
    bytes: &'a [u8],
    base: usize,
    /// Or what it is inflated from.
    packed: Option<&'a [u8]>,
    path: &'a Path,
    offset: usize,
}

impl Variable<'_> {
    /// The array, where it is one and is wanted; `room` is what all arrays together may still take.
    fn read(&self, room: &mut usize, want: &mut impl FnMut(&Header) -> Result<bool>) -> Result<Option<Array>> {
        let refuse = |header: &Header, room: usize| {
            let found = format!("{} of sizes {:?}, {} bytes", header.name, header.sizes, header.elements.1);
            defect(self.path, self.offset, found, format!("at most {room} bytes"), REMEDY)
        };
        let Some(packed) = self.packed else {
            let inside = Cursor { bytes: self.bytes, at: 0, base: self.base, inflated: false, path: self.path };
            let Some(header) = matrix(inside, self.bytes.len(), self.offset)? else { return Ok(None) };
            if !want(&header)? {
                return Ok(None);
            }
            let (start, length) = header.elements;
            return Ok(Some(array(header, self.bytes[start..start + length].to_vec())));
        };
        let mut stream = Inflated { stream: ZlibDecoder::new(packed), path: self.path, offset: self.offset, read: 0 };
        // An element's tag, then the matrix's inside up to its elements.
        let head = stream.up_to(MAX_HEAD)?;
        let mut variable = Cursor { bytes: &head, at: 0, base: self.offset, inflated: true, path: self.path };
        let (kind, size) = variable.tag("a variable")?;
        if kind != MATRIX {
            return variable.fail(format!("an element of type {kind}"), "a matrix (type 14)");
        }
        let inside = Cursor { bytes: &head[variable.at..], at: 0, ..variable };
        let Some(header) = matrix(inside, size, self.offset)? else { return Ok(None) };
        if !want(&header)? {
            return Ok(None);
        }
        let (start, length) = header.elements;
        let limit = (*room).min(packed.len().saturating_mul(MAX_INFLATION));
        if length > limit {
            return Err(refuse(&header, limit));
        }
        *room -= length;
        let start = variable.at + start;
        let mut elements = head[start.min(head.len())..(start + length).min(head.len())].to_vec();
        let missing = length - elements.len();
        elements.extend(stream.up_to(missing)?);
        if elements.len() < length {
            let found = format!("the end of the variable after {} bytes of elements", elements.len());
            return Err(defect(self.path, self.offset, found, format!("{length} bytes"), REMEDY));
        }
        // What pads the elements; its end has the checksum compared.
        stream.up_to(MAX_HEAD)?;
        Ok(Some(array(header, elements)))
    }
}

fn array(header: Header, bytes: Vec<u8>) -> Array {
    let Header { name, sizes, storage, offset, .. } = header;
    Array { name, sizes, storage, bytes, offset }
}

/// A compressed variable as it is inflated, from the front.
struct Inflated<'a> {
    stream: ZlibDecoder<&'a [u8]>,
    path: &'a Path,
    offset: usize,
    read: usize,
}

impl Inflated<'_> {
    /// So many bytes, fewer where it ends.
    fn up_to(&mut self, wanted: usize) -> Result<Vec<u8>> {
        let (bytes, outcome) = read_up_to(&mut self.stream, wanted, 1 << 26);
        self.read += bytes.len();
        match outcome {
            Ok(()) => Ok(bytes),
            Err(error) => {
                let found = format!("unreadable zlib data ({error}) after {} bytes", self.read);
                Err(defect(self.path, self.offset, found, "a compressed variable", REMEDY))
            }
        }
    }
}

/// Reads a matrix's inside of `size` bytes up to its elements; `None` for what is not a plain numeric array.
fn matrix(mut inside: Cursor, size: usize, offset: usize) -> Result<Option<Header>> {
    let (kind, flags) = inside.element("array flags")?;
    if kind != UINT32 || flags.len() != 8 {
        return inside.fail(format!("{} bytes of type {kind}", flags.len()), "8 bytes of array flags (type 6)");
    }
    let (class, complex) = (flags[0], flags[1] & 0x08 != 0);
    if !NUMERIC.contains(&class) || complex {
        return Ok(None);
    }
    let (kind, sizes) = inside.element("dimensions")?;
    if kind != INT32 || sizes.len() < 8 || sizes.len() % 4 != 0 || sizes.len() > 4 * 32 {
        return inside.fail(format!("{} bytes of type {kind}", sizes.len()), "dimensions as 32-bit integers (type 5)");
    }
    let sizes: Vec<i32> = sizes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let (kind, name) = inside.element("the name")?;
    if kind != INT8 {
        return inside.fail(format!("an element of type {kind}"), "the variable's name (type 1)");
    }
    let name = String::from_utf8_lossy(name).into_owned();
    let (kind, length) = inside.tag("the elements")?;
    let Some(storage) = Storage::from_type(kind) else {
        return inside.fail(format!("elements of type {kind}"), "numbers of 8, 16 or 32 bits, or doubles");
    };
    let count = sizes.iter().try_fold(storage.width(), |product, &size| {
        usize::try_from(size).ok().and_then(|size| product.checked_mul(size))
    });
    if count != Some(length) {
        let found = format!("{length} bytes of elements for dimensions {sizes:?}");
        return inside.fail(found, format!("as many as the dimensions say, {} bytes each", storage.width()));
    }
    if size.saturating_sub(inside.at) < length {
        let found = format!("the end, {} bytes on", size.saturating_sub(inside.at));
        return inside.fail(found, format!("{length} bytes of the elements"));
    }
    let sizes = sizes.into_iter().map(|size| size as usize).collect();
    Ok(Some(Header { name, sizes, storage, offset, elements: (inside.at, length) }))
}
