//! The keys that a type reads, tables that are nothing else, and the version of a file's form; and what serde says is
//! wrong, in this program's words.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::numbers::read;

/// A table, for `deserialize_with`: of itself serde takes a list of a struct's fields in their order for the struct.
///
/// # Errors
/// For anything else, and those of `T`.
pub fn table<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Table<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Table<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(Table(PhantomData))
}

/// The same of a key that may be missing.
///
/// # Errors
/// As [`table`].
pub fn some_table<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    table(deserializer).map(Some)
}

/// The keys that a struct's derived `Deserialize` knows.
pub fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Keys<'k>(&'k mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Keys<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> std::result::Result<V::Value, Self::Error> {
            Err(Self::Error::custom("no struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> std::result::Result<V::Value, Self::Error> {
            *self.0 = fields;
            Err(Self::Error::custom("only asked"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut keys: &'static [&'static str] = &[];
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

/// The version of a file's form that this program knows.
const KNOWN: i64 = 1;

/// The key `schema` of a file whose form this program knows.
#[derive(Clone, Copy, Debug)]
pub struct Schema;

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match read::integer(deserializer, 1..=i64::MAX)? {
            1..=KNOWN => Ok(Schema),
            _ => Err(D::Error::custom(format!(
                "the file is for a newer version of this program; this one knows {KNOWN}"
            ))),
        }
    }
}

// What serde says is wrong with a value, in parts and in this program's words.

/// What an error of serde is about.
#[derive(Debug, PartialEq)]
pub(super) enum Said<'m> {
    /// A key that a table must have.
    Missing(&'m str),
    /// A key that a table does not have, among those that it can.
    Key(Vec<&'m str>),
    /// A word that is none of those for a value; what it would be one of, where the message tells.
    Word(Option<&'m str>, &'m str, Vec<&'m str>),
    /// Anything else.
    Other(&'m str),
}

/// What a message is about.
pub(super) fn said(message: &str) -> Said<'_> {
    if let Some(rest) = message.strip_prefix("missing field `") {
        return Said::Missing(rest.trim_end_matches('`'));
    }
    // Of toml, for the variants of an enum.
    if let (true, Some((_, known))) =
        (message.starts_with("unexpected keys in table: "), message.split_once(", available keys: "))
    {
        return Said::Key(known.split(", ").collect());
    }
    match unknown(message) {
        Some(("field", _, known)) => Said::Key(known),
        Some(("variant", word, known)) => Said::Word(None, word, known),
        Some((what, word, known)) => Said::Word(Some(what), word, known),
        None => Said::Other(message),
    }
}

/// What a value of words that are known when the program runs is refused with, in serde's words for those of an enum.
pub fn not_known<'k>(what: &str, word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known: Vec<String> = known.into_iter().map(|known| format!("`{known}`")).collect();
    format!("unknown {what} `{word}`, expected one of {}", known.join(", "))
}

/// The parts of "unknown WHAT `WORD`, expected one of `A`, `B`".
fn unknown(message: &str) -> Option<(&str, &str, Vec<&str>)> {
    let (what, rest) = message.strip_prefix("unknown ")?.split_once(" `")?;
    let (word, known) = rest.rsplit_once("`, expected ")?;
    Some((what, word, known.split('`').skip(1).step_by(2).collect()))
}

/// What was expected at `key`, where `text` may stand, without what is shown anyway.
pub(super) fn label(key: &str, text: Option<&str>, message: &str) -> String {
    if message.starts_with("invalid type: unit variant, expected") {
        return format!("expected more than the word: {key} = {{ {} = .. }}", text.unwrap_or(".."));
    }
    if message.starts_with("wanted exactly 1 element") {
        return "expected a word, or a table of exactly one key".to_owned();
    }
    if message.starts_with("expected table, found") || message.starts_with("expected empty") {
        return format!("expected the word alone: \"{key}\"");
    }
    let expected = match message.split_once(", expected ") {
        Some((start, expected)) if start.starts_with("invalid") => format!("expected {expected}"),
        _ => message.to_owned(),
    };
    if expected.starts_with("expected struct variant ") {
        return "expected a table".to_owned();
    }
    const WORDS: [(&str, &str); 4] = [
        ("expected a boolean", "expected true or false"),
        ("wanted string or table", "expected a string"),
        ("expected a map", "expected a table"),
        ("expected a sequence", "expected a list"),
    ];
    WORDS.iter().find(|(serde, _)| *serde == expected).map_or(expected.clone(), |(_, own)| (*own).to_owned())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::Error as _;
    use toml::de::{Error, ValueDeserializer};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    enum Choice {
        One,
        TheOther {
            #[serde(rename = "key")]
            _key: i64,
        },
    }

    /// What is taken from the messages are words of serde and toml; other versions may have others.
    #[test]
    fn the_words_of_serde_are_known() {
        let message = |text: &str| {
            let value = ValueDeserializer::parse(text).unwrap();
            Choice::deserialize(value).unwrap_err().message().to_owned()
        };
        assert_eq!(said(&message("\"on`e\"")), Said::Word(None, "on`e", vec!["one", "the_other"]));
        assert_eq!(said(&message("{ the_other = { ky = 1 } }")), Said::Key(vec!["key"]));
        assert_eq!(said(&message("{ the_other = {} }")), Said::Missing("key"));
        let field = Error::unknown_field("ky", &["key", "l2"]);
        assert_eq!(said(field.message()), Said::Key(vec!["key", "l2"]));
        assert_eq!(
            said(&not_known("data set", "minst", ["mnist", "svhn"])),
            Said::Word(Some("data set"), "minst", vec!["mnist", "svhn"])
        );
        let shown = |text: &str| label("key", Some("the_other"), &message(text));
        assert_eq!(shown("\"the_other\""), "expected more than the word: key = { the_other = .. }");
        assert_eq!(shown("{ the_other = 1 }"), "expected a table");
        assert_eq!(shown("{ one = 1 }"), "expected the word alone: \"key\"");
        assert_eq!(shown("{ one = 1, two = 2 }"), "expected a word, or a table of exactly one key");
        assert_eq!(shown("1"), "expected a string");
        let boolean = bool::deserialize(ValueDeserializer::parse("1").unwrap()).unwrap_err();
        assert_eq!(label("key", None, boolean.message()), "expected true or false");
        let list = Vec::<i64>::deserialize(ValueDeserializer::parse("1").unwrap()).unwrap_err();
        assert_eq!(label("key", None, list.message()), "expected a list");
    }
}
