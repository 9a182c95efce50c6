//! How well curves agree with published ones: the share of epochs at which our median lies within their quartiles,
//! widened by the quartiles' own distance on each side, what is to be expected of so many seeds, and how the medians differ
//! at the end.

use std::collections::HashMap;
use std::iter::Sum;
use std::path::Path;

use super::read::read_rows;
use super::results::{CurveRow, FinalRow, Results, curve, distinct};
use super::statistics::MedianDistance;
use crate::error::{Error, Result};
use crate::study::experiment::Metric;
use crate::table::{csv, known};

/// The published curves that the program carries with it: figure data of the paper's Figures 7, 10 and 11.
const PUBLISHED: &str = include_str!("../../assets/published_curves.csv");

/// Seeds behind each published curve.
const PUBLISHED_SEEDS: usize = 10;

/// Numbers of seeds above this are taken for unknown: samples of as many would have to be drawn.
const MOST_SEEDS: usize = 1000;

/// In what share of cases the interval of a difference holds it.
const CONFIDENCE: f64 = 0.95;

/// Curves to compare with.
#[derive(Clone, Debug)]
pub struct Reference {
    /// What they are called in figures.
    pub title: String,
    /// The curves; `n`, their number of seeds, may be unknown.
    pub rows: Vec<CurveRow>,
}

impl Reference {
    /// The published curves for `published`, else those of a file with the first seven columns of curves.csv and, where the
    /// number of seeds is known, its column `n`.
    ///
    /// # Errors
    /// When there is no such file, or its columns are others.
    pub fn open(name: &str) -> Result<Self> {
        if name == "published" {
            let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(PUBLISHED.as_bytes());
            let rows: std::result::Result<Vec<CurveRow>, _> = reader.deserialize().collect();
            let mut rows = rows.expect("the published curves that are built in are well-formed");
            rows.iter_mut().for_each(|row| row.n = Some(PUBLISHED_SEEDS));
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
    /// The reference's lower quartile.
    pub lower_quartile: f64,
    /// The reference's upper quartile.
    pub upper_quartile: f64,
}

impl EpochAgreement {
    /// The reference's quartiles, each moved outwards by so many times the distance between them.
    fn bounds(&self, widths: f64) -> [f64; 2] {
        let width = self.upper_quartile - self.lower_quartile;
        [self.lower_quartile - widths * width, self.upper_quartile + widths * width]
    }

    /// How far our median lies outside the quartiles, in distances between them; 0 between them, infinite where there is no
    /// such number.
    pub fn distance(&self) -> f64 {
        if (self.lower_quartile..=self.upper_quartile).contains(&self.median) {
            return 0.0;
        }
        let outside = (self.lower_quartile - self.median).max(self.median - self.upper_quartile);
        let distance = outside / (self.upper_quartile - self.lower_quartile);
        // Neither quartiles that are one nor infinite ones are a measure.
        if distance > 0.0 { distance } else { f64::INFINITY }
    }

    /// Whether our median lies between the quartiles, widened on each side by so many times the distance between them.
    pub fn is_within(&self, widths: f64) -> bool {
        self.distance() <= widths + ROUNDING
    }
}

/// What a distance may be off by because values are decimal.
const ROUNDING: f64 = 1e-9;

/// By how many times the distance between them the quartiles are widened for what counts as agreement.
const AGREES: f64 = 1.0;

/// Epochs at which a median lies between quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Within<T> {
    /// Between the quartiles as they are.
    pub inside: T,
    /// Between them widened on each side by the distance between them, which counts as agreement.
    pub once: T,
    /// Between them widened by twice this distance.
    pub twice: T,
}

impl<T> Within<T> {
    /// From the same number for each widening, in distances between the quartiles.
    fn of(number: impl Fn(f64) -> T) -> Self {
        Within { inside: number(0.0), once: number(AGREES), twice: number(2.0 * AGREES) }
    }
}

impl<T: Copy + Sum> Within<T> {
    /// Of several curves or epochs together.
    pub fn sum(all: &[Self]) -> Self {
        Within {
            inside: all.iter().map(|one| one.inside).sum(),
            once: all.iter().map(|one| one.once).sum(),
            twice: all.iter().map(|one| one.twice).sum(),
        }
    }
}

/// Our median less the reference's at one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The epoch.
    pub epoch: usize,
    /// Seeds of ours and of the reference, where they are known.
    pub seeds: [Option<usize>; 2],
    /// The difference.
    pub difference: f64,
    /// Half the length of the interval around it that holds the difference of the two populations' medians in 95 % of all
    /// cases, if runs are independent and both populations normal with the same spread. None where [`Agreement::expected`]
    /// is, and where the reference's quartiles are one or a value is not finite.
    pub bound: Option<f64>,
}

