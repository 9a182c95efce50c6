//! A benchmark's result as a table with bars, as CSV and as JSON.

use bytesize::ByteSize;
use comfy_table::CellAlignment;

use super::flags::Format;
use super::tables;
use crate::bench::baseline::{Change, Verdict};
use crate::bench::published;
use crate::bench::record::{Measurement, Record};
use crate::bench::row::{Row, write_rows};
use crate::error::{Error, Result};
use crate::words::count;

/// The longest bar, in characters.
const BAR: f64 = 20.0;

/// All rows in the form that was asked for.
pub(super) fn render(record: &Record, format: Format) -> Result<String> {
    match format {
        Format::Table => Ok(table(record)),
        Format::Csv => {
            let mut bytes = Vec::new();
            write_rows(&mut bytes, &record.table())?;
            String::from_utf8(bytes).map_err(|error| Error::Environment(format!("writing CSV failed: {error}")))
        }
        Format::Json => {
            let text = serde_json::to_string_pretty(record);
            Ok(text.map_err(|error| Error::Environment(format!("writing JSON: {error}")))? + "\n")
        }
    }
}

/// What progress says of a row after a visit; its doubts are told below the table.
pub(super) fn line(visit: usize, measurement: &Measurement) -> String {
    let row = &measurement.row;
    format!(
        "    {} gradients{}, {}, {} in {}",
        short(row.ratio),
        interval(row).map_or_else(String::new, |interval| format!(" ({interval})")),
        time(row.seconds),
        count(row.rounds, "pair"),
        count(visit, "visit"),
    )
}

/// A single pair has no interval.
fn interval(row: &Row) -> Option<String> {
    (row.rounds > 1).then(|| format!("{} to {}", short(row.ratio_low), short(row.ratio_high)))
}

fn table(record: &Record) -> String {
    let mut text = String::new();
    let mut rest = record.rows.as_slice();
    while let Some(first) = rest.first() {
        let same =
            |other: &Measurement| (&other.row.figure, &other.row.problem) == (&first.row.figure, &first.row.problem);
        let count = rest.iter().take_while(|row| same(row)).count();
        let (block, after) = rest.split_at(count);
        text += &block_of(block);
        rest = after;
    }
    for left in &record.left_out {
        text += &format!(
            "{} of {} at batch {} was left out: {}\n",
            left.quantity, left.problem, left.batch_size, left.reason
        );
    }
    text
}

/// The rows of one problem in one figure.
fn block_of(rows: &[Measurement]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let longest = rows.iter().map(|measurement| measurement.row.ratio).fold(1.0, f64::max);
    let mut table = tables::table();
    let known = rows.iter().any(|measurement| measurement.row.published().is_some());
    let paper = known.then_some(published::TITLE);
    let names = ["quantity", "batch", "threads", "gradient", "time", "ratio", "95 % interval", "", "peak"];
    table.set_header(names.into_iter().chain(paper));
    for Measurement { row, warnings, .. } in rows {
        let cells = [
            row.quantity.clone(),
            row.batch_size.to_string(),
            row.threads.to_string(),
            time(row.gradient_seconds),
            time(row.seconds),
            short(row.ratio) + if warnings.is_empty() { "" } else { " *" },
            interval(row).unwrap_or_else(|| "-".to_owned()),
            bar(row.ratio / longest),
            row.peak_bytes.map_or_else(|| "-".to_owned(), |bytes| ByteSize(bytes).display().iec().to_string()),
        ];
        table.add_row(cells.into_iter().chain(known.then(|| row.published().map_or_else(|| "-".to_owned(), short))));
    }
    for number in [1, 2, 3, 4, 5, 6, 8, 9] {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let figure = match first.row.figure.as_str() {
        "steps" => "whole steps, ".to_owned(),
        "problem" => String::new(),
        number => format!("Fig. {number}, "),
    };
    let mut text = format!("{figure}{}\n{table}\n", first.row.problem);
    if known {
        text += &format!("{}: {}\n", published::TITLE, published::NOTE);
    }
    text += &parts_of(rows);
    for measurement in rows {
        for warning in &measurement.warnings {
            text += &format!("* {}, batch {}: {warning}\n", measurement.row.quantity, measurement.row.batch_size);
        }
    }
    text + "\n"
}

/// Where the time of steps goes; nothing where there are none.
fn parts_of(rows: &[Measurement]) -> String {
    let steps: Vec<&Measurement> = rows.iter().filter(|row| row.parts.update_seconds.is_some()).collect();
    if steps.is_empty() {
        return String::new();
    }
    let mut table = tables::table();
    table.set_header([
        "of a step",
        "batch",
        "threads",
        "forward",
        "backward",
        "extraction",
        "average",
        "inverse",
        "update",
    ]);
    for Measurement { row, parts, .. } in steps {
        let seconds = [
            parts.forward_seconds,
            parts.backward_seconds,
            parts.extraction_seconds,
            parts.average_seconds,
            parts.inverse_seconds,
            parts.update_seconds,
        ];
        let start = [row.quantity.clone(), row.batch_size.to_string(), row.threads.to_string()];
        table.add_row(start.into_iter().chain(seconds.map(|seconds| seconds.map_or_else(|| "-".to_owned(), time))));
    }
    for number in 1..9 {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}

/// The comparison with a baseline.
pub(super) fn changes(changes: &[Change], rows: usize) -> String {
    let mut table = tables::table();
    table.set_header(["figure", "problem", "quantity", "batch", "ratio before", "ratio now", ""]);
    for Change { now, before, verdict } in changes {
        let ratio = |row: &Row| match interval(row) {
            Some(interval) => format!("{} ({interval})", short(row.ratio)),
            None => short(row.ratio),
        };
        let word = match verdict {
            Verdict::Slower => "SLOWER",
            Verdict::Faster => "faster",
            Verdict::Same => "the same within the intervals",
            Verdict::Unknown => "unknown: one pair has no interval",
        };
        table.add_row([
            now.figure.clone(),
            now.problem.clone(),
            now.quantity.clone(),
            now.batch_size.to_string(),
            ratio(before),
            ratio(now),
            word.to_owned(),
        ]);
    }
    let missing = rows - changes.len();
    let note = if missing == 0 { String::new() } else { format!("{missing} of {rows} rows are not in the baseline\n") };
    format!("{table}\n{note}")
}

/// Three significant digits.
fn short(ratio: f64) -> String {
    match ratio {
        ratio if !ratio.is_finite() => "-".to_owned(),
        ratio if ratio < 10.0 => format!("{ratio:.2}"),
        ratio if ratio < 100.0 => format!("{ratio:.1}"),
        ratio => format!("{ratio:.0}"),
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        seconds if !seconds.is_finite() => "-".to_owned(),
        // Without the sign of what is rounded away.
        seconds if seconds.abs() < 0.5e-6 => "0 us".to_owned(),
        seconds if seconds.abs() < 1e-3 => format!("{:.0} us", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

/// A bar of this share of the longest, in eighths of a character.
fn bar(share: f64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * BAR * 8.0).round() as usize;
    "█".repeat(eighths / 8) + PARTS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bars_are_short() {
        assert_eq!([1.234, 12.34, 123.4, f64::NAN].map(short), ["1.23", "12.3", "123", "-"]);
        assert_eq!([-1e-7, 3e-6, 0.0123, 2.5].map(time), ["0 us", "3 us", "12.30 ms", "2.50 s"]);
        assert_eq!((bar(1.0), bar(0.0), bar(0.13125)), ("█".repeat(20), String::new(), "██▋".to_owned()));
    }
}
