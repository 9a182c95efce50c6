//! What a study left in its results folder, as rows; made from whatever files are there.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use super::read::GridRow;
use super::read::{self, read_json, read_rows, read_rows_if_there};
use crate::digits::significant;
use crate::error::Result;
use crate::optimizers::OptimizerName;
use crate::statistics::median;
use crate::study::aggregate::Statistics;
use crate::study::experiment::Metric;
use crate::study::results::StudyDiagnosticRow;
pub use crate::study::results::records::{CurveRow, FinalRow, SeedRow, SingleRow, TargetRow, TuningRow};
use crate::study::times::{self, Mark, Quiet, Timed};

/// The four metrics of the paper's figures, in their order.
pub const PAPER_METRICS: [Metric; 4] =
    [Metric::TestLosses, Metric::TrainLosses, Metric::TestAccuracies, Metric::TrainAccuracies];

/// A study's results, and what of them is missing.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The study's name.
    pub name: String,
    /// Where the files lie and the report goes.
    pub folder: PathBuf,
    /// curves.csv, or the same from seeds.csv where it is not there yet.
    pub curves: Vec<CurveRow>,
    /// seeds.csv.
    pub seeds: Vec<SeedRow>,
    /// grid.csv.
    pub grid: Vec<GridRow>,
    /// final.csv.
    pub finals: Vec<FinalRow>,
    /// targets.csv, of a study with a target.
    pub targets: Vec<TargetRow>,
    /// tuning.csv, of a study whose tuning is repeated.
    pub tunings: Vec<TuningRow>,
    /// single.csv, of a study of several problems.
    pub single: Vec<SingleRow>,
    /// diagnostics.csv, of a study with diagnostics.
    pub diagnostics: Vec<StudyDiagnosticRow>,
    /// meta.json; null where it is missing.
    pub meta: Value,
    /// Of several studies side by side, each one's name and meta.json.
    pub studies: Vec<(String, Value)>,
    /// What is missing or incomplete, a sentence each.
    pub notes: Vec<String>,
}

/// How long a study takes to write its files, generously.
const BETWEEN_FILES: std::time::Duration = std::time::Duration::from_millis(500);

