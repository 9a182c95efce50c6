//! Writes TOML for people: one key a line, tables inline, lists of tables as `[[path]]`.

use std::fmt::Write as _;

use toml::{Table, Value};

/// The text of a table.
pub fn to_text(table: &Table) -> String {
    let mut text = String::new();
    write_table(&mut text, "", table);
    text
}

fn write_table(text: &mut String, path: &str, table: &Table) {
    for (key, value) in table.iter().filter(|(_, value)| tables(value).is_none()) {
        let _ = writeln!(text, "{key} = {value}");
    }
    for (key, list) in table.iter().filter_map(|(key, value)| Some((key, tables(value)?))) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        for table in list {
            let _ = write!(text, "\n[[{path}]]\n");
            write_table(text, &path, table);
        }
    }
}

/// The tables of a list that holds nothing else.
fn tables(value: &Value) -> Option<Vec<&Table>> {
    let list = value.as_array().filter(|list| !list.is_empty())?;
    list.iter().map(Value::as_table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let text =
            "a = 1\nb = { c = 0.05 }\nd = []\n\n[[e]]\nf = \"x\\\"\\n\"\n\n[[e.g]]\nh = [1, 2]\n\n[[e]]\ni = 1e-7\n";
        let table: Table = text.parse().unwrap();
        let written = to_text(&table);
        assert_eq!(written.parse::<Table>().unwrap(), table);
        assert!(written.starts_with("a = 1\nb = { c = 0.05 }\nd = []\n\n[[e]]\n"), "{written}");
    }
}
