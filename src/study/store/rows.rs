//! The rows of epochs.csv and steps.csv.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};

/// One evaluation: a row of epochs.csv. Losses include the regulariser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Epochs trained so far; row 0 precedes training.
    pub epoch: usize,
    /// Mean loss over the batches of the train-eval samples.
    pub train_loss: f64,
    /// Mean accuracy over them.
    pub train_accuracy: f64,
    /// Mean loss over the validation batches.
    pub valid_loss: f64,
    /// Mean accuracy over them.
    pub valid_accuracy: f64,
    /// Mean loss over the test batches.
    pub test_loss: f64,
    /// Mean accuracy over them.
    pub test_accuracy: f64,
    /// Seconds that this epoch's training took, without evaluation and checkpoints.
    pub train_seconds: f64,
    /// Seconds that this evaluation took.
    pub eval_seconds: f64,
}

/// The loss of one mini-batch, the regulariser included: a row of steps.csv.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// The epoch in which the step was made, counted from 1 as in epochs.csv.
    pub epoch: usize,
    /// Steps made before this one, over all epochs.
    pub step: u64,
    /// The mini-batch's loss before the step.
    pub loss: f64,
}

/// One number about a step: a row of diagnostics.csv.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagnosticRow {
    /// Steps made before this one, over all epochs.
    pub step: u64,
    /// The epoch in which the step was made, counted from 1 as in epochs.csv.
    pub epoch: usize,
    /// What it is; docs/diagnostics.md lists the names.
    pub name: String,
    /// The layer's path, or `all`.
    pub layer: String,
    /// The number.
    pub value: f64,
}

/// A kind of row with its header line.
pub trait Row: Serialize + DeserializeOwned {
    /// The names of the columns.
    const COLUMNS: &'static [&'static str];
}

impl Row for EpochRow {
    const COLUMNS: &'static [&'static str] = &[
        "epoch",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "test_loss",
        "test_accuracy",
        "train_seconds",
        "eval_seconds",
    ];
}

impl Row for StepRow {
    const COLUMNS: &'static [&'static str] = &["epoch", "step", "loss"];
}

impl Row for DiagnosticRow {
    const COLUMNS: &'static [&'static str] = &["step", "epoch", "name", "layer", "value"];
}

/// The rows as CSV with a header; numbers in the shortest form that reads back equal.
pub fn to_csv<R: Row>(rows: &[R]) -> Result<String> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let written = writer
        .write_record(R::COLUMNS)
        .and_then(|()| rows.iter().try_for_each(|row| writer.serialize(row)))
        .map_err(|error| error.to_string())
        .and_then(|()| writer.into_inner().map_err(|error| error.to_string()))
        .and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string()));
    written.map_err(|error| Error::Environment(format!("rows cannot be written as CSV: {error}")))
}

/// Reads what [`to_csv`] wrote; `path` is for the error alone.
///
/// # Errors
/// [`Error::Config`] with line and column name when a field is missing or is not a number.
pub fn from_csv<R: Row>(text: &str, path: &Path) -> Result<Vec<R>> {
    csv::Reader::from_reader(text.as_bytes())
        .deserialize()
        .collect::<Result<Vec<R>, _>>()
        .map_err(|error| Error::Config(format!("{}: {error}; expected the columns {:?}", path.display(), R::COLUMNS)))
}

/// The rows of epochs.csv as [`to_csv`] writes them, many times faster than [`from_csv`]; nothing where anything is
/// otherwise.
pub(super) fn plain_epochs(text: &str) -> Option<Vec<EpochRow>> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    lines.next()?.split(',').eq(EpochRow::COLUMNS.iter().copied()).then_some(())?;
    lines
        .map(|line| {
            let mut fields = line.split(',');
            let epoch = fields.next()?.parse().ok()?;
            let mut number = || fields.next()?.parse::<f64>().ok();
            let row = EpochRow {
                epoch,
                train_loss: number()?,
                train_accuracy: number()?,
                valid_loss: number()?,
                valid_accuracy: number()?,
                test_loss: number()?,
                test_accuracy: number()?,
                train_seconds: number()?,
                eval_seconds: number()?,
            };
            fields.next().is_none().then_some(row)
        })
        .collect()
}

/// Reads a CSV file of rows.
pub fn read<R: Row>(path: &Path) -> Result<Vec<R>> {
    from_csv(&crate::files::read_to_string(path).at("reading", path)?, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: usize, value: f64) -> EpochRow {
        EpochRow {
            epoch,
            train_loss: value,
            train_accuracy: 0.1,
            valid_loss: 1.0 / 3.0,
            valid_accuracy: 1e-300,
            test_loss: 1e22,
            test_accuracy: 1.0,
            train_seconds: 0.0,
            eval_seconds: 0.25,
        }
    }

    #[test]
    fn floats_read_back_equal() {
        let rows = [row(0, 2.3025853633880615), row(1, f64::from(0.1f32)), row(2, f64::INFINITY)];
        let text = to_csv(&rows).unwrap();
        assert!(text.starts_with(
            "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,test_loss,test_accuracy,train_seconds,eval_seconds\n"
        ));
        assert_eq!(from_csv::<EpochRow>(&text, Path::new("e")).unwrap(), rows);
        assert_eq!(plain_epochs(&text).unwrap(), rows);
        for other in
            [&text[..text.len() - 1], &text[1..], &text.replace("0.25", "\"0.25\""), &text.replace(",0.1,", ",")]
        {
            assert_eq!(plain_epochs(other), None, "{other}");
        }
        let nan = from_csv::<EpochRow>(&to_csv(&[row(0, f64::NAN)]).unwrap(), Path::new("e")).unwrap();
        assert!(nan[0].train_loss.is_nan());
    }

    #[test]
    fn no_rows_leave_the_header() {
        assert_eq!(to_csv::<StepRow>(&[]).unwrap(), "epoch,step,loss\n");
        assert_eq!(from_csv::<StepRow>("epoch,step,loss\n", Path::new("s")).unwrap(), []);
    }

    #[test]
    fn a_damaged_row_is_named() {
        let error = from_csv::<StepRow>("epoch,step,loss\n1,0,x\n", Path::new("s.csv")).unwrap_err().to_string();
        assert!(error.contains("s.csv") && error.contains("line: 2"), "{error}");
    }
}
