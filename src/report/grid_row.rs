//! The rows of grid.csv as a report needs them: with the options of their setting, for which that file has columns of its own.

use std::ops::{Deref, DerefMut};

use csv::{ErrorKind, StringRecord};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::study::results::records::{self, Record};

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