impl Results {
    /// Reads what there is in `folder`. Missing files and an unfinished last line are noted, not refused.
    ///
    /// # Errors
    /// When a file cannot be read, or a line other than an unfinished last one is not what it should be.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut results = Results::read_once(folder)?;
        let mut defects = read::defects(folder, &results.meta)?;
        if !defects.is_empty() {
            // A study that is still at it may be between one file and the next.
            std::thread::sleep(BETWEEN_FILES);
            results = Results::read_once(folder)?;
            defects = read::defects(folder, &results.meta)?;
        }
        for defect in defects {
            tracing::warn!("{}: {defect}", folder.display());
            results.notes.push(defect);
        }
        Ok(results)
    }

    fn read_once(folder: &Path) -> Result<Self> {
        let mut notes = Vec::new();
        let mut results = Results {
            name: folder.file_name().map_or_else(|| "study".to_owned(), |name| name.to_string_lossy().into_owned()),
            folder: folder.to_owned(),
            curves: read_rows(&folder.join("curves.csv"), &mut notes)?,
            seeds: read_rows(&folder.join("seeds.csv"), &mut notes)?,
            grid: read_rows(&folder.join("grid.csv"), &mut notes)?,
            finals: read_rows(&folder.join("final.csv"), &mut notes)?,
            // Most studies have none of these.
            targets: read_rows_if_there(&folder.join("targets.csv"), &mut notes)?,
            tunings: read_rows_if_there(&folder.join("tuning.csv"), &mut notes)?,
            single: read_rows_if_there(&folder.join("single.csv"), &mut notes)?,
            diagnostics: read_rows_if_there(&folder.join("diagnostics.csv"), &mut notes)?,
            meta: read_json(&folder.join("meta.json"), &mut notes)?,
            studies: Vec::new(),
            notes,
        };
        if let Some(name) = results.meta["name"].as_str() {
            results.name = name.to_owned();
        }
        let by_time = |problem: &String| results.ends_by_time(problem);
        if distinct(results.seeds.iter().map(|row| &row.problem)).iter().any(by_time) {
            results.notes.push(
                "Runs ended after a given number of seconds, so their results depend on the machine and differ each time."
                    .to_owned(),
            );
        }
        if results.curves.is_empty() && !results.seeds.is_empty() {
            results.curves = curves_of(&results.seeds);
            results.notes.push("The curves are those of the seeds measured so far (seeds.csv).".to_owned());
        }
        Ok(results)
    }

    /// The problems in the order in which they occur.
    pub fn problems(&self) -> Vec<String> {
        let grid = self.grid.iter().map(|row| &row.problem);
        distinct(self.curves.iter().map(|row| &row.problem).chain(grid).chain(self.finals.iter().map(|r| &r.problem)))
    }

    /// The optimizers that have curves on a problem, in the order in which they occur.
    pub fn optimizers(&self, problem: &str) -> Vec<String> {
        distinct(self.curves.iter().filter(|row| row.problem == problem).map(|row| &row.optimizer))
    }

    /// The optimizers that have a grid on a problem.
    pub fn grid_optimizers(&self, problem: &str) -> Vec<String> {
        distinct(self.grid.iter().filter(|row| row.problem == problem).map(|row| &row.optimizer))
    }

    /// Where a problem's runs ended, if not after a number of epochs.
    pub(super) fn length(&self, problem: &str) -> &Value {
        // Older files have the first problem's length alone.
        if self.meta["lengths"].is_object() { &self.meta["lengths"][problem] } else { &self.meta["length"] }
    }

    /// Whether a problem's runs ended after so many seconds, each at an epoch of its own.
    pub fn ends_by_time(&self, problem: &str) -> bool {
        self.length(problem)["seconds"].is_number()
    }

    /// The rows of a problem's seeds.
    pub fn seeds_of(&self, problem: &str) -> impl Iterator<Item = &SeedRow> {
        self.seeds.iter().filter(move |row| row.problem == problem)
    }

    /// The rows of a problem's final values.
    pub fn finals_of(&self, problem: &str) -> impl Iterator<Item = &FinalRow> {
        self.finals.iter().filter(move |row| row.problem == problem)
    }

    /// What meta.json says of the chosen setting.
    pub fn winner(&self, problem: &str, optimizer: &str) -> Option<&Value> {
        let winners = self.meta["winners"].as_array()?;
        winners.iter().find(|winner| winner["problem"] == problem && winner["optimizer"] == optimizer)
    }

    /// What meta.json says of an optimizer's tuning.
    pub fn tuning(&self, problem: &str, optimizer: &str) -> Option<&Value> {
        let tunings = self.meta["tuning"].as_array()?;
        tunings.iter().find(|tuning| tuning["problem"] == problem && tuning["optimizer"] == optimizer)
    }

    /// The chosen setting: learning rate, damping, and the options that tell it from others, with their values.
    pub fn setting(&self, problem: &str, optimizer: &str) -> Vec<(String, String)> {
        let mut setting = Vec::new();
        let mut add = |name: &str, value: Option<f64>| {
            setting.extend(value.map(|value| (name.to_owned(), significant(value, 4))));
        };
        let Some(winner) = self.winner(problem, optimizer) else {
            if let Some(row) = self.finals_of(problem).find(|row| row.optimizer == optimizer) {
                add("lr", Some(row.learning_rate));
                add("damping", row.damping);
            }
            return setting;
        };
        add("lr", winner["learning_rate"].as_f64());
        add("damping", winner["damping"].as_f64());
        for (key, value) in winner["options"].as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            setting.push((key.replace('_', " "), text));
        }
        setting
    }

    /// The edges of the grid on which the chosen setting lies: "lr low", "damping high".
    pub fn edges(&self, problem: &str, optimizer: &str) -> Vec<String> {
        let edge = match self.winner(problem, optimizer) {
            Some(winner) => winner["edge"].as_str().unwrap_or_default(),
            None => self.finals_of(problem).find(|row| row.optimizer == optimizer).map_or("", |row| &row.edge),
        };
        edges_in_words(edge)
    }

    /// What an optimizer is called on the command line, by its own name or that of its label.
    pub fn command_line_name(&self, optimizer: &str) -> Option<&str> {
        let entries = || self.meta["experiment"]["optimizer"].as_array().into_iter().flatten();
        let labelled = entries().find(|entry| entry["label"] == optimizer).and_then(|entry| entry["name"].as_str());
        labelled.or_else(|| {
            OptimizerName::all().into_iter().find(|name| name.title() == optimizer).map(OptimizerName::as_str)
        })
    }

    /// One curve, its epochs ascending.
    pub fn curve(&self, problem: &str, optimizer: &str, metric: Metric) -> Vec<&CurveRow> {
        curve(&self.curves, problem, optimizer, metric)
    }

    /// What the grid's settings were compared by.
    pub fn selection_metric(&self) -> Metric {
        let name = self.meta["select"]["metric"].as_str().unwrap_or_default();
        Metric::NAMES.iter().find(|(key, _)| *key == name).map_or(Metric::ValidAccuracies, |(_, metric)| *metric)
    }

    /// For each epoch, the median over seeds of the training seconds up to it, as on a quiet machine ([`times`]); as far as
    /// any seed measured them.
    pub fn seconds(&self, problem: &str, optimizer: &str) -> Vec<f64> {
        let optimizers = self.timed_optimizers(problem);
        let Some(place) = optimizers.iter().position(|name| name == optimizer) else { return Vec::new() };
        let mut sums: Vec<Vec<f64>> = Vec::new();
        for run in &self.quiet(problem)[place] {
            let mut sum = 0.0;
            for (epoch, quiet) in run.iter().enumerate() {
                sum += quiet.seconds;
                if sums.len() <= epoch {
                    sums.push(Vec::new());
                }
                sums[epoch].push(sum);
            }
        }
        sums.iter().map(|values| median(values)).collect()
    }

    /// What the seconds of a problem are worth: how many epochs' are scaled, and how many dropped, because the machine was
    /// busy; nothing where all are as measured.
    pub fn busy_note(&self, problem: &str) -> Option<String> {
        let quiet = self.quiet(problem);
        let epochs = || quiet.iter().flatten().flat_map(|run| run.iter().skip(1));
        let marked = |mark: Mark| epochs().filter(|epoch| epoch.mark == mark).count();
        let (scaled, dropped) = (marked(Mark::Scaled), marked(Mark::Dropped));
        (scaled + dropped > 0).then(|| {
            format!(
                "The machine was busy: of {} epochs, {scaled} are scaled down by how much longer evaluations took, and \
                 {dropped} are left out.",
                epochs().count()
            )
        })
    }

    /// The seconds of each evaluation of a problem's seeds, in the order of [`Results::timed_optimizers`].
    fn quiet(&self, problem: &str) -> Vec<Vec<Vec<Quiet>>> {
        let run = |own: Vec<&SeedRow>| {
            let timed = |(epoch, row): (usize, &&SeedRow)| {
                let training = row.train_seconds.filter(|_| row.epoch == epoch)?;
                Some(Timed { training, evaluation: row.eval_seconds.unwrap_or(0.0) })
            };
            own.iter().enumerate().map_while(timed).collect::<Vec<_>>()
        };
        let optimizer = |name: &String| {
            let rows = self.seeds.iter().filter(|row| row.problem == problem && row.optimizer == *name);
            by_seed(rows).into_iter().map(run).collect::<Vec<_>>()
        };
        times::quiet(&self.timed_optimizers(problem).iter().map(optimizer).collect::<Vec<_>>())
    }

    /// The optimizers that have seeds on a problem.
    fn timed_optimizers(&self, problem: &str) -> Vec<String> {
        distinct(self.seeds.iter().filter(|row| row.problem == problem).map(|row| &row.optimizer))
    }
}

