//! Reads result files, also of a study that is still running: a missing file and an unfinished last line are noted.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use csv::{ErrorKind, StringRecord};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::atomic::SealedFile;
use crate::error::{Error, IoContext, Result};
use crate::study::results::records::{self, Record};

/// The rows of a CSV file with a header; none where it is missing. What is amiss is added to `notes`.
pub(super) fn read_rows<T: DeserializeOwned>(path: &Path, notes: &mut Vec<String>) -> Result<Vec<T>> {
    let Some(bytes) = read_bytes(path, notes)? else { return Ok(Vec::new()) };
    // A number cut short is still a number, so a line counts only with its end.
    let whole = whole_lines(&bytes);
    if whole < bytes.len() {
        notes.push(format!("The last line of {} is still being written and is left out.", file_name(path)));
    }
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(&bytes[..whole]);
    let mut rows = Vec::new();
    for row in reader.deserialize() {
        rows.push(row.map_err(|error: csv::Error| Error::Data {
            path: path.to_owned(),
            offset: error.position().map_or(0, csv::Position::byte),
            found: format!("{error}"),
            expected: "the columns and values that docs/report.md lists".to_owned(),
            remedy: "Make the file again with `backpack-run study`.".to_owned(),
        })?);
    }
    Ok(rows)
}

/// The same for a file that many studies do not have: none where it is missing, without a note.
pub(super) fn read_rows_if_there<T: DeserializeOwned>(path: &Path, notes: &mut Vec<String>) -> Result<Vec<T>> {
    if path.exists() { read_rows(path, notes) } else { Ok(Vec::new()) }
}

/// Where the last line ends that has its end: a newline within quotes ends none. Lines that begin with `#` are notes.
fn whole_lines(bytes: &[u8]) -> usize {
    #[derive(PartialEq)]
    enum At {
        Line,
        Field,
        Plain,
        Quoted,
        Note,
    }
    let (mut at, mut whole) = (At::Line, 0);
    for (place, byte) in bytes.iter().enumerate() {
        at = match (at, byte) {
            // Of two quotes that stand for one the second opens again what the first has closed.
            (At::Quoted, b'"') => At::Field,
            (At::Quoted, _) => At::Quoted,
            (_, b'\n') => {
                whole = place + 1;
                At::Line
            }
            (At::Line, b'#') | (At::Note, _) => At::Note,
            (At::Line | At::Field, b'"') => At::Quoted,
            (_, b',') => At::Field,
            _ => At::Plain,
        };
    }
    whole
}

/// A JSON file; null where it is missing or unfinished.
pub(super) fn read_json(path: &Path, notes: &mut Vec<String>) -> Result<Value> {
    let Some(bytes) = read_bytes(path, notes)? else { return Ok(Value::Null) };
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        notes.push(format!("{} is unfinished ({error}) and is left out.", file_name(path)));
        Value::Null
    }))
}

/// Which of a study's tables are not what the study wrote, by its meta.json; one that is missing is noted elsewhere.
///
/// # Errors
/// When a table cannot be read.
pub(super) fn defects(folder: &Path, meta: &Value) -> Result<Vec<String>> {
    let mut defects = Vec::new();
    for (name, sealed) in meta["files"].as_object().into_iter().flatten() {
        let path = folder.join(name);
        let bytes = match crate::files::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            bytes => bytes.at("reading", &path)?,
        };
        let reason = match serde_json::from_value::<SealedFile>(sealed.clone()) {
            Ok(sealed) => sealed.defect(name, &bytes),
            Err(error) => Some(format!("meta.json does not say what it should be ({error})")),
        };
        defects.extend(reason.map(|reason| {
            format!("{name} is not what the study wrote: {reason}. Run the study's command again to restore it from its runs.")
        }));
    }
    Ok(defects)
}

fn read_bytes(path: &Path, notes: &mut Vec<String>) -> Result<Option<Vec<u8>>> {
    match crate::files::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            notes.push(format!("There is no {}.", file_name(path)));
            Ok(None)
        }
        Err(error) => Err(error).at("reading", path),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

