//! The form that all tables of the terminal have, at any width: columns grow narrow between words, then those that matter
//! least are left out, then rows stand as lists. No word or number is broken.

use std::fmt;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width, presets};
use textwrap::core::display_width;

use super::terminal;

/// A table of text. What a no-break space joins in a cell stays on one line; it is printed as a space.
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Columns that stand at the right.
    right: Vec<usize>,
    /// Columns that may be left out, the first one first.
    droppable: Vec<&'static str>,
}

/// What borders and spaces take of a line with so many columns.
fn overhead(columns: usize) -> usize {
    3 * columns + 1
}

/// The longest line of a text, and its longest word.
fn widths(text: &str) -> (usize, usize) {
    let line = text.lines().map(display_width).max().unwrap_or(0);
    (line, text.split([' ', '\n']).map(display_width).max().unwrap_or(0))
}

impl Table {
    /// Without rows.
    pub fn new<T: Into<String>>(header: impl IntoIterator<Item = T>) -> Self {
        let header = header.into_iter().map(Into::into).collect();
        Table { header, rows: Vec::new(), right: Vec::new(), droppable: Vec::new() }
    }

    /// These columns stand at the right.
    pub fn right(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.right = columns.into_iter().collect();
        self
    }

    /// Where there is no room, these columns are left out, the first one first; CSV and JSON have them.
    pub fn droppable(mut self, names: &[&'static str]) -> Self {
        self.droppable = names.to_vec();
        self
    }

    /// One more row, as long as the header.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table as it fits a width; as wide as it wants to be without one.
    fn at(&self, width: Option<usize>) -> String {
        self.laid_out(width).replace('\u{a0}', " ")
    }

    fn laid_out(&self, width: Option<usize>) -> String {
        let mut columns: Vec<usize> = (0..self.header.len()).collect();
        let Some(width) = width else { return self.drawn(&columns, None) };
        let sizes: Vec<(usize, usize)> = columns.iter().map(|column| self.column_widths(*column)).collect();
        let least = |columns: &[usize]| columns.iter().map(|c| sizes[*c].1).sum::<usize>() + overhead(columns.len());
        let mut dropped: Vec<&str> = Vec::new();
        let mut droppable = self.droppable.iter();
        while least(&columns) > width {
            let Some(name) = droppable.next() else { return self.stacked(width) };
            let before = columns.len();
            columns.retain(|column| self.header[*column] != *name);
            // A bar without a title says nothing that the numbers do not.
            if columns.len() < before && !name.is_empty() {
                dropped.push(name);
            }
        }
        let sizes: Vec<(usize, usize)> = columns.iter().map(|column| sizes[*column]).collect();
        let mut text = self.drawn(&columns, Some((width, &shared(&sizes, width - overhead(columns.len())))));
        if !dropped.is_empty() {
            let note = format!("no room here for: {} (--format csv has them)", dropped.join(", "));
            text.push('\n');
            text.push_str(terminal::wrapped_at(&note, 0, Some(width)).trim_end());
        }
        text
    }

    /// The longest line and the longest word of a column.
    fn column_widths(&self, column: usize) -> (usize, usize) {
        let texts = self.rows.iter().filter_map(|row| row.get(column)).chain([&self.header[column]]);
        texts.map(|text| widths(text)).fold((0, 0), |(line, word), other| (line.max(other.0), word.max(other.1)))
    }

    fn drawn(&self, columns: &[usize], sizes: Option<(usize, &[usize])>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        let chosen =
            |row: &Vec<String>| columns.iter().map(|c| row.get(*c).cloned().unwrap_or_default()).collect::<Vec<_>>();
        table.set_header(chosen(&self.header));
        table.add_rows(self.rows.iter().map(chosen));
        match sizes {
            None => {
                table.force_no_tty();
            }
            Some((width, sizes)) => {
                table
                    .set_content_arrangement(ContentArrangement::Dynamic)
                    .set_width(width.min(usize::from(u16::MAX)) as u16);
                // A column's width is that of its text and a space on either side.
                let constraint = |size: &usize| ColumnConstraint::Absolute(Width::Fixed((size + 2) as u16));
                table.set_constraints(sizes.iter().map(constraint));
            }
        }
        for (place, column) in columns.iter().enumerate() {
            if self.right.contains(column)
                && let Some(column) = table.column_mut(place)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }

    /// Each row as a list under what its first cell says.
    fn stacked(&self, width: usize) -> String {
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&terminal::wrapped_at(
                &row.first().map_or("", |cell| cell).replace('\n', ", "),
                0,
                Some(width),
            ));
            for (name, cell) in self.header.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty()) {
                let line = match name.is_empty() {
                    true => cell.replace('\n', ", "),
                    false => format!("{}: {}", name.replace('\n', ", "), cell.replace('\n', ", ")),
                };
                text.push_str(&terminal::wrapped_at(&line, 2, Some(width)));
            }
        }
        text.trim_end().to_owned()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at(terminal::width()))
    }
}

