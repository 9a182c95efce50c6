//! The rows of a study's files of results: what the study writes and a report reads. The order of the fields is that of the
//! columns; what earlier versions of the program did not write, and published curves do not have, may be missing.

use csv::{ReaderBuilder, StringRecord, WriterBuilder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::experiment::Metric;
use super::super::state::RunState;
use crate::error::{Error, Result};

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

/// One row of curves.csv: the seeds' quartiles at one epoch. The last three columns are missing in published curves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurveRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// `train_losses` and so on.
    pub metric: Metric,
    /// 0 precedes training.
    pub epoch: usize,
    /// The median over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub median: f64,
    /// The quantile 1/4 over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub lower_quartile: f64,
    /// The quantile 3/4 over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub upper_quartile: f64,
    /// The mean over seeds.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub mean: Option<f64>,
    /// The standard deviation of the population.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub std: Option<f64>,
    /// How many seeds; none for published curves.
    #[serde(default)]
    pub n: Option<usize>,
}

impl Record for CurveRow {
    const COLUMNS: &'static [&'static str] =
        &["problem", "optimizer", "metric", "epoch", "median", "lower_quartile", "upper_quartile", "mean", "std", "n"];
}

/// The value of one metric among those of a row, in the order of [`Metric::NAMES`]; nothing where it was not measured or
/// is no number.
fn measured(metric: Metric, values: [Option<f64>; 6]) -> Option<f64> {
    let place = Metric::NAMES.iter().position(|(_, named)| *named == metric)?;
    values[place].filter(|value| !value.is_nan())
}

/// One row of seeds.csv: one epoch of one seed of a winner, as measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The run's seed.
    pub seed: u64,
    /// The run's state: done, diverged, running and so on.
    pub status: RunState,
    /// 0 precedes training.
    pub epoch: usize,
    /// On the sample of the training file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub train_loss: Option<f64>,
    /// On the sample of the training file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub train_accuracy: Option<f64>,
    /// On the samples split off.
    #[serde(serialize_with = "shown::option::serialize")]
    pub valid_loss: Option<f64>,
    /// On the samples split off.
    #[serde(serialize_with = "shown::option::serialize")]
    pub valid_accuracy: Option<f64>,
    /// On the test file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_loss: Option<f64>,
    /// On the test file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_accuracy: Option<f64>,
    /// That epoch's training alone.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub train_seconds: Option<f64>,
    /// Its evaluation.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub eval_seconds: Option<f64>,
}

impl Record for SeedRow {
    const COLUMNS: &'static [&'static str] = &[
        "problem",
        "optimizer",
        "seed",
        "status",
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

impl SeedRow {
    /// The value of one metric, where it was measured and is a number.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        let values = [
            self.train_loss,
            self.train_accuracy,
            self.valid_loss,
            self.valid_accuracy,
            self.test_loss,
            self.test_accuracy,
        ];
        measured(metric, values)
    }
}

/// One row of grid.csv: one setting with one grid seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The step size.
    #[serde(serialize_with = "shown::serialize")]
    pub learning_rate: f64,
    /// Empty for the baselines.
    #[serde(serialize_with = "shown::option::serialize")]
    pub damping: Option<f64>,
    /// The run's seed.
    #[serde(default)]
    pub seed: Option<u64>,
    /// The run's state.
    #[serde(default)]
    pub status: RunState,
    /// Epochs trained.
    #[serde(default)]
    pub epoch: Option<usize>,
    /// On the sample of the training file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub train_loss: Option<f64>,
    /// On the sample of the training file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub train_accuracy: Option<f64>,
    /// On the samples split off.
    #[serde(serialize_with = "shown::option::serialize")]
    pub valid_loss: Option<f64>,
    /// On the samples split off.
    #[serde(serialize_with = "shown::option::serialize")]
    pub valid_accuracy: Option<f64>,
    /// On the test file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_loss: Option<f64>,
    /// On the test file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_accuracy: Option<f64>,
    /// From 1; empty without a result.
    pub rank: Option<usize>,
    /// Whether this is the chosen setting.
    #[serde(default)]
    pub best: bool,
}

impl Record for GridRow {
    const COLUMNS: &'static [&'static str] = &[
        "problem",
        "optimizer",
        "learning_rate",
        "damping",
        "seed",
        "status",
        "epoch",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "test_loss",
        "test_accuracy",
        "rank",
        "best",
    ];
}

impl GridRow {
    /// The value of one metric, where the run ended with it; a diverged run has none.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        if self.status == RunState::Diverged {
            return None;
        }
        let values = [
            self.train_loss,
            self.train_accuracy,
            self.valid_loss,
            self.valid_accuracy,
            self.test_loss,
            self.test_accuracy,
        ];
        measured(metric, values)
    }
}

/// One row of final.csv: one metric of a winner at the last epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinalRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The step size.
    #[serde(serialize_with = "shown::serialize")]
    pub learning_rate: f64,
    /// Empty for the baselines.
    #[serde(serialize_with = "shown::option::serialize")]
    pub damping: Option<f64>,
    /// `interior`, `single`, or the edges joined by `;`.
    pub edge: String,
    /// `train_losses` and so on.
    pub metric: Metric,
    /// The median over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub median: f64,
    /// The quantile 1/4 over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub lower_quartile: f64,
    /// The quantile 3/4 over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub upper_quartile: f64,
    /// The mean over seeds.
    #[serde(serialize_with = "shown::serialize")]
    pub mean: f64,
    /// The standard deviation of the population.
    #[serde(serialize_with = "shown::serialize")]
    pub std: f64,
    /// How many seeds.
    pub n: usize,
    /// How many of them diverged.
    pub diverged: usize,
    /// Steps to the study's target, where it has one that half of the seeds reached.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub target_steps: Option<f64>,
    /// Epochs to it.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub target_epochs: Option<f64>,
    /// Seconds of training to it.
    #[serde(default, serialize_with = "shown::option::serialize")]
    pub target_seconds: Option<f64>,
    /// Seeds that reached it; nothing without a target.
    #[serde(default)]
    pub target_reached: Option<usize>,
}

