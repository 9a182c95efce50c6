//! The rows of a study's files of results: what the study writes and a report reads. The order of the fields is that of the
//! columns; what earlier versions of the program did not write, and published curves do not have, may be missing.

mod of_grids;
mod of_seeds;

use csv::{ReaderBuilder, StringRecord, WriterBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::experiment::Metric;
use crate::error::{Error, Result};

pub use of_grids::{GridRow, SingleRow, TuningRow};
pub use of_seeds::{CurveRow, FinalRow, SeedRow, TargetRow};

/// A kind of row with its header line.
pub trait Record: Serialize + DeserializeOwned {
    /// The names of the columns, those of an optimizer's options left out: they stand behind the damping.
    const COLUMNS: &'static [&'static str];
}

/// Rows as CSV with their header.
///
/// # Errors
/// None but those of writing to memory.
pub(super) fn to_csv<R: Record>(rows: &[R]) -> Result<String> {
    let bytes = write(Some(R::COLUMNS), |writer| rows.iter().try_for_each(|row| writer.serialize(row)))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Rows with cells of options behind their damping, and without the last columns, as CSV with their header.
///
/// # Errors
/// None but those of writing to memory.
pub(super) fn to_csv_with_options<R: Record>(
    rows: &[(R, Vec<String>)],
    options: &[&str],
    left_out: usize,
) -> Result<String> {
    let columns = &R::COLUMNS[..R::COLUMNS.len() - left_out];
    let place = columns.iter().position(|column| *column == "damping").map_or(columns.len(), |place| place + 1);
    let header = [&columns[..place], options, &columns[place..]].concat();
    let plain = write(None, |writer| rows.iter().try_for_each(|(row, _)| writer.serialize(row)))?;
    let mut reader = ReaderBuilder::new().has_headers(false).from_reader(plain.as_slice());
    let bytes = write(Some(&header), |writer| {
        reader.records().zip(rows).try_for_each(|(record, (_, cells))| {
            let record: StringRecord = record?;
            let behind = record.iter().take(columns.len()).skip(place);
            writer.write_record(record.iter().take(place).chain(cells.iter().map(String::as_str)).chain(behind))
        })
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

type Writer = csv::Writer<Vec<u8>>;

fn write(header: Option<&[&str]>, fill: impl FnOnce(&mut Writer) -> csv::Result<()>) -> Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| Error::Environment(format!("writing CSV: {error}"));
    // What reads results takes a line that begins with # for a comment.
    let mut writer = WriterBuilder::new().has_headers(false).comment(Some(b'#')).from_writer(Vec::new());
    let written = header.map_or(Ok(()), |header| writer.write_record(header)).and_then(|()| fill(&mut writer));
    written.map_err(|error| failed(&error))?;
    writer.into_inner().map_err(|error| failed(&error))
}

/// Numbers as they are shown, in the shortest form that reads back equal, never with an exponent.
mod shown {
    use serde::Serializer;

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub mod option {
        use serde::Serializer;

        pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => serializer.collect_str(value),
                None => serializer.serialize_none(),
            }
        }
    }
}

/// The value of one metric among those of a row, in the order of [`Metric::NAMES`]; nothing where it was not measured or
/// is no number.
fn measured(metric: Metric, values: [Option<f64>; 6]) -> Option<f64> {
    let place = Metric::NAMES.iter().position(|(_, named)| *named == metric)?;
    values[place].filter(|value| !value.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields that a row is written with.
    fn fields<R: Record>(text: &str) -> String {
        let row: R = csv::Reader::from_reader(text.as_bytes()).deserialize().next().unwrap().unwrap();
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(row).unwrap();
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_reads_back_and_columns_are_the_fields() {
        let curve = "problem,optimizer,metric,epoch,median,lower_quartile,upper_quartile,mean,std,n\n\
                     p,\"A, B\",test_losses,1,0.0000000001,NaN,inf,1,0,3\n";
        assert_eq!(fields::<CurveRow>(curve), curve);
        assert_eq!(curve.lines().next().unwrap(), CurveRow::COLUMNS.join(","));
        let seed = "problem,optimizer,seed,status,epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,test_loss,\
                    test_accuracy,train_seconds,eval_seconds\np,A,42,waiting,0,2.5,0.1,NaN,0.2,inf,0.3,0,0.25\n";
        assert_eq!(fields::<SeedRow>(seed), seed);
        assert_eq!(seed.lines().next().unwrap(), SeedRow::COLUMNS.join(","));
        let grid = "problem,optimizer,learning_rate,damping,seed,status,epoch,train_loss,train_accuracy,valid_loss,\
                    valid_accuracy,test_loss,test_accuracy,rank,best\np,A,0.1,,42,failed,,,,,,,,,false\n";
        assert_eq!(fields::<GridRow>(grid), grid);
        assert_eq!(grid.lines().next().unwrap(), GridRow::COLUMNS.join(","));
        let target =
            "problem,optimizer,seed,metric,value,reached,steps,epochs,seconds\np,A,1,test_losses,0.5,true,100,2,0.5\n";
        assert_eq!(fields::<TargetRow>(target), target);
        assert_eq!(target.lines().next().unwrap(), TargetRow::COLUMNS.join(","));
        let tuning = "problem,optimizer,repeat,learning_rate,damping,epoch,train_loss,train_accuracy,valid_loss,\
                      valid_accuracy,test_loss,test_accuracy\np,A,1,0.00001,1,,,,,,0.5,\n";
        assert_eq!(fields::<TuningRow>(tuning), tuning);
        assert_eq!(tuning.lines().next().unwrap(), TuningRow::COLUMNS.join(","));
        let single = "optimizer,learning_rate,damping,problem,rank,settings,metric,value,best_value,test_loss,\
                      best_test_loss,test_accuracy,best_test_accuracy\nA,0.1,,p,2,30,valid_accuracies,0.5,0.75,,,0.5,1\n";
        assert_eq!(fields::<SingleRow>(single), single);
        assert_eq!(single.lines().next().unwrap(), SingleRow::COLUMNS.join(","));
    }

    #[test]
    fn options_stand_behind_the_damping() {
        let row: GridRow = csv::Reader::from_reader(
            "problem,optimizer,learning_rate,damping,train_loss,train_accuracy,valid_loss,valid_accuracy,test_loss,\
             test_accuracy,rank\n#p,A,0.1,1,,,,,,,\n"
                .as_bytes(),
        )
        .deserialize()
        .next()
        .unwrap()
        .unwrap();
        let text = to_csv_with_options(&[(row, vec!["ema:0.9".to_owned(), "a,b".to_owned()])], &["averaging", "x"], 2)
            .unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("problem,optimizer,learning_rate,damping,averaging,x,seed,"), "{text}");
        assert!(lines[0].ends_with(",test_loss,test_accuracy"), "{text}");
        assert!(lines[1].starts_with("\"#p\",A,0.1,1,ema:0.9,\"a,b\",,waiting,"), "{text}");
    }
}