/// The widths of columns that have (wanted, least) widths within this room, which is enough for the least ones: what is
/// over goes to the column that lacks the largest part.
fn shared(sizes: &[(usize, usize)], room: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = sizes.iter().map(|(_, least)| (*least).max(1)).collect();
    for _ in widths.iter().sum::<usize>()..room {
        let lacks = |place: &usize| sizes[*place].0 as f64 / widths[*place] as f64;
        let most = (0..sizes.len())
            .filter(|place| widths[*place] < sizes[*place].0)
            .max_by(|a, b| lacks(a).total_cmp(&lacks(b)));
        match most {
            Some(place) => widths[place] += 1,
            None => break,
        }
    }
    widths
}

/// A text whose words stay on one line, such as a number with its unit.
pub(super) fn whole(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

/// Four decimals; a dash for what is not there.
pub(super) fn number(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value.abs() >= 1e4 => format!("{value:.3e}"),
        value => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["problem", "setting", "accuracy", "bar"]).right([2]).droppable(&["bar"]);
        table.row([
            "mnist_logreg",
            "lr 0.001, damping 0.01, averaging cumulative",
            "0.9269 [0.9257, 0.9280]",
            "█████████",
        ]);
        table.row(["fmnist_mlp", "lr 0.1", "0.8", "██"]);
        table
    }

    /// Every word of the table is whole wherever it still stands.
    fn words(text: &str) -> Vec<&str> {
        text.split(|c: char| c.is_whitespace() || "│┆┌┐└┘├┤─═╞╡┬┴╪".contains(c)).filter(|w| !w.is_empty()).collect()
    }

    #[test]
    fn no_word_is_broken_at_any_width() {
        let table = table();
        let all = table.at(None);
        for width in 14..140 {
            let text = table.at(Some(width));
            let longest = text.lines().map(display_width).max().unwrap();
            // In a list a long word may stand alone.
            assert!(longest <= width.max(24), "{width}: {text}");
            for word in words(&text) {
                let known = words(&all).contains(&word)
                    || word.ends_with(':')
                    || "no room here for: bar (--format csv has them)".contains(word);
                assert!(known, "{width}: {word}\n{text}");
            }
            for word in ["mnist_logreg", "cumulative", "0.9269", "0.9280]"] {
                assert!(words(&text).contains(&word), "{width}: {text}");
            }
        }
        assert_eq!(table.at(Some(200)), all);
    }

    #[test]
    fn a_number_stays_with_its_unit_and_an_untitled_column_goes_unsaid() {
        let mut table = Table::new(["run", "", "memory per run"]).right([2]).droppable(&[""]);
        // The long name takes all the room there is.
        table.row(["kfac on a network with a long name".to_owned(), "████████████".to_owned(), whole("160.3 MiB")]);
        for (width, has_bar) in [(40, true), (30, false)] {
            let text = table.at(Some(width));
            assert!(text.contains("160.3 MiB") && text.contains('█') == has_bar, "{text}");
            assert!(!text.contains("no room") && !text.contains('\u{a0}'), "{text}");
        }
    }

    #[test]
    fn columns_grow_narrow_then_go_then_rows_become_lists() {
        let table = table();
        insta::assert_snapshot!([90, 52, 30].map(|width| table.at(Some(width))).join("\n\n"), @"
        ┌──────────────┬───────────────────────────────────────┬─────────────────────┬───────────┐
        │ problem      ┆ setting                               ┆            accuracy ┆ bar       │
        ╞══════════════╪═══════════════════════════════════════╪═════════════════════╪═══════════╡
        │ mnist_logreg ┆ lr 0.001, damping 0.01, averaging     ┆     0.9269 [0.9257, ┆ █████████ │
        │              ┆ cumulative                            ┆             0.9280] ┆           │
        │ fmnist_mlp   ┆ lr 0.1                                ┆                 0.8 ┆ ██        │
        └──────────────┴───────────────────────────────────────┴─────────────────────┴───────────┘

        ┌──────────────┬────────────┬──────────┬───────────┐
        │ problem      ┆ setting    ┆ accuracy ┆ bar       │
        ╞══════════════╪════════════╪══════════╪═══════════╡
        │ mnist_logreg ┆ lr 0.001,  ┆   0.9269 ┆ █████████ │
        │              ┆ damping    ┆ [0.9257, ┆           │
        │              ┆ 0.01,      ┆  0.9280] ┆           │
        │              ┆ averaging  ┆          ┆           │
        │              ┆ cumulative ┆          ┆           │
        │ fmnist_mlp   ┆ lr 0.1     ┆      0.8 ┆ ██        │
        └──────────────┴────────────┴──────────┴───────────┘

        mnist_logreg
          setting: lr 0.001, damping
            0.01, averaging cumulative
          accuracy: 0.9269 [0.9257,
            0.9280]
          bar: █████████
        fmnist_mlp
          setting: lr 0.1
          accuracy: 0.8
          bar: ██
        ");
    }
}