impl Difference {
    /// The interval's ends.
    pub fn interval(&self) -> Option<[f64; 2]> {
        self.bound.map(|bound| [self.difference - bound, self.difference + bound])
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
    /// How many epochs are to be expected within the quartiles if all runs, ours and the reference's, are drawn
    /// independently from one normal distribution. None where a number of seeds is not known or too large at an epoch, where
    /// the reference has a single seed, and where seeds of ours diverged.
    pub expected: Option<Within<f64>>,
    /// How the medians differ at the last of the epochs.
    pub end: Difference,
}

impl Agreement {
    /// Epochs at which the median lies within the quartiles.
    pub fn counts(&self) -> Within<usize> {
        Within::of(|widths| self.epochs.iter().filter(|epoch| epoch.is_within(widths)).count())
    }

    /// The share of epochs that agree.
    pub fn share(&self) -> f64 {
        self.counts().once as f64 / self.epochs.len() as f64
    }

    /// The epoch that is farthest outside the quartiles, the first of several; none where all are between them.
    pub fn farthest(&self) -> Option<&EpochAgreement> {
        let outside = self.epochs.iter().filter(|epoch| epoch.distance() > 0.0);
        outside.reduce(|far, epoch| if epoch.distance() > far.distance() { epoch } else { far })
    }
}

/// The agreement of every curve that the reference has too and that shares an epoch with it.
pub fn agreement(results: &Results, reference: &Reference) -> Vec<Agreement> {
    let mut all = Vec::new();
    let mut distances = Distances::default();
    for problem in results.problems() {
        for optimizer in results.optimizers(&problem) {
            // A diverged seed's values are those before training, or left out: its distribution is not a normal one.
            let own = |row: &&FinalRow| row.problem == problem && row.optimizer == optimizer;
            let diverged = results.finals.iter().filter(own).any(|row| row.diverged > 0);
            let metrics = results.curves.iter().filter(|r| r.problem == problem && r.optimizer == optimizer);
            for metric in distinct(metrics.map(|row| &row.metric)) {
                let theirs = curve(&reference.rows, &problem, &optimizer, metric);
                let ours = results.curve(&problem, &optimizer, metric);
                let pairs: Vec<(&CurveRow, &CurveRow)> = ours
                    .iter()
                    .filter(|row| row.epoch >= 1)
                    .filter_map(|row| Some((*row, *theirs.iter().find(|other| other.epoch == row.epoch)?)))
                    .collect();
                let Some((own, other)) = pairs.last() else { continue };
                let expected = if diverged { None } else { distances.expected(&pairs) };
                all.push(Agreement {
                    problem: problem.clone(),
                    optimizer: optimizer.clone(),
                    metric,
                    epochs: pairs.iter().map(|(own, other)| at(own, other)).collect(),
                    end: end(own, other, expected.and_then(|_| distances.of(own, other))),
                    expected,
                });
            }
        }
    }
    all
}

/// What is known of distances, by the numbers of seeds: a study has few of them.
#[derive(Default)]
struct Distances(HashMap<[usize; 2], MedianDistance>);

impl Distances {
    /// For the seeds of two rows; none where they are not known, too many, or too few for quartiles.
    fn of(&mut self, ours: &CurveRow, theirs: &CurveRow) -> Option<&MedianDistance> {
        let (Some(own @ 1..=MOST_SEEDS), Some(other @ 2..=MOST_SEEDS)) = (ours.n, theirs.n) else { return None };
        Some(self.0.entry([own, other]).or_insert_with(|| MedianDistance::of(own, other)))
    }