/// "lr low" for `learning_rate:lowest`, each of several; nothing for a setting inside its grid.
pub fn edges_in_words(edge: &str) -> Vec<String> {
    let word = |part: &str| {
        let (axis, end) = part.split_once(':')?;
        let axis = if axis == "learning_rate" { "lr".to_owned() } else { axis.replace('_', " ") };
        let end = match end {
            "lowest" => "low",
            "highest" => "high",
            other => other,
        };
        Some(format!("{axis} {end}"))
    };
    edge.split(';').filter_map(word).collect()
}

/// One curve of a list, its epochs ascending.
pub fn curve<'a>(rows: &'a [CurveRow], problem: &str, optimizer: &str, metric: Metric) -> Vec<&'a CurveRow> {
    let is_it = |row: &&CurveRow| row.problem == problem && row.optimizer == optimizer && row.metric == metric;
    let mut curve: Vec<&CurveRow> = rows.iter().filter(is_it).collect();
    curve.sort_by_key(|row| row.epoch);
    curve
}

/// The values without repetition, in the order in which they first occur.
pub fn distinct<'a, T: Eq + Hash + Clone + 'a>(values: impl Iterator<Item = &'a T>) -> Vec<T> {
    let mut seen = HashSet::new();
    values.filter(|value| seen.insert(*value)).cloned().collect()
}

/// The rows of each seed by their epochs; the seeds in the order in which they first occur.
pub fn by_seed<'a>(rows: impl Iterator<Item = &'a SeedRow>) -> Vec<Vec<&'a SeedRow>> {
    let (mut seeds, mut places) = (Vec::<Vec<&SeedRow>>::new(), HashMap::new());
    for row in rows {
        let place = *places.entry(row.seed).or_insert(seeds.len());
        if place == seeds.len() {
            seeds.push(Vec::new());
        }
        seeds[place].push(row);
    }
    seeds.iter_mut().for_each(|rows| rows.sort_by_key(|row| row.epoch));
    seeds
}

