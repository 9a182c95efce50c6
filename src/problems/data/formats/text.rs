//! A text whose next character is to be predicted: a UTF-8 file, cut into windows that do not overlap.
//!
//! A window holds `context + 1` characters: all but the last are a sample, all but the first its labels. Characters are
//! numbered in the order of their code points. The last tenth of the windows is for testing; what does not fill a window
//! at the end is left out.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Error, Result};
use crate::problems::data::defect::{defect, read_file};

const REMEDY: &str = "Save the text as UTF-8, or take another file or a shorter context";
/// One window in so many is for testing.
const TESTED: usize = 10;

/// A text as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The different characters, by code point.
    pub vocabulary: Vec<char>,
    /// The number of each character in the vocabulary, window after window.
    pub numbers: Vec<i32>,
    /// Characters of a sample.
    pub context: usize,
    /// Windows for training and validation.
    pub train: usize,
    /// Windows for testing.
    pub test: usize,
}

/// Reads a file.
///
/// # Errors
/// [`Error::MissingData`] where there is none; else as [`parse`], and [`Error::Io`].
pub fn read(path: &Path, context: usize) -> Result<Text> {
    parse(&bytes(path, context)?, path, context)
}

/// The bytes of a file.
///
/// # Errors
/// [`Error::MissingData`] where there is none, and [`Error::Io`].
pub(crate) fn bytes(path: &Path, context: usize) -> Result<Vec<u8>> {
    check_there(path, context)?;
    read_file(path)
}

/// Checks that a file is there.
///
/// # Errors
/// [`Error::MissingData`] that says how to name another.
pub(crate) fn check_there(path: &Path, context: usize) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    Err(Error::MissingData(format!(
        "the text {} is not there: name a UTF-8 file by the key `dataset = {{ text = \"FILE\", context = {context} }}`",
        path.display()
    )))
}

/// Numbers the characters of a text; `path` is for errors.
///
/// # Errors
/// [`Error::Data`] where the bytes are not UTF-8, or fill fewer than three windows.
pub fn parse(bytes: &[u8], path: &Path, context: usize) -> Result<Text> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let place = error.valid_up_to();
        defect(path, place, format!("the byte {:#04x}", bytes[place]), "UTF-8", REMEDY)
    })?;
    let vocabulary: Vec<char> = text.chars().collect::<BTreeSet<char>>().into_iter().collect();
    let characters = text.chars().count();
    let windows = characters / (context + 1);
    if windows < 3 {
        let found = format!("{characters} characters, {windows} windows of {} of them", context + 1);
        return Err(defect(path, bytes.len(), found, "at least three windows", REMEDY));
    }
    let number = |character: char| vocabulary.binary_search(&character).unwrap_or_default() as i32;
    let numbers = text.chars().take(windows * (context + 1)).map(number).collect();
    let test = (windows / TESTED).max(1);
    Ok(Text { vocabulary, numbers, context, train: windows - test, test })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_numbered_by_code_point_and_windows_do_not_overlap() {
        let text = parse("böac\nböac\nböac\nbö".as_bytes(), Path::new("t.txt"), 3).unwrap();
        assert_eq!(text.vocabulary, ['\n', 'a', 'b', 'c', 'ö']);
        assert_eq!(text.numbers, [2, 4, 1, 3, 0, 2, 4, 1, 3, 0, 2, 4, 1, 3, 0, 2], "one character of 17 is left out");
        assert_eq!((text.train, text.test), (3, 1));
        let long = parse("ab".repeat(100).as_bytes(), Path::new("t.txt"), 1).unwrap();
        assert_eq!((long.train, long.test), (90, 10));
    }

    #[test]
    fn what_is_no_text_or_too_short_is_refused_with_its_place() {
        let refuse = |bytes: &[u8]| match parse(bytes, Path::new("t.txt"), 3) {
            Err(Error::Data { offset, .. }) => offset,
            other => panic!("{other:?}"),
        };
        assert_eq!(refuse(b"abc\xffdefghijklmnop"), 3);
        assert_eq!(refuse(b"abcdefghijk"), 11);
        assert_eq!(refuse(b""), 0);
        assert_eq!(read(Path::new("/nowhere/t.txt"), 3).unwrap_err().exit_code(), 3);
    }
}
