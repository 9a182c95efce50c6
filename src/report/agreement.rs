//! How well curves agree with published ones: the share of epochs at which our median lies within their quartiles,
//! widened by the quartiles' own distance on each side.

use std::path::Path;

use super::read::read_rows;
use super::results::{CurveRow, Results, curve, distinct};
use crate::error::{Error, Result};
use crate::study::experiment::Metric;
use crate::table::csv;

/// The published curves that the program carries with it: figure data of the paper's Figures 7, 10 and 11.
const PUBLISHED: &str = include_str!("../../assets/published_curves.csv");

/// Curves to compare with.
#[derive(Clone, Debug)]
pub struct Reference {
    /// What they are called in figures.
    pub title: String,
    /// The curves; `n` is unknown.
    pub rows: Vec<CurveRow>,
}

impl Reference {
    /// The published curves for `published`, else those of a file with the first seven columns of curves.csv.
    ///
    /// # Errors
    /// When there is no such file, or its columns are others.
    pub fn open(name: &str) -> Result<Self> {
        if name == "published" {
            let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(PUBLISHED.as_bytes());
            let rows: std::result::Result<Vec<CurveRow>, _> = reader.deserialize().collect();
            let rows = rows.expect("the published curves that are built in are well-formed");
            return Ok(Reference { title: "published".to_owned(), rows });
        }
        let path = Path::new(name);
        if !path.is_file() {
            return Err(Error::Usage(format!(
                "--reference {name}: there is no such file; expected `published`, or a CSV file that begins with the columns \
                 problem,optimizer,metric,epoch,median,lower_quartile,upper_quartile"
            )));
        }
        let rows = read_rows(path, &mut Vec::new())?;
        let title = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Reference { title, rows })
    }
}

/// One epoch that both have.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochAgreement {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Our median.
    pub median: f64,
    /// The reference's median.
    pub reference: f64,
    /// The lower end of what counts as agreement.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}

impl EpochAgreement {
    /// Whether our median lies between the ends.
    pub fn holds(&self) -> bool {
        (self.lower..=self.upper).contains(&self.median)
    }
}

/// One curve's agreement.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name.
    pub optimizer: String,
    /// The curve's metric.
    pub metric: Metric,
    /// The epochs that both have, from 1.
    pub epochs: Vec<EpochAgreement>,
}

impl Agreement {
    /// Epochs at which the median lies within the bounds.
    pub fn within(&self) -> usize {
        self.epochs.iter().filter(|epoch| epoch.holds()).count()
    }

    /// The share of epochs at which it does.
    pub fn share(&self) -> f64 {
        self.within() as f64 / self.epochs.len() as f64
    }
}

/// The agreement of every curve that the reference has too and that shares an epoch with it.
pub fn agreement(results: &Results, reference: &Reference) -> Vec<Agreement> {
    let mut all = Vec::new();
    for problem in results.problems() {
        for optimizer in results.optimizers(&problem) {
            let metrics = results.curves.iter().filter(|r| r.problem == problem && r.optimizer == optimizer);
            for metric in distinct(metrics.map(|row| &row.metric)) {
                let theirs = curve(&reference.rows, &problem, &optimizer, metric);
                let ours = results.curve(&problem, &optimizer, metric);
                let epochs: Vec<EpochAgreement> = ours
                    .iter()
                    .filter(|row| row.epoch >= 1)
                    .filter_map(|row| Some(at(row, theirs.iter().find(|other| other.epoch == row.epoch)?)))
                    .collect();
                if !epochs.is_empty() {
                    all.push(Agreement { problem: problem.clone(), optimizer: optimizer.clone(), metric, epochs });
                }
            }
        }
    }
    all
}

fn at(ours: &CurveRow, theirs: &CurveRow) -> EpochAgreement {
    let width = theirs.upper_quartile - theirs.lower_quartile;
    EpochAgreement {
        epoch: ours.epoch,
        median: ours.median,
        reference: theirs.median,
        lower: theirs.lower_quartile - width,
        upper: theirs.upper_quartile + width,
    }
}

/// agreement.csv: one row a curve.
///
/// # Errors
/// None that input can reach.
pub fn to_csv(agreements: &[Agreement]) -> Result<String> {
    let record = |a: &Agreement| {
        let counts = [a.epochs.len(), a.within()].map(|count| count.to_string());
        names(a).into_iter().chain(counts).chain([a.share().to_string()]).collect()
    };
    csv(&["problem", "optimizer", "metric", "epochs", "within", "share"], agreements.iter().map(record))
}

/// agreement_epochs.csv: one row an epoch of a curve.
///
/// # Errors
/// None that input can reach.
pub fn epochs_to_csv(agreements: &[Agreement]) -> Result<String> {
    let header = [
        "problem",
        "optimizer",
        "metric",
        "epoch",
        "median",
        "reference_median",
        "lower_bound",
        "upper_bound",
        "within",
    ];
    let records = agreements.iter().flat_map(|a| {
        a.epochs.iter().map(|e| {
            let values = [e.median, e.reference, e.lower, e.upper].map(|value| value.to_string());
            let head = names(a).into_iter().chain([e.epoch.to_string()]);
            head.chain(values).chain([e.holds().to_string()]).collect()
        })
    });
    csv(&header, records)
}

fn names(agreement: &Agreement) -> [String; 3] {
    [agreement.problem.clone(), agreement.optimizer.clone(), agreement.metric.to_string()]
}