/// The curves of seeds as measured, for as many as have got to each epoch.
pub fn curves_of(seeds: &[SeedRow]) -> Vec<CurveRow> {
    let mut curves = Vec::new();
    for problem in distinct(seeds.iter().map(|row| &row.problem)) {
        let here: Vec<&SeedRow> = seeds.iter().filter(|row| row.problem == problem).collect();
        for optimizer in distinct(here.iter().map(|row| &row.optimizer)) {
            let own: Vec<&&SeedRow> = here.iter().filter(|row| row.optimizer == optimizer).collect();
            let last = own.iter().map(|row| row.epoch).max().unwrap_or(0);
            for (_, metric) in Metric::NAMES {
                for epoch in 0..=last {
                    let at = own.iter().filter(|row| row.epoch == epoch);
                    let values: Vec<f64> = at.filter_map(|row| row.get(metric)).collect();
                    if let Some(statistics) = Statistics::of(&values) {
                        curves.push(CurveRow {
                            problem: problem.clone(),
                            optimizer: optimizer.clone(),
                            metric,
                            epoch,
                            median: statistics.median,
                            lower_quartile: statistics.lower_quartile,
                            upper_quartile: statistics.upper_quartile,
                            mean: Some(statistics.mean),
                            std: Some(statistics.std),
                            n: Some(statistics.n),
                        });
                    }
                }
            }
        }
    }
    curves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::state::RunState;

    fn results(rows: &[(&str, u64, f64, f64)]) -> Results {
        let mut epochs: Vec<(String, u64)> = Vec::new();
        let row = |&(optimizer, seed, training, evaluation): &(&str, u64, f64, f64)| {
            let epoch = epochs.iter().filter(|(name, own)| name == optimizer && *own == seed).count();
            epochs.push((optimizer.to_owned(), seed));
            SeedRow {
                problem: "p".to_owned(),
                optimizer: optimizer.to_owned(),
                seed,
                status: RunState::Done,
                epoch,
                train_loss: None,
                train_accuracy: None,
                valid_loss: None,
                valid_accuracy: None,
                test_loss: None,
                test_accuracy: None,
                train_seconds: Some(training),
                eval_seconds: Some(evaluation),
            }
        };
        Results { seeds: rows.iter().map(row).collect(), ..Results::default() }
    }

    #[test]
    fn seconds_are_those_of_a_quiet_machine_and_what_was_changed_is_told() {
        let quiet = [("Adam", 1, 0.0, 0.1), ("Adam", 1, 1.0, 0.1), ("Adam", 1, 1.0, 0.1), ("Adam", 1, 1.0, 0.1)];
        assert_eq!(results(&quiet).seconds("p", "Adam"), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(results(&quiet).busy_note("p"), None);
        let busy = [("SGD", 1, 0.0, 0.4), ("SGD", 1, 4.0, 0.4), ("SGD", 1, 400.0, 0.1), ("SGD", 1, 1.0, 0.1)];
        let both = results(&[quiet, busy].concat());
        assert_eq!(both.seconds("p", "Adam"), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(both.seconds("p", "SGD"), [0.0, 1.0, 2.0, 3.0]);
        let note = both.busy_note("p").unwrap();
        let counts: Vec<&str> =
            note.split(|letter: char| !letter.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
        assert_eq!(counts, ["6", "1", "1"], "{note}");
        assert!(both.seconds("p", "KFAC").is_empty() && both.seconds("q", "Adam").is_empty());
    }

    #[test]
    fn curves_of_seeds_are_their_medians_at_each_epoch() {
        let seed = |(problem, optimizer, seed, epoch, test_loss)| SeedRow {
            problem: str::to_owned(problem),
            optimizer: str::to_owned(optimizer),
            epoch,
            test_loss: Some(test_loss),
            ..results(&[("", seed, 0.0, 0.0)]).seeds.remove(0)
        };
        let seeds = [
            ("p", "A", 1, 0, 9.0),
            ("p", "A", 1, 1, 3.0),
            ("p", "A", 2, 0, 5.0),
            ("p", "A", 2, 1, 1.0),
            ("p", "A", 3, 0, 6.0),
            // One has not got there yet.
            ("p", "B", 1, 0, 2.0),
            ("q", "A", 1, 0, 4.0),
        ];
        let curves = curves_of(&seeds.map(seed));
        let found: Vec<_> = curves
            .iter()
            .map(|row| (row.problem.as_str(), row.optimizer.as_str(), row.metric, row.epoch, row.median, row.n))
            .collect();
        let expected = [("p", "A", 0, 6.0, 3), ("p", "A", 1, 2.0, 2), ("p", "B", 0, 2.0, 1), ("q", "A", 0, 4.0, 1)]
            .map(|(problem, optimizer, epoch, median, n)| {
                (problem, optimizer, Metric::TestLosses, epoch, median, Some(n))
            });
        assert_eq!(found, expected);
        assert_eq!((curves[1].lower_quartile, curves[1].upper_quartile), (1.5, 2.5));
        assert_eq!((curves[1].mean, curves[1].std), (Some(2.0), Some(1.0)));
    }
}
