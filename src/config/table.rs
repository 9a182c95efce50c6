//! A table of a TOML text, read key by key; a key that is not known is refused.

use std::ops::Range;
use std::sync::Arc;

use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::item::Item;
use super::source::{Place, Source};
use crate::error::{Error, Result};
use crate::suggest;

/// A table with known keys.
#[derive(Debug)]
pub struct Table<'a> {
    source: &'a Arc<Source>,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    what: String,
}

impl<'a> Table<'a> {
    /// The table `table` of `source`, which describes `what` and may have the keys `known`.
    ///
    /// # Errors
    /// For the first key in the text that is not known.
    pub fn new(
        source: &'a Arc<Source>,
        span: Range<usize>,
        table: &'a DeTable<'a>,
        what: String,
        known: &[&str],
    ) -> Result<Self> {
        let unknown = table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let name = key.get_ref();
            return Err(Place::new(source, key.span())
                .error(format!("unknown key `{}`", name.escape_debug()), format!("not a key of {what}"))
                .help(match name.as_ref() {
                    "layers" => "layers are defined in a problem file, whose path `problem` can be".to_owned(),
                    name => suggest::help(name, known.iter().copied()),
                })
                .into());
        }
        Ok(Table { source, span, table, what })
    }

    /// The whole text as a table, with its known keys.
    ///
    /// # Errors
    /// For an unknown key.
    pub fn root(source: &'a Arc<Source>, root: &'a Spanned<DeTable<'a>>, what: &str, known: &[&str]) -> Result<Self> {
        Table::new(source, 0..0, root.get_ref(), what.to_owned(), known)
    }

    /// Where the table begins.
    pub fn place(&self) -> Place {
        Place::new(self.source, self.span.clone())
    }

    /// The value of a key, if it is there.
    pub fn get(&self, key: &str) -> Option<Item<'a>> {
        let (name, value) = self.table.get_key_value(key)?;
        Some(self.item(name.get_ref(), name.span(), value))
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// Naming the key and the table that lacks it.
    pub fn require(&self, key: &str) -> Result<Item<'a>> {
        self.get(key).ok_or_else(|| {
            let title = format!("{} lacks `{key}`", self.what);
            self.place().error(title, format!("`{key}` is required here")).into()
        })
    }

    /// The value of a key that has two names.
    ///
    /// # Errors
    /// If both are there.
    pub fn get_either(&self, key: &str, alias: &str) -> Result<Option<Item<'a>>> {
        match (self.get(key), self.get(alias)) {
            (Some(first), Some(second)) => Err(second
                .key_place()
                .error(format!("`{alias}` is another name for `{key}`, and both are given"), "leave one of them out")
                .at(&first.key_place(), "the other one")
                .into()),
            (first, second) => Ok(first.or(second)),
        }
    }

    /// Everything but these keys by serde: `read` gets the other ones, and 1 in place of what stands at `one`. Its error is shown at
    /// the value that it is about.
    ///
    /// # Errors
    /// That of `read`.
    pub fn read_without<T>(
        &self,
        keys: &[&str],
        one: Option<&str>,
        read: impl FnOnce(ValueDeserializer) -> std::result::Result<T, toml::de::Error>,
    ) -> Result<T> {
        let others = self.table.iter().filter(|(key, _)| !keys.contains(&key.get_ref().as_ref()));
        let mut table: DeTable = others.map(|(key, value)| (key.clone(), value.clone())).collect();
        let replaced = one.and_then(|one| table.iter_mut().find(|(key, _)| key.get_ref().as_ref() == one));
        if let (Some((_, value)), Ok(number)) = (replaced, DeValue::parse("1")) {
            *value = Spanned::new(value.span(), number.into_inner());
        }
        let values = Spanned::new(self.span.clone(), DeValue::Table(table));
        read(values.into_deserializer()).map_err(|error| {
            let about = error.span().unwrap_or_else(|| self.span.clone());
            let is_about =
                |value: &Spanned<DeValue>| value.span().start <= about.start && about.end <= value.span().end;
            let found = self.table.iter().find(|(_, value)| is_about(value));
            match found {
                Some((key, value)) => {
                    self.item(key.get_ref(), key.span(), value).error(expected(error.message())).into()
                }
                None => self.place().error(format!("{} cannot be read", self.what), error.message()).into(),
            }
        })
    }

    fn item(&self, key: &str, key_span: Range<usize>, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        Item { source: self.source, key: key.to_owned(), key_span, value }
    }
}

/// serde's "invalid type: string, expected a boolean" without what is shown anyway.
fn expected(message: &str) -> String {
    match message.split_once(", expected ") {
        Some((start, expected)) if start.starts_with("invalid") => format!("expected {expected}"),
        _ => message.to_owned(),
    }
}

/// Parses a TOML text.
///
/// # Errors
/// Pointing at the first place that is not TOML.
pub fn parse(source: &Arc<Source>) -> Result<Spanned<DeTable<'_>>> {
    DeTable::parse(&source.text).map_err(|error| syntax_error(source, &error))
}

/// The error of the TOML parser, shown like every other.
pub(super) fn syntax_error(source: &Arc<Source>, error: &toml::de::Error) -> Error {
    let span = error.span().unwrap_or(source.text.len()..source.text.len());
    Place::new(source, span).error("not valid TOML", error.message()).into()
}
