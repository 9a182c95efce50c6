//! Errors about the content of a data file, and reading with limits that such a file cannot raise.

use std::io::Read;
use std::path::Path;

use crate::error::{Error, IoContext, Result};
use crate::files;

/// What to do about a damaged file of a published data set.
pub(crate) const REMEDY: &str = "The file is damaged or not the published one: delete it and get it again with \
                                 `backpack-run data fetch NAME`";

/// No compressed file of deflate's format grows by more than this factor.
pub(crate) const MAX_INFLATION: usize = 1032;

/// The error about byte `offset` of the (decompressed) file `path`.
pub(crate) fn defect(
    path: &Path,
    offset: usize,
    found: impl Into<String>,
    expected: impl Into<String>,
    remedy: &str,
) -> Error {
    Error::Data {
        path: path.to_owned(),
        offset: offset as u64,
        found: found.into(),
        expected: expected.into(),
        remedy: remedy.to_owned(),
    }
}

/// Reads up to `wanted` bytes: what was read (less where the stream ends or fails), and whether it failed. Memory grows
/// with what is really there, never with what was asked for beyond `reserve`.
pub(crate) fn read_up_to(stream: &mut impl Read, wanted: usize, reserve: usize) -> (Vec<u8>, std::io::Result<()>) {
    let mut bytes = Vec::with_capacity(wanted.min(reserve));
    let outcome = stream.take(wanted as u64).read_to_end(&mut bytes).map(|_| ());
    (bytes, outcome)
}

/// The bytes of a file, with the file's name in the error.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    files::read(path).map_err(|source| Error::io("reading", path, source))
}

/// As [`read_file`], of a file that has at most `most` bytes, however it is packed.
pub(crate) fn read_small_file(path: &Path, most: usize) -> Result<Vec<u8>> {
    let length = std::fs::metadata(path).at("reading", path)?.len();
    if length > most as u64 {
        let expected = format!("at most {most} bytes, which is more than the published file has");
        return Err(defect(path, most, format!("a file of {length} bytes"), expected, REMEDY));
    }
    read_file(path)
}
