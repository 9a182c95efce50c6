//! A value of a TOML text with its key and its place, read as what it should be.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;

use super::source::{Origin, Place, Source};
use super::table::Table;
use crate::error::{Error, Result};
use crate::files;
use crate::numbers::{self, MAX_SIZE};
use crate::suggest;

/// A value, its key, and where both stand.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    pub(super) source: &'a Arc<Source>,
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Item<'a> {
    /// The key as written, for messages.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where the value stands.
    pub fn place(&self) -> Place {
        Place::new(self.source, self.value.span())
    }

    /// Where the key stands.
    pub fn key_place(&self) -> Place {
        Place::new(self.source, self.key_span.clone())
    }

    /// The source, for paths relative to it.
    pub fn source(&self) -> &'a Arc<Source> {
        self.source
    }

    /// Whether the value is a table.
    pub fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Whether the value is an array.
    pub fn is_array(&self) -> bool {
        self.value.get_ref().is_array()
    }

    /// Whether the value is a string, or can be one because it was written on the command line.
    pub fn is_text(&self) -> bool {
        let value = self.value.get_ref();
        value.is_str() || (self.on_command_line() && !value.is_table() && !value.is_array())
    }

    fn on_command_line(&self) -> bool {
        self.source.origin == Origin::CommandLine
    }

    /// An error that says what was expected and what was found.
    pub fn expected(&self, expected: &str) -> Error {
        self.error(format!("expected {expected}")).into()
    }

    /// An error about the value.
    pub fn error(&self, label: impl Into<String>) -> super::Diagnostic {
        self.place().error(format!("`{}`: {} does not fit", self.key, self.found()), label)
    }

    /// What was found, for messages.
    fn found(&self) -> String {
        const LONGEST: usize = 40;
        let shown = |kind: &str, text: &str| {
            let cut: String = text.chars().take(LONGEST).collect();
            let dots = if cut.len() < text.len() { ".." } else { "" };
            format!("{kind} `{}{dots}`", cut.escape_debug())
        };
        match self.value.get_ref() {
            DeValue::String(text) => shown("the string", text),
            DeValue::Integer(integer) => shown("the integer", &integer.to_string()),
            DeValue::Float(float) => shown("the number", float.as_str()),
            DeValue::Boolean(value) => format!("`{value}`"),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(values) => format!("a list of {}", values.len()),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }

    fn wide_integer(&self) -> Option<i128> {
        let integer = self.value.get_ref().as_integer()?;
        i128::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// The version of the file's form, which must be one that this program knows.
    pub fn schema(&self, known: i64) -> Result<()> {
        match self.wide_integer() {
            Some(version) if version > i128::from(known) => Err(self
                .error(format!("the file is for a newer version of this program; this one knows {known}"))
                .into()),
            _ => self.integer(1..=known).map(drop),
        }
    }

    /// An integer in `range`.
    pub fn integer(&self, range: RangeInclusive<i64>) -> Result<i64> {
        let expected = || match *range.end() {
            MAX_SIZE => format!("an integer of at least {}", range.start()),
            end => format!("an integer from {} to {end}", range.start()),
        };
        let too_large = || format!("expected at most {}", range.end());
        match self.wide_integer() {
            Some(value) if value > i128::from(*range.end()) => Err(self.error(too_large()).into()),
            Some(value) if value >= i128::from(*range.start()) => Ok(value as i64),
            _ => Err(self.expected(&expected())),
        }
    }

    /// A count of at least `least`.
    pub fn count(&self, least: i64) -> Result<usize> {
        Ok(self.integer(least..=MAX_SIZE)? as usize)
    }

    /// A seed: an integer from 0 to [`numbers::MAX_SEED`].
    pub fn seed(&self) -> Result<u64> {
        let seed = self.wide_integer().and_then(|value| u64::try_from(value).ok());
        seed.filter(|seed| *seed <= numbers::MAX_SEED)
            .ok_or_else(|| self.expected(&format!("an integer from 0 to {}", numbers::MAX_SEED)))
    }

    /// Seeds: an integer, a list of them, or a string of such with ranges (`42..51`).
    pub fn seeds(&self) -> Result<Vec<u64>> {
        let seeds = match self.value.get_ref() {
            DeValue::String(text) => numbers::parse_seeds(text).map_err(|message| self.error(message))?,
            _ => self.one_or_more().iter().map(Item::seed).collect::<Result<_>>()?,
        };
        numbers::check_seeds(&seeds).map_err(|message| self.error(message))?;
        Ok(seeds)
    }

    /// One number that `fits`.
    pub fn number(&self, fits: impl Fn(f64) -> bool, expected: &str) -> Result<f64> {
        let value = match self.value.get_ref() {
            DeValue::Integer(_) => self.wide_integer().map(|value| value as f64),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        };
        match value.filter(|value| fits(*value)) {
            // Adding zero makes -0.0 a plain 0.0, so that both are the same setting.
            Some(value) if numbers::is_single(value) => Ok(value + 0.0),
            Some(_) => Err(self.expected(numbers::SINGLE)),
            None => Err(self.expected(expected)),
        }
    }

    /// A number, a list of numbers, or a string of such (`logspace(-4, 0, 5)`), each of which `fits`.
    pub fn numbers(&self, fits: impl Fn(f64) -> bool + Copy, expected: &str) -> Result<Vec<f64>> {
        let values = match self.value.get_ref() {
            DeValue::Array(_) => {
                let mut values = Vec::new();
                for item in self.items()? {
                    let more = item.numbers(fits, expected)?;
                    numbers::check_count(values.len() + more.len()).map_err(|message| self.error(message))?;
                    values.extend(more);
                }
                values
            }
            DeValue::String(text) => numbers::parse(text).map_err(|message| self.error(message))?,
            _ => return Ok(vec![self.number(fits, &format!("{expected}, a list or \"logspace(a, b, n)\""))?]),
        };
        if values.is_empty() || values.iter().any(|value| !fits(*value)) {
            return Err(self.expected(&format!("each to be {expected}, and at least one")));
        }
        if !values.iter().copied().all(numbers::is_single) {
            return Err(self.expected(&format!("each to be {}", numbers::SINGLE)));
        }
        Ok(values)
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Result<bool> {
        self.value.get_ref().as_bool().ok_or_else(|| self.expected("true or false"))
    }

    /// A string; on the command line also what would be another type in a file.
    pub fn text(&self) -> Result<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ if self.is_text() => self.source.text.get(self.value.span()).ok_or_else(|| self.expected("a string")),
            _ => Err(self.expected("a string")),
        }
    }

    /// A path: a string, or the list of its bytes where it is not UTF-8, as the program itself writes it.
    pub fn path(&self) -> Result<PathBuf> {
        if !self.is_array() {
            return Ok(PathBuf::from(self.text()?));
        }
        let bytes: Vec<u8> =
            self.items()?.iter().map(|byte| Ok(byte.integer(0..=255)? as u8)).collect::<Result<_>>()?;
        files::path_of_bytes(bytes).ok_or_else(|| self.expected("the path of a file of this system, as a string"))
    }

    /// A string as one word; on the command line a comma-separated list of words.
    pub fn words(&self) -> Result<Vec<&'a str>> {
        let text = self.text()?;
        Ok(if self.on_command_line() { numbers::split(text).into_iter().map(str::trim).collect() } else { vec![text] })
    }

    /// One of several words; `what` names their kind in the error.
    pub fn choice<T: Copy>(&self, what: &str, choices: &[(&'static str, T)]) -> Result<T> {
        let text = self.text()?;
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(*value),
            None => Err(self.unknown(what, text, choices.iter().map(|(name, _)| *name))),
        }
    }

    /// An error about a word that is none of `known`.
    pub fn unknown<'k>(&self, what: &str, word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> Error {
        self.place()
            .error(format!("unknown {what} `{}`", word.escape_debug()), "not a known one")
            .help(suggest::help(word, known))
            .into()
    }

    /// An error about the key, which is none of `known`.
    pub fn unknown_key<'k>(&self, what: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> Error {
        self.key_place()
            .error(format!("unknown {what} `{}`", self.key.escape_debug()), "not a known one")
            .help(suggest::help(&self.key, known))
            .into()
    }

    /// The entries of an array.
    pub fn items(&self) -> Result<Vec<Item<'a>>> {
        let array = self.value.get_ref().as_array().ok_or_else(|| self.expected("a list"))?;
        Ok(array.iter().map(|value| self.entry(value)).collect())
    }

    /// The entries of an array, or the value itself if it is none.
    pub fn one_or_more(&self) -> Vec<Item<'a>> {
        match self.value.get_ref().as_array() {
            Some(array) => array.iter().map(|value| self.entry(value)).collect(),
            None => vec![self.clone()],
        }
    }

    fn entry(&self, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        Item { source: self.source, key: self.key.clone(), key_span: self.key_span.clone(), value }
    }

    /// A table whose keys are all in `known`; `what` says what it describes.
    ///
    /// # Errors
    /// Also for an unknown key, which is named with the nearest known one.
    pub fn table(&self, what: impl Into<String>, known: &[&str]) -> Result<Table<'a>> {
        let what = what.into();
        match self.value.get_ref() {
            DeValue::Table(table) => Table::new(self.source, self.value.span(), table, what, known),
            _ => Err(self.expected(&format!("a table ({what})"))),
        }
    }

    /// The entries of a table, in the order of the text, whatever their keys are; none if the value is no table.
    pub fn entries(&self) -> Vec<Item<'a>> {
        let mut entries: Vec<_> = match self.value.get_ref() {
            DeValue::Table(table) => table
                .iter()
                .map(|(key, value)| Item {
                    source: self.source,
                    key: key.get_ref().to_string(),
                    key_span: key.span(),
                    value,
                })
                .collect(),
            _ => Vec::new(),
        };
        entries.sort_by_key(|entry| entry.key_span.start);
        entries
    }
}
