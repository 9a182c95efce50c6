//! Values and tables of a TOML text with their keys and places, which serde reads as what they should be.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{DeserializeOwned, DeserializeSeed, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, ValueDeserializer};

use super::diagnostic::{Diagnostic, Origin, Place, Source};
use super::keys::{Said, keys_of, label, said};
use crate::error::{Error, Result};
use crate::{numbers, suggest};

/// A value, its key, and where both stand. An entry of a list has the list's key.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    source: &'a Arc<Source>,
    key: Spanned<String>,
    value: Spanned<DeValue<'a>>,
}

impl<'a> Item<'a> {
    /// The key as written, for messages.
    pub fn key(&self) -> &str {
        self.key.get_ref()
    }

    /// Where the value stands.
    pub fn place(&self) -> Place {
        Place::new(self.source, self.value.span())
    }

    /// Where the key stands.
    pub fn key_place(&self) -> Place {
        Place::new(self.source, self.key.span())
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

    /// The value, as its type has it.
    ///
    /// # Errors
    /// That of its `Deserialize`, shown at the part of the value that it is about.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        self.read_seed(PhantomData)
    }

    /// The same for what is known only when the program runs.
    ///
    /// # Errors
    /// As [`Item::read`].
    pub fn read_seed<T>(&self, seed: impl DeserializeSeed<'a, Value = T>) -> Result<T> {
        self.read_with(|value| seed.deserialize(value))
    }

    /// The same by a function.
    ///
    /// # Errors
    /// As [`Item::read`].
    pub fn read_with<T>(
        &self,
        read: impl FnOnce(ValueDeserializer<'a>) -> std::result::Result<T, toml::de::Error>,
    ) -> Result<T> {
        read(self.value.clone().into_deserializer()).map_err(|error| self.refused(&error))
    }

    /// A text; what would be another type in a file counts too where it is on the command line.
    pub fn text(&self) -> Option<&str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            DeValue::Table(_) | DeValue::Array(_) => None,
            _ if self.source.origin == Origin::CommandLine => self.source.text.get(self.value.span()),
            _ => None,
        }
    }

    /// A text as one word; on the command line the words of a comma-separated list.
    ///
    /// # Errors
    /// For what is no text.
    pub fn words(&self) -> Result<Vec<&str>> {
        let text = self.text().ok_or_else(|| self.expected("a string"))?;
        Ok(match self.source.origin {
            Origin::CommandLine => numbers::split(text).into_iter().map(str::trim).collect(),
            Origin::File => vec![text],
        })
    }

    /// The entries of an array.
    ///
    /// # Errors
    /// If it is none.
    pub fn items(&self) -> Result<Vec<Item<'a>>> {
        if self.is_array() { Ok(self.one_or_more()) } else { Err(self.expected("a list")) }
    }

    /// The entries of an array, or the value itself if it is none.
    pub fn one_or_more(&self) -> Vec<Item<'a>> {
        match self.value.get_ref().as_array() {
            Some(array) => array.iter().map(|value| Item { value: value.clone(), ..self.clone() }).collect(),
            None => vec![self.clone()],
        }
    }

    /// The value as a table; `what` says what it describes.
    ///
    /// # Errors
    /// If it is none.
    pub fn table(&self, what: impl Into<String>) -> Result<Table<'a>> {
        let what = what.into();
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(Table::new(self.source, self.value.span(), table.clone(), what)),
            _ => Err(self.expected(&format!("a table ({what})"))),
        }
    }

    /// An error that says what was expected and what was found.
    pub fn expected(&self, expected: &str) -> Error {
        self.error(format!("expected {expected}")).into()
    }

    /// An error about the value.
    pub fn error(&self, label: impl Into<String>) -> Diagnostic {
        self.place().error(format!("`{}`: {} does not fit", self.key(), self.found()), label)
    }

    /// An error about a word that is none of `known`; `what` names their kind.
    pub fn unknown<'k>(&self, what: &str, word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> Error {
        not_a_known_one(&self.place(), what, word, known)
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

    /// The value or the part of it that `span` is, or is in, with its own key.
    fn part(&self, span: &Range<usize>) -> Option<Item<'a>> {
        let parts: Vec<Item> = match self.value.get_ref() {
            DeValue::Table(table) => Table::new(self.source, self.value.span(), table.clone(), String::new()).items(),
            DeValue::Array(_) => self.one_or_more(),
            _ => Vec::new(),
        };
        // A table with a header of its own lies outside of the one that it belongs to.
        let of_parts = parts.iter().filter_map(|part| part.part(span));
        let own = self.value.span();
        let holds = own.start <= span.start && span.end <= own.end;
        of_parts.chain(holds.then(|| self.clone())).min_by_key(|part| part.value.span().len())
    }

    /// An error of serde about the value, or a part of it.
    fn refused(&self, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or_else(|| self.value.span());
        let part = self.part(&span).unwrap_or_else(|| self.clone());
        match (said(error.message()), self.entry_at(&span)) {
            (Said::Missing(key), _) => {
                Table::new(self.source, part.value.span(), DeTable::new(), part.key()).lacks(key)
            }
            (Said::Key(known), Some((table, entry))) => entry.unknown_key(&table, &known),
            // The one key of a table that stands for a choice.
            (Said::Word(None, word, known), Some((choice, entry))) => {
                not_a_known_one(&entry.key_place(), &choice, word, known)
            }
            (Said::Word(what, word, known), _) => part.unknown(what.unwrap_or(part.key()), word, known),
            (Said::Key(_) | Said::Other(_), _) => part.error(label(part.key(), part.text(), error.message())).into(),
        }
    }

    /// An error about the key, which is none of `known`; `table` is what it is no key of.
    fn unknown_key(&self, table: &str, known: &[&str]) -> Error {
        let title = format!("unknown key `{}`", self.key().escape_debug());
        let help = match self.key() {
            "layers" => "layers are defined in a problem file, whose path `problem` can be".to_owned(),
            key => suggest::help(key, known.iter().copied()),
        };
        self.key_place().error(title, format!("not a key of {table}")).help(help).into()
    }

    /// The entry, at any depth, whose key stands here, and the key of its table.
    fn entry_at(&self, span: &Range<usize>) -> Option<(String, Item<'a>)> {
        let parts = if self.is_array() { self.one_or_more() } else { self.table("").ok()?.items() };
        parts.into_iter().find_map(|part| match self.is_table() && part.key.span() == *span {
            true => Some((self.key().to_owned(), part)),
            false => part.entry_at(span),
        })
    }
}

