//! `--set KEY=VALUE`: one line of a configuration file on the command line, where quotes may be left out.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostic::{Place, Source};
use super::item::{Table, syntax_error};
use crate::error::Result;

/// What the keys of an argument are the keys of, in messages.
const WHAT: &str = "what --set can set";

/// Reads an argument. A number, date, `true` or `false` that `read` does not take is the text that it is written as.
///
/// What is not a TOML value (`mnist`, `1e-2,1e-1`) is taken as a string, unless it begins like a quoted string, list
/// or table.
///
/// # Errors
/// If there is no `=`, no key, or a broken string, list or table, and those of `read`.
pub fn read<T>(argument: &str, read: impl Fn(Table) -> Result<T>) -> Result<T> {
    let source = Source::set_argument(argument);
    let table = parse(&source)?;
    let mut quoted = table.clone();
    let is_other = quote(&source.text, &mut quoted);
    let read = |table| read(Table::new(&source, 0..0, table, WHAT));
    match read(table) {
        // Where a text was expected, what is wrong with this one as a text tells more.
        Err(error) if is_other => {
            read(quoted).map_err(|of_text| match error.to_string().contains("expected a string") {
                true => of_text,
                false => error,
            })
        }
        result => result,
    }
}

/// Has the one value at the end of a chain of keys as a string; false where it is none, or one already.
fn quote<'a>(text: &'a str, table: &mut DeTable<'a>) -> bool {
    let Some((_, value)) = table.iter_mut().next() else { return false };
    let span = value.span();
    match value.get_mut() {
        DeValue::Table(table) => quote(text, table),
        DeValue::String(_) | DeValue::Array(_) => false,
        other => {
            let written = text.get(span).unwrap_or_default();
            *other = DeValue::String(DeString::Borrowed(written));
            true
        }
    }
}

fn parse(source: &Arc<Source>) -> Result<DeTable<'_>> {
    let text = source.text.as_str();
    let whole = Place::new(source, 0..text.len());
    let expected = "expected KEY=VALUE, for example epochs=5";
    let Some(equals) = text.find('=') else {
        return Err(whole.error(format!("--set {}: no `=`", text.escape_debug()), expected).into());
    };
    let problem = match DeTable::parse(text) {
        Ok(table) if table.get_ref().len() == 1 && !text.contains('\n') => return Ok(table.into_inner()),
        Ok(_) => return Err(whole.error("--set takes one key at a time", expected).into()),
        Err(error) => syntax_error(source, &error),
    };
    let value = trimmed(text, equals + 1..text.len());
    if value.is_empty() || text[value.clone()].starts_with(['"', '\'', '[', '{']) {
        return match DeTable::parse(text) {
            Err(error) if !value.is_empty() => Err(syntax_error(source, &error)),
            _ => Err(whole.error("--set: no value", expected).into()),
        };
    }
    // Keys are as in TOML: `select.mode` is a key in a table.
    let mut keys = Vec::new();
    let mut start = 0;
    for part in text[..equals].split('.') {
        let span = trimmed(text, start..start + part.len());
        start += part.len() + 1;
        let bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
        if span.is_empty() || !text[span.clone()].chars().all(bare) {
            return Err(problem);
        }
        keys.push(span);
    }
    let mut item = Spanned::new(value.clone(), DeValue::String(DeString::Borrowed(&text[value])));
    for key in keys.into_iter().rev() {
        let mut table = DeTable::new();
        table.insert(Spanned::new(key.clone(), DeString::Borrowed(&text[key.clone()])), item);
        item = Spanned::new(key, DeValue::Table(table));
    }
    match item.into_inner() {
        DeValue::Table(table) => Ok(table),
        _ => Err(problem),
    }
}

/// `span` without blanks at its ends.
fn trimmed(text: &str, span: Range<usize>) -> Range<usize> {
    let part = &text[span.clone()];
    let start = span.start + part.len() - part.trim_start().len();
    start..start + part.trim().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String> {
        let source = Source::set_argument(text);
        let table = parse(&source)?;
        let (key, value) = table.iter().next().unwrap();
        Ok(match value.get_ref() {
            DeValue::Table(inner) => {
                let (inner_key, value) = inner.iter().next().unwrap();
                format!("{}.{}: {}", key.get_ref(), inner_key.get_ref(), value.get_ref().as_str().unwrap())
            }
            other => format!("{}: {} {:?}", key.get_ref(), other.type_str(), &text[value.span()]),
        })
    }

    #[test]
    fn quotes_may_be_left_out() {
        assert_eq!(shown("epochs=5").unwrap(), "epochs: integer \"5\"");
        assert_eq!(shown("augment = false").unwrap(), "augment: boolean \"false\"");
        assert_eq!(shown("dataset=mnist").unwrap(), "dataset: string \"mnist\"");
        assert_eq!(shown("learning_rate=1e-2,1e-1").unwrap(), "learning_rate: string \"1e-2,1e-1\"");
        assert_eq!(shown("learning_rate=logspace(-4, 0, 5)").unwrap(), "learning_rate: string \"logspace(-4, 0, 5)\"");
        assert_eq!(shown("select.mode=best").unwrap(), "select.mode: best");
        assert_eq!(shown("seeds=[1, 2]").unwrap(), "seeds: array \"[1, 2]\"");
    }

    #[test]
    fn what_is_no_text_may_stand_for_one() {
        let name = |argument: &str| super::read(argument, |table| table.require("name")?.read::<String>());
        let number = |argument: &str| super::read(argument, |table| table.require("name")?.read::<f64>());
        assert_eq!((name("name=5").unwrap(), name("name=1e-2").unwrap()), ("5".to_owned(), "1e-2".to_owned()));
        assert_eq!((name("name=true").unwrap(), number("name=1e-2").unwrap()), ("true".to_owned(), 1e-2));
        // Of two refusals the first is told, if it does not ask for a text.
        assert!(number("name=true").unwrap_err().to_string().contains("`true` does not fit"));
        assert!(name("name=[1]").is_err());
    }

    #[test]
    fn broken_arguments_are_refused() {
        for text in ["", "epochs", "=5", "epochs=", "a b=c", "seeds=[1", "name=\"x", "a=1\nb=2", ".a=x", "é=x"] {
            assert!(shown(text).is_err(), "{text}");
        }
    }
}