// The rows of grid.csv as a report needs them: with the options of their setting, for which that file has columns of its own.

/// One row of grid.csv: one setting with one grid seed.
#[derive(Clone, Debug, PartialEq)]
pub struct GridRow {
    row: records::GridRow,
    /// The name and the value of each option that the file has a column for; the value is empty where the optimizer has no such
    /// option.
    pub options: Vec<(String, String)>,
}

impl Deref for GridRow {
    type Target = records::GridRow;

    fn deref(&self) -> &records::GridRow {
        &self.row
    }
}

impl DerefMut for GridRow {
    fn deref_mut(&mut self) -> &mut records::GridRow {
        &mut self.row
    }
}

impl<'de> Deserialize<'de> for GridRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Which options there are is not known before the file is read: every column that is none of the others is one.
        let (names, values): (Vec<String>, Vec<String>) = Cells::deserialize(deserializer)?.0.into_iter().unzip();
        let (names, values) = (StringRecord::from(names), StringRecord::from(values));
        let row = values.deserialize(Some(&names)).map_err(|error| match error.kind() {
            // Where it stands in the file is told by what reads the file.
            ErrorKind::Deserialize { err, .. } => D::Error::custom(err),
            _ => D::Error::custom(&error),
        })?;
        let cells = names.iter().zip(&values);
        let options = cells.filter(|(name, _)| !records::GridRow::COLUMNS.contains(name));
        Ok(GridRow { row, options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() })
    }
}

/// The names of a row's columns with their cells, in the order of the file.
struct Cells(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Cells {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> serde::de::Visitor<'de> for InOrder {
            type Value = Cells;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("a row of a table")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut row: A) -> Result<Cells, A::Error> {
                let mut cells = Vec::new();
                while let Some(cell) = row.next_entry()? {
                    cells.push(cell);
                }
                Ok(Cells(cells))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_a_newline_outside_of_quotes() {
        for (text, whole) in [
            ("", 0),
            ("a,b\n1,2\n", 8),
            ("a,b\n1,2\n3,4", 8),
            ("a,b\n\"x\ny\",2\n", 12),
            ("a,b\n\"x\ny\",2", 4),
            ("a,b\n\"x\n", 4),
            ("a,b\n1,\"x\n\ny\n", 4),
            ("a,b\n\"x\"\"\n", 4),
            ("a,b\n\"\"\"x\ny\"\"\",1\n", 16),
            ("a,b\n5\" x,1\n6\" y,2\n", 18),
            ("# it \" is a note\na,b\n1,", 21),
            ("a,b\r\n\"x\r\ny\",1\r\n\"z\r\n", 15),
        ] {
            assert_eq!(whole_lines(text.as_bytes()), whole, "{text:?}");
        }
    }

    /// Cut anywhere, a table gives the rows that are whole and nothing else.
    #[test]
    fn a_table_that_is_cut_gives_its_whole_rows() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Row {
            name: String,
            value: f64,
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names = ["plain", "two\nlines", "\"quoted\"\n", "a,\"\n,b", "", "#\n"];
        writer.write_record(["name", "value"]).unwrap();
        let mut ends = vec![0];
        let mut all = Vec::new();
        for (place, name) in names.into_iter().enumerate() {
            writer.write_record([name, &format!("{place}.25")]).unwrap();
            writer.flush().unwrap();
            ends.push(writer.get_ref().len());
            all.push(Row { name: name.to_owned(), value: place as f64 + 0.25 });
        }
        let bytes = writer.into_inner().unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let mut notes = Vec::new();
            let rows: Vec<Row> = read_rows(&path, &mut notes).unwrap();
            let whole = ends[1..].iter().filter(|end| **end <= cut).count();
            assert_eq!(rows, all[..whole], "cut at {cut}");
            let at_an_end = cut == "name,value\n".len() || ends.contains(&cut);
            assert_eq!(notes.is_empty(), at_an_end, "cut at {cut}: {notes:?}");
        }
    }
}
