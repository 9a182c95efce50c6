//! A benchmark's result as a table with bars, as CSV and as JSON.

use bytesize::ByteSize;

use super::flags::Format;
use super::tables::{Table, whole};
use super::terminal::wrapped;
use crate::bench::baseline::{self, Change, Verdict};
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
pub(super) fn line(visits: usize, measurement: &Measurement) -> String {
    let row = &measurement.row;
    format!("{}, {}, {} in {}", ratio(row), time(row.seconds), count(row.rounds, "pair"), count(visits, "visit"))
}

/// "1.54 gradients (1.50 to 1.60)".
pub(super) fn ratio(row: &Row) -> String {
    let interval = interval(row).map_or_else(String::new, |interval| format!(" ({interval})"));
    format!("{} gradients{interval}", short(row.ratio))
}

/// A single pair has no interval.
fn interval(row: &Row) -> Option<String> {
    (row.rounds > 1).then(|| format!("{} to {}", short(row.ratio_low), short(row.ratio_high)))
}

/// One table of all rows, and below it the notes on them.
fn table(record: &Record) -> String {
    let rows = &record.rows;
    let mut text = if rows.is_empty() { String::new() } else { rows_of(rows) };
    text += &parts_of(rows);
    if rows.iter().any(|measurement| measurement.row.published().is_some()) {
        text += &wrapped(&format!("{}: {}", baseline::PUBLISHED_TITLE, baseline::PUBLISHED_NOTE), 0);
    }
    // What holds for several rows is said once.
    let mut said: Vec<(String, Vec<String>)> = Vec::new();
    for Measurement { row, warnings, .. } in rows {
        for warning in warnings.iter().map(ToString::to_string) {
            let of = format!("{} on {}, batch {}", row.quantity, row.problem, row.batch_size);
            match said.iter_mut().find(|(known, _)| *known == warning) {
                Some((_, rows)) => rows.push(of),
                None => said.push((warning, vec![of])),
            }
        }
    }
    for (warning, of) in said {
        let of = if rows.len() > 1 && of.len() == rows.len() { "all rows".to_owned() } else { of.join("; ") };
        text += &wrapped(&format!("* {of}: {warning}"), 0);
    }
    for left in &record.left_out {
        let of = format!("{} of {} at batch {}", left.quantity, left.problem, left.batch_size);
        text += &wrapped(&format!("{of} was left out: {}", left.reason), 0);
    }
    text
}

/// The rows under one header; a figure and a problem stand where they change. A bar is in units of the longest of its
/// problem in its figure.
fn rows_of(rows: &[Measurement]) -> String {
    let same = |a: &Row, b: &Row| (&a.figure, &a.problem) == (&b.figure, &b.problem);
    let known = rows.iter().any(|measurement| measurement.row.published().is_some());
    let paper = known.then_some(baseline::PUBLISHED_TITLE);
    let names =
        ["figure", "problem", "quantity", "batch", "threads", "gradient", "time", "ratio", "95 % interval", "", "peak"];
    let mut table = Table::new(names.into_iter().chain(paper)).right([3, 4, 5, 6, 7, 8, 10, 11]).droppable(&[
        "",
        "threads",
        "peak",
        "gradient",
        "batch",
        baseline::PUBLISHED_TITLE,
        "95 % interval",
    ]);
    for (place, Measurement { row, warnings, .. }) in rows.iter().enumerate() {
        let here = rows.iter().filter(|other| same(&other.row, row)).map(|other| other.row.ratio);
        let longest = here.fold(1.0, f64::max);
        let is_new = place.checked_sub(1).is_none_or(|before| !same(&rows[before].row, row));
        let [figure, problem] = if is_new { [row.figure.clone(), row.problem.clone()] } else { Default::default() };
        let cells = [
            figure,
            problem,
            row.quantity.clone(),
            row.batch_size.to_string(),
            row.threads.to_string(),
            whole(&time(row.gradient_seconds)),
            whole(&time(row.seconds)),
            short(row.ratio) + if warnings.is_empty() { "" } else { "\u{a0}*" },
            interval(row).map_or_else(|| "-".to_owned(), |interval| whole(&interval)),
            bar(row.ratio / longest),
            row.peak_bytes.map_or_else(|| "-".to_owned(), |bytes| whole(&ByteSize(bytes).display().iec().to_string())),
        ];
        table.row(cells.into_iter().chain(known.then(|| row.published().map_or_else(|| "-".to_owned(), short))));
    }
    format!("{table}\n")
}

