//! A row of a benchmark as bench.csv holds it, and reading and writing of such tables.

use std::io::{Read, Write};

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};

/// What was measured of one quantity (or optimizer) on one problem.
///
/// The fields are the columns of bench.csv, in their order. A number that is not there (an empty cell, or null, as JSON
/// writes what is no number) reads as NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The figure that it belongs to: `3`, `6`, `8`, `9`, `steps`, or `problem` for a problem of the user's choice.
    pub figure: String,
    /// The problem's name.
    pub problem: String,
    /// The quantity's name; `loop` for the individual gradients by a loop over the samples; the optimizer's name in
    /// `steps`.
    pub quantity: String,
    /// Samples in the batch.
    pub batch_size: usize,
    /// Threads that libtorch computed with.
    pub threads: usize,
    /// Pairs that were timed.
    pub rounds: usize,
    /// The median of libtorch's own gradient: forward and backward by automatic differentiation.
    #[serde(deserialize_with = "number")]
    pub gradient_seconds: f64,
    /// The median of forward, gradient and quantity; in `steps` of the whole step.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// The median over the pairs of the second time over the first.
    #[serde(deserialize_with = "number")]
    pub ratio: f64,
    /// The lower end of the 95 % interval of `ratio`.
    #[serde(deserialize_with = "number")]
    pub ratio_low: f64,
    /// The upper end of the 95 % interval of `ratio`.
    #[serde(deserialize_with = "number")]
    pub ratio_high: f64,
    /// The most memory that a process which computes this once takes in all, the program and libtorch included; none
    /// where it could not be measured.
    pub peak_bytes: Option<u64>,
}

impl Row {
    /// The columns of bench.csv.
    pub const HEADER: [&'static str; 12] = [
        "figure",
        "problem",
        "quantity",
        "batch_size",
        "threads",
        "rounds",
        "gradient_seconds",
        "seconds",
        "ratio",
        "ratio_low",
        "ratio_high",
        "peak_bytes",
    ];

    /// Whether two rows measured the same thing, perhaps at different times.
    pub fn is_of_the_same(&self, other: &Row) -> bool {
        (&self.figure, &self.problem, &self.quantity, self.batch_size, self.threads)
            == (&other.figure, &other.problem, &other.quantity, other.batch_size, other.threads)
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Writes a table of rows with its header.
///
/// # Errors
/// [`Error::Environment`] where the writer fails.
pub fn write_rows(writer: impl Write, rows: &[Row]) -> Result<()> {
    let broken = |error: csv::Error| Error::Environment(format!("writing the rows of a benchmark: {error}"));
    // The header is written by hand so that a table without rows has one too.
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(writer);
    writer.write_record(Row::HEADER).map_err(broken)?;
    for row in rows {
        writer.serialize(row).map_err(broken)?;
    }
    writer.flush().map_err(|error| Error::Environment(format!("writing the rows of a benchmark: {error}")))
}

/// Reads a table of rows; columns are found by their names and further ones are ignored.
///
/// # Errors
/// [`Error::Config`] that names the line and what is wrong with it; `name` says which file it is.
pub fn read_rows(reader: impl Read, name: &str) -> Result<Vec<Row>> {
    let broken = |error: csv::Error| {
        let columns = Row::HEADER.join(",");
        Error::Config(format!("{name}: this is not a table of a benchmark: {error}; expected the columns {columns}"))
    };
    csv::Reader::from_reader(reader).deserialize().map(|row| row.map_err(broken)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            figure: "6".into(),
            problem: "cifar10_3c3d".into(),
            quantity: "kfac".into(),
            batch_size: 128,
            threads: 2,
            rounds: 20,
            gradient_seconds: 0.1,
            seconds: 0.17000000000000004,
            ratio: 1.7,
            ratio_low: 1.65,
            ratio_high: 1.75,
            peak_bytes: Some(612_000_000),
        }
    }

    #[test]
    fn the_csv_has_the_agreed_columns_and_reads_back_equal() {
        let rows = [row(), Row { quantity: "loop".into(), peak_bytes: None, ..row() }];
        let mut bytes = Vec::new();
        write_rows(&mut bytes, &rows).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text.lines().next().unwrap(),
            "figure,problem,quantity,batch_size,threads,rounds,gradient_seconds,seconds,ratio,ratio_low,ratio_high,peak_bytes"
        );
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "6,cifar10_3c3d,kfac,128,2,20,0.1,0.17000000000000004,1.7,1.65,1.75,612000000"
        );
        assert_eq!(read_rows(text.as_bytes(), "bench.csv").unwrap(), rows);
    }

    #[test]
    fn what_is_no_number_is_read_from_both_forms() {
        let line = "6,cifar10_3c3d,kfac,128,2,1,0.1,0.2,2.0,,,\n";
        let read = read_rows(format!("{}\n{line}", Row::HEADER.join(",")).as_bytes(), "bench.csv").unwrap();
        let of_json = serde_json::from_str(&serde_json::to_string(&read[0]).unwrap()).unwrap();
        for row in [&read[0], &of_json] {
            assert!(row.ratio == 2.0 && row.ratio_low.is_nan() && row.ratio_high.is_nan(), "{row:?}");
            assert_eq!(row.peak_bytes, None);
        }
    }

    #[test]
    fn a_table_without_rows_has_its_header_and_a_wrong_table_is_refused() {
        let mut bytes = Vec::new();
        write_rows(&mut bytes, &[]).unwrap();
        assert!(String::from_utf8(bytes.clone()).unwrap().starts_with("figure,problem,"));
        assert_eq!(read_rows(bytes.as_slice(), "bench.csv").unwrap(), []);
        let error = read_rows("figure,problem\n6,p\n".as_bytes(), "b.csv").unwrap_err().to_string();
        assert!(error.contains("b.csv") && error.contains("quantity"), "{error}");
    }
}