impl Record for FinalRow {
    const COLUMNS: &'static [&'static str] = &[
        "problem",
        "optimizer",
        "learning_rate",
        "damping",
        "edge",
        "metric",
        "median",
        "lower_quartile",
        "upper_quartile",
        "mean",
        "std",
        "n",
        "diverged",
        "target_steps",
        "target_epochs",
        "target_seconds",
        "target_reached",
    ];
}

impl FinalRow {
    /// How many of the last columns there are for a study with a target alone.
    pub(super) const TARGET_COLUMNS: usize = 4;
}

/// One row of targets.csv: when one seed of a winner reached the study's target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The run's seed.
    pub seed: u64,
    /// What was to be reached.
    pub metric: Metric,
    /// How much of it.
    #[serde(serialize_with = "shown::serialize")]
    pub value: f64,
    /// Whether it was.
    #[serde(default)]
    pub reached: bool,
    /// Steps to it; empty for a seed that never reached it, as the next two.
    #[serde(serialize_with = "shown::option::serialize")]
    pub steps: Option<f64>,
    /// Epochs to it.
    #[serde(serialize_with = "shown::option::serialize")]
    pub epochs: Option<f64>,
    /// Seconds of training to it.
    #[serde(serialize_with = "shown::option::serialize")]
    pub seconds: Option<f64>,
}

impl Record for TargetRow {
    const COLUMNS: &'static [&'static str] =
        &["problem", "optimizer", "seed", "metric", "value", "reached", "steps", "epochs", "seconds"];
}

/// One row of tuning.csv: what one further tuning, drawn from the finished grid, would have chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TuningRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// Which tuning, from 1.
    pub repeat: usize,
    /// The step size that it chooses.
    #[serde(serialize_with = "shown::serialize")]
    pub learning_rate: f64,
    /// Empty for the baselines.
    #[serde(serialize_with = "shown::option::serialize")]
    pub damping: Option<f64>,
    /// Epochs trained, of the run with the grid's seed, as in all that follows; 0 where that diverged.
    pub epoch: Option<usize>,
    /// On the sample of the training file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub train_loss: Option<f64>,
    /// On the sample of the training file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub train_accuracy: Option<f64>,
    /// On the samples split off.
    #[serde(serialize_with = "shown::option::serialize")]
    pub valid_loss: Option<f64>,
    /// On the samples split off.
    #[serde(serialize_with = "shown::option::serialize")]
    pub valid_accuracy: Option<f64>,
    /// On the test file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_loss: Option<f64>,
    /// On the test file.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_accuracy: Option<f64>,
}

impl Record for TuningRow {
    const COLUMNS: &'static [&'static str] = &[
        "problem",
        "optimizer",
        "repeat",
        "learning_rate",
        "damping",
        "epoch",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "test_loss",
        "test_accuracy",
    ];
}

impl TuningRow {
    /// The value of one of the metrics that are compared.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::TestLosses => self.test_loss,
            Metric::TestAccuracies => self.test_accuracy,
            _ => None,
        }
        .filter(|value| value.is_finite())
    }
}

/// One row of single.csv: the best single setting of an optimizer over all problems, on one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SingleRow {
    /// The optimizer's name as the paper writes it.
    pub optimizer: String,
    /// The step size.
    #[serde(serialize_with = "shown::serialize")]
    pub learning_rate: f64,
    /// Empty for the baselines.
    #[serde(serialize_with = "shown::option::serialize")]
    pub damping: Option<f64>,
    /// The problem's name.
    pub problem: String,
    /// The setting's rank among those of the problem's grid, from 1.
    #[serde(serialize_with = "shown::option::serialize")]
    pub rank: Option<f64>,
    /// How many those are.
    pub settings: Option<usize>,
    /// By what settings are ranked.
    pub metric: Metric,
    /// Its score with the grid's seed, as everything that follows.
    #[serde(serialize_with = "shown::serialize")]
    pub value: f64,
    /// That of the problem's best setting.
    #[serde(serialize_with = "shown::serialize")]
    pub best_value: f64,
    /// At the end.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_loss: Option<f64>,
    /// That of the problem's best setting.
    #[serde(serialize_with = "shown::option::serialize")]
    pub best_test_loss: Option<f64>,
    /// At the end.
    #[serde(serialize_with = "shown::option::serialize")]
    pub test_accuracy: Option<f64>,
    /// That of the problem's best setting.
    #[serde(serialize_with = "shown::option::serialize")]
    pub best_test_accuracy: Option<f64>,
}

impl Record for SingleRow {
    const COLUMNS: &'static [&'static str] = &[
        "optimizer",
        "learning_rate",
        "damping",
        "problem",
        "rank",
        "settings",
        "metric",
        "value",
        "best_value",
        "test_loss",
        "best_test_loss",
        "test_accuracy",
        "best_test_accuracy",
    ];
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