/// A table, and what it describes.
#[derive(Clone, Debug)]
pub struct Table<'a> {
    source: &'a Arc<Source>,
    span: Range<usize>,
    table: DeTable<'a>,
    what: String,
}

impl<'a> Table<'a> {
    /// The table `table` of `source`, which describes `what`.
    pub fn new(source: &'a Arc<Source>, span: Range<usize>, table: DeTable<'a>, what: impl Into<String>) -> Self {
        Table { source, span, table, what: what.into() }
    }

    /// The whole text as a table.
    ///
    /// # Errors
    /// Pointing at the first place that is not TOML.
    pub fn parse(source: &'a Arc<Source>, what: &str) -> Result<Self> {
        let table = DeTable::parse(&source.text).map_err(|error| syntax_error(source, &error))?;
        Ok(Table::new(source, 0..0, table.into_inner(), what))
    }

    /// Refuses a key that is none of `known`.
    ///
    /// # Errors
    /// For the first such key in the text, with the nearest known one.
    pub fn only(self, known: &[&str]) -> Result<Self> {
        match self.items().into_iter().find(|item| !known.contains(&item.key())) {
            Some(item) => Err(item.unknown_key(&self.what, known)),
            None => Ok(self),
        }
    }

    /// Gives the key `alias` its other name, `key`.
    ///
    /// # Errors
    /// If both are there.
    pub fn alias(mut self, alias: &str, key: &'static str) -> Result<Self> {
        let Some(item) = self.get(alias) else { return Ok(self) };
        if let Some(other) = self.get(key) {
            let title = format!("`{alias}` is another name for `{key}`, and both are given");
            let error = item.key_place().error(title, "leave one of them out");
            return Err(error.at(&other.key_place(), "the other one").into());
        }
        self.table.remove(alias);
        self.table.insert(Spanned::new(item.key.span(), key.into()), item.value);
        Ok(self)
    }

