//! Rows under a header as a table for people or as CSV, and JSON with a schema version.

use serde_json::{Map, Value, json};

use crate::cli::tables::Table;
use crate::error::Result;
use crate::table;

/// The version of the JSON that `list` prints.
const SCHEMA_VERSION: u64 = 1;

/// Rows of text under a header.
pub(super) struct Rows<const N: usize> {
    pub header: [&'static str; N],
    pub rows: Vec<[String; N]>,
}

impl<const N: usize> Rows<N> {
    /// A table that fits the terminal; `droppable` columns are left out first where there is no room.
    pub fn table(&self, droppable: &[&'static str]) -> String {
        let mut table = Table::new(self.header.map(|name| name.replace('_', " "))).droppable(droppable);
        self.rows.iter().for_each(|row| table.row(row.clone()));
        format!("{table}\n")
    }

    /// Comma-separated values.
    pub fn csv(&self) -> Result<String> {
        table::csv(&self.header, self.rows.iter().map(|row| row.to_vec()))
    }

    /// The rows as objects, keyed by the header.
    pub fn objects(&self) -> Value {
        let object = |row: &[String; N]| {
            let entries = self.header.iter().zip(row).map(|(key, value)| (key.to_string(), json!(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        };
        Value::Array(self.rows.iter().map(object).collect())
    }
}

/// `{"schema_version": 1, KEY: VALUE}`, indented.
pub(super) fn document(key: &str, value: Value) -> String {
    let document = json!({ "schema_version": SCHEMA_VERSION, key: value });
    format!("{document:#}\n")
}

/// `1 x 28 x 28`.
pub(super) fn shape(sizes: &[i64]) -> String {
    sizes.iter().map(i64::to_string).collect::<Vec<_>>().join(" x ")
}

/// `895,210`.
pub(super) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for start in (first..digits.len()).step_by(3) {
        if start > 0 {
            text.push(',');
        }
        text.push_str(&digits[start..start + 3]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (count, text) in [(0, "0"), (12, "12"), (850, "850"), (7850, "7,850"), (1_336_610, "1,336,610")] {
            assert_eq!(grouped(count), text);
        }
    }

    #[test]
    fn csv_quotes_what_holds_commas() {
        let rows = Rows { header: ["a", "b"], rows: vec![["1, 2".to_owned(), "x".to_owned()]] };
        assert_eq!(rows.csv().unwrap(), "a,b\n\"1, 2\",x\n");
        assert_eq!(rows.objects(), json!([{"a": "1, 2", "b": "x"}]));
    }
}
