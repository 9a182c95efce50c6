//! The form that all tables of the terminal have.

use comfy_table::{ContentArrangement, Table, presets};

/// An empty table in the form of all tables.
pub(super) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// Four decimals; a dash for what is not there.
pub(super) fn number(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value.abs() >= 1e4 => format!("{value:.3e}"),
        value => format!("{value:.4}"),
    }
}