/// Where the time of steps goes; nothing where there are none.
fn parts_of(rows: &[Measurement]) -> String {
    let steps: Vec<&Measurement> = rows.iter().filter(|row| row.parts.update_seconds.is_some()).collect();
    if steps.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        "of a step",
        "batch",
        "threads",
        "forward",
        "backward",
        "extraction",
        "average",
        "inverse",
        "update",
    ])
    .right(1..9)
    .droppable(&["threads", "batch"]);
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
        let cell = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), |seconds| whole(&time(seconds)));
        table.row(start.into_iter().chain(seconds.map(cell)));
    }
    format!("{table}\n")
}

/// The comparison with a baseline.
pub(super) fn changes(changes: &[Change], rows: usize) -> String {
    let mut table = Table::new(["figure", "problem", "quantity", "batch", "ratio before", "ratio now", ""])
        .droppable(&["figure", "batch"]);
    for Change { now, before, verdict } in changes {
        let ratio = |row: &Row| match interval(row) {
            Some(interval) => format!("{} ({interval})", short(row.ratio)),
            None => short(row.ratio),
        };
        let word = match verdict {
            Verdict::Slower => "SLOWER",
            Verdict::Faster => "faster",
            Verdict::Same => "unchanged within the intervals",
            Verdict::Unknown => "unknown: a single pair has no interval",
        };
        table.row([
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
pub(super) mod tests {
    use super::*;
    use crate::bench::plan::LeftOut;
    use crate::bench::record::{Parts, Warning};
    use crate::cli::widths::snapshot;
    use crate::provenance::Provenance;

    /// A row that was visited a few times.
    pub fn measurement(figure: &str, problem: &str, quantity: &str, batch_size: usize, ratio: f64) -> Measurement {
        let row = Row {
            figure: figure.to_owned(),
            problem: problem.to_owned(),
            quantity: quantity.to_owned(),
            batch_size,
            threads: 2,
            rounds: 40,
            gradient_seconds: 0.0123,
            seconds: 0.0123 * ratio,
            ratio,
            ratio_low: 0.97 * ratio,
            ratio_high: 1.04 * ratio,
            peak_bytes: Some(168_100_000),
        };
        Measurement {
            row,
            parts: Parts::default(),
            resident_bytes: None,
            load_average: 0.5,
            include_data: false,
            warnings: Vec::new(),
            visits: vec![10; 4],
            gradient_times: Vec::new(),
            times: Vec::new(),
        }
    }

    #[test]
    fn the_table_of_a_benchmark() {
        let mut rows = vec![
            measurement("3", "cifar10_3c3d", "batch_grad", 64, 1.12),
            measurement("6", "cifar10_3c3d", "diag_ggn_mc", 128, 1.3),
            measurement("6", "cifar10_3c3d", "diag_ggn", 128, 13.28),
            measurement("steps", "mnist_logreg", "diag_ggn_mc", 128, 1.07),
        ];
        rows[1].warnings = vec![Warning::OneVisit];
        let seconds = |value: f64| Some(value);
        rows[3].parts = Parts {
            forward_seconds: seconds(0.0021),
            backward_seconds: seconds(0.000_31),
            extraction_seconds: seconds(0.000_12),
            average_seconds: seconds(0.000_034),
            update_seconds: seconds(0.000_61),
            ..Parts::default()
        };
        let left_out = LeftOut {
            figure: "8".to_owned(),
            problem: "cifar100_allcnnc".to_owned(),
            quantity: "diag_ggn".to_owned(),
            batch_size: 64,
            reason: "it needs about 12.3 GiB, and 9.0 GiB may be taken (--memory-budget)".to_owned(),
        };
        let record = Record {
            schema_version: 1,
            machine: Provenance::now(2, "cpu"),
            load_average: 0.5,
            rows,
            left_out: vec![left_out],
        };
        let text = table(&record);
        assert_eq!(text.matches("95 % interval").count(), 1, "one header for all figures: {text}");
        insta::assert_snapshot!(snapshot(&|| table(&record)));
    }

    #[test]
    fn what_has_changed_since_a_baseline() {
        let row = |ratio| measurement("steps", "cifar10_3c3d_sigmoid", "diag_ggn_mc", 128, ratio).row;
        let change = |now, before, verdict| Change { now: row(now), before: row(before), verdict };
        let all = [change(2.0, 1.3, Verdict::Slower), change(1.3, 1.3, Verdict::Same)];
        insta::assert_snapshot!(snapshot(&|| changes(&all, 3)), @"
        80 columns
        ┌──────────────────────┬─────────────┬───────┬─────────┬─────────┬─────────────┐
        │ problem              ┆ quantity    ┆ batch ┆ ratio   ┆ ratio   ┆             │
        │                      ┆             ┆       ┆ before  ┆ now     ┆             │
        ╞══════════════════════╪═════════════╪═══════╪═════════╪═════════╪═════════════╡
        │ cifar10_3c3d_sigmoid ┆ diag_ggn_mc ┆ 128   ┆ 1.30    ┆ 2.00    ┆ SLOWER      │
        │                      ┆             ┆       ┆ (1.26   ┆ (1.94   ┆             │
        │                      ┆             ┆       ┆ to      ┆ to      ┆             │
        │                      ┆             ┆       ┆ 1.35)   ┆ 2.08)   ┆             │
        │ cifar10_3c3d_sigmoid ┆ diag_ggn_mc ┆ 128   ┆ 1.30    ┆ 1.30    ┆ unchanged   │
        │                      ┆             ┆       ┆ (1.26   ┆ (1.26   ┆ within the  │
        │                      ┆             ┆       ┆ to      ┆ to      ┆ intervals   │
        │                      ┆             ┆       ┆ 1.35)   ┆ 1.35)   ┆             │
        └──────────────────────┴─────────────┴───────┴─────────┴─────────┴─────────────┘
        no room here for: figure (--format csv has them)
        1 of 3 rows are not in the baseline

        100 columns
        ┌────────┬──────────────────────┬─────────────┬───────┬────────────┬────────────┬──────────────────┐
        │ figure ┆ problem              ┆ quantity    ┆ batch ┆ ratio      ┆ ratio now  ┆                  │
        │        ┆                      ┆             ┆       ┆ before     ┆            ┆                  │
        ╞════════╪══════════════════════╪═════════════╪═══════╪════════════╪════════════╪══════════════════╡
        │ steps  ┆ cifar10_3c3d_sigmoid ┆ diag_ggn_mc ┆ 128   ┆ 1.30 (1.26 ┆ 2.00 (1.94 ┆ SLOWER           │
        │        ┆                      ┆             ┆       ┆ to 1.35)   ┆ to 2.08)   ┆                  │
        │ steps  ┆ cifar10_3c3d_sigmoid ┆ diag_ggn_mc ┆ 128   ┆ 1.30 (1.26 ┆ 1.30 (1.26 ┆ unchanged within │
        │        ┆                      ┆             ┆       ┆ to 1.35)   ┆ to 1.35)   ┆ the intervals    │
        └────────┴──────────────────────┴─────────────┴───────┴────────────┴────────────┴──────────────────┘
        1 of 3 rows are not in the baseline

        150 columns
        ┌────────┬──────────────────────┬─────────────┬───────┬─────────────────────┬─────────────────────┬────────────────────────────────┐
        │ figure ┆ problem              ┆ quantity    ┆ batch ┆ ratio before        ┆ ratio now           ┆                                │
        ╞════════╪══════════════════════╪═════════════╪═══════╪═════════════════════╪═════════════════════╪════════════════════════════════╡
        │ steps  ┆ cifar10_3c3d_sigmoid ┆ diag_ggn_mc ┆ 128   ┆ 1.30 (1.26 to 1.35) ┆ 2.00 (1.94 to 2.08) ┆ SLOWER                         │
        │ steps  ┆ cifar10_3c3d_sigmoid ┆ diag_ggn_mc ┆ 128   ┆ 1.30 (1.26 to 1.35) ┆ 1.30 (1.26 to 1.35) ┆ unchanged within the intervals │
        └────────┴──────────────────────┴─────────────┴───────┴─────────────────────┴─────────────────────┴────────────────────────────────┘
        1 of 3 rows are not in the baseline
        ");
    }

    #[test]
    fn numbers_and_bars_are_short() {
        assert_eq!([1.234, 12.34, 123.4, f64::NAN].map(short), ["1.23", "12.3", "123", "-"]);
        assert_eq!([-1e-7, 3e-6, 0.0123, 2.5].map(time), ["0 us", "3 us", "12.30 ms", "2.50 s"]);
        assert_eq!((bar(1.0), bar(0.0), bar(0.13125)), ("█".repeat(20), String::new(), "██▋".to_owned()));
    }
}