    /// How many epochs are to be expected within the quartiles, each with its own numbers of seeds.
    fn expected(&mut self, pairs: &[(&CurveRow, &CurveRow)]) -> Option<Within<f64>> {
        let shares = pairs.iter().map(|(ours, theirs)| {
            let distance = self.of(ours, theirs)?;
            Some(Within::of(|widths| distance.share_within(widths)))
        });
        Some(Within::sum(&shares.collect::<Option<Vec<_>>>()?))
    }
}

fn at(ours: &CurveRow, theirs: &CurveRow) -> EpochAgreement {
    EpochAgreement {
        epoch: ours.epoch,
        median: ours.median,
        reference: theirs.median,
        lower_quartile: theirs.lower_quartile,
        upper_quartile: theirs.upper_quartile,
    }
}

fn end(ours: &CurveRow, theirs: &CurveRow, distance: Option<&MedianDistance>) -> Difference {
    let difference = ours.median - theirs.median;
    let width = theirs.upper_quartile - theirs.lower_quartile;
    let bound = distance.map(|distance| distance.bound(CONFIDENCE) * width);
    let bound = bound.filter(|bound| difference.is_finite() && bound.is_finite() && *bound > 0.0);
    Difference { epoch: ours.epoch, seeds: [ours.n, theirs.n], difference, bound }
}

/// agreement.csv: one row a curve. What is not known is empty.
///
/// # Errors
/// None that input can reach.
pub fn to_csv(agreements: &[Agreement]) -> Result<String> {
    let header = [
        "problem",
        "optimizer",
        "metric",
        "epochs",
        "within",
        "share",
        "inside",
        "within_twice",
        "expected_inside",
        "expected_within",
        "expected_within_twice",
        "farthest_epoch",
        "farthest_distance",
        "last_epoch",
        "n",
        "reference_n",
        "difference",
        "difference_lower",
        "difference_upper",
    ];
    let record = |a: &Agreement| {
        let (counts, farthest, interval) = (a.counts(), a.farthest(), a.end.interval());
        let mut cells = names(a).to_vec();
        cells.extend([a.epochs.len(), counts.once].map(|count| count.to_string()));
        cells.push(a.share().to_string());
        cells.extend([counts.inside, counts.twice].map(|count| count.to_string()));
        cells
            .extend([a.expected.map(|e| e.inside), a.expected.map(|e| e.once), a.expected.map(|e| e.twice)].map(known));
        cells.extend([known(farthest.map(|far| far.epoch)), known(farthest.map(EpochAgreement::distance))]);
        cells.extend([a.end.epoch.to_string(), known(a.end.seeds[0]), known(a.end.seeds[1])]);
        cells.push(a.end.difference.to_string());
        cells.extend([known(interval.map(|[low, _]| low)), known(interval.map(|[_, high]| high))]);
        cells
    };
    csv(&header, agreements.iter().map(record))
}

/// agreement_epochs.csv: one row an epoch of a curve, with the bounds of what counts as agreement.
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
        "reference_lower_quartile",
        "reference_upper_quartile",
        "distance",
    ];
    let records = agreements.iter().flat_map(|a| {
        a.epochs.iter().map(|e| {
            let [lower, upper] = e.bounds(AGREES);
            let mut cells = names(a).to_vec();
            cells.push(e.epoch.to_string());
            cells.extend([e.median, e.reference, lower, upper].map(|value| value.to_string()));
            cells.push(e.is_within(AGREES).to_string());
            cells.extend([e.lower_quartile, e.upper_quartile, e.distance()].map(|value| value.to_string()));
            cells
        })
    });
    csv(&header, records)
}

fn names(agreement: &Agreement) -> [String; 3] {
    [agreement.problem.clone(), agreement.optimizer.clone(), agreement.metric.to_string()]
}