    /// The same with the integer 1 in place of a key's value.
    pub fn with_one(mut self, key: &str) -> Self {
        if let (Some(value), Ok(one)) = (self.table.get_mut(key), DeValue::parse("1")) {
            *value = Spanned::new(value.span(), one.into_inner());
        }
        self
    }

    /// Where the table begins.
    pub fn place(&self) -> Place {
        Place::new(self.source, self.span.clone())
    }

    /// Where a part of it stands.
    pub fn place_of<T>(&self, part: &Spanned<T>) -> Place {
        Place::new(self.source, part.span())
    }

    /// The value of a key, if it is there.
    pub fn get(&self, key: &str) -> Option<Item<'a>> {
        self.table.get_key_value(key).map(|(key, value)| self.item(key, value))
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// Naming the key and the table that lacks it.
    pub fn require(&self, key: &str) -> Result<Item<'a>> {
        self.get(key).ok_or_else(|| self.lacks(key))
    }

    /// The error about a key that must be there.
    pub fn lacks(&self, key: &str) -> Error {
        self.place().error(format!("{} lacks `{key}`", self.what), format!("`{key}` is required here")).into()
    }

    /// What of the keys is `T`'s, read as it.
    ///
    /// # Errors
    /// That of its `Deserialize`, shown at the value that it is about.
    pub fn part<T: DeserializeOwned>(&self) -> Result<T> {
        let known = keys_of::<T>();
        self.read_where(|key| known.contains(&key), |part| part.read())
    }

    /// The table, read as a struct.
    ///
    /// # Errors
    /// As [`Table::part`], and for a key that the struct does not have.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        self.read_where(|_| true, |whole| whole.read())
    }

    /// What stands at the keys that are wanted, read by `read`; what they lack is told of the whole table.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read_where<T>(&self, wanted: impl Fn(&str) -> bool, read: impl FnOnce(Item<'a>) -> Result<T>) -> Result<T> {
        let table = self.table.iter().filter(|(key, _)| wanted(key.get_ref()));
        let table = table.map(|(key, value)| (key.clone(), value.clone())).collect();
        let key = Spanned::new(self.span.clone(), self.what.clone());
        read(Item { source: self.source, key, value: Spanned::new(self.span.clone(), DeValue::Table(table)) })
    }

    /// The entries in the order of the text.
    pub fn items(&self) -> Vec<Item<'a>> {
        let mut items: Vec<Item> = self.table.iter().map(|(key, value)| self.item(key, value)).collect();
        items.sort_by_key(|item| item.key.span().start);
        items
    }

    fn item(&self, key: &Spanned<DeString<'a>>, value: &Spanned<DeValue<'a>>) -> Item<'a> {
        // A key that got its other name is shown as it was written.
        let written = self.source.text.get(key.span()).map(|text| text.trim_matches(['"', '\'']));
        let shown = match written {
            Some(written) if !written.is_empty() && written != key.get_ref() && !written.contains('\\') => written,
            _ => &**key.get_ref(),
        };
        Item { source: self.source, key: Spanned::new(key.span(), shown.to_owned()), value: value.clone() }
    }
}

fn not_a_known_one<'k>(
    place: &Place,
    what: &str,
    word: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
) -> Error {
    let title = format!("unknown {what} `{}`", word.escape_debug());
    place.error(title, "not a known one").help(suggest::help(word, known)).into()
}

/// The error of the TOML parser, shown like every other.
pub(super) fn syntax_error(source: &Arc<Source>, error: &toml::de::Error) -> Error {
    let span = error.span().unwrap_or(source.text.len()..source.text.len());
    Place::new(source, span).error("not valid TOML", error.message()).into()
}
