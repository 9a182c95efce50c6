//! Result folders that are kept up to date while runs are carried out.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::aggregate::Diverged;
use super::super::experiment::Experiment;
use super::super::packing;
use super::super::prepare::Prepared;
use super::super::settings::RunTask;
use super::{Description, FinalRow, PairResult, Replaces, Targets, collect_all, final_rows, write};
use crate::error::Result;
use crate::words::count;

/// A folder is written anew after this time, if a run has ended since.
const INTERVAL: Duration = Duration::from_secs(30);
/// The time from one writing to the next is so many times what the former took. A writing reads all runs, so that large
/// studies would else spend more and more of their time on it.
const SPARING: u32 = 10;

/// The result folders of an experiment.
#[derive(Debug)]
pub struct ResultFolders<'a> {
    experiment: &'a Experiment,
    prepared: &'a [Prepared],
    diverged: Diverged,
    folders: Vec<Target>,
    written: Instant,
    /// How long the last writing took.
    took: Duration,
    /// How many runs of a pair have ended since the start, by problem and optimizer.
    ended: HashMap<(String, &'static str), usize>,
}

/// What a study has come to.
#[derive(Clone, Debug)]
pub struct StudyResults {
    /// For each problem and optimizer the grid, the best setting, and its runs.
    pub pairs: Vec<PairResult>,
    /// The rows of final.csv: what the best settings' seeds end with.
    pub rows: Vec<FinalRow>,
    /// What diverged runs count for in them.
    pub diverged: Diverged,
    /// The folders that hold all this as files.
    pub folders: Vec<PathBuf>,
}

/// A folder and the pairs whose results it holds.
#[derive(Debug)]
struct Target {
    folder: PathBuf,
    description: Description,
    pairs: Range<usize>,
}

impl<'a> ResultFolders<'a> {
    /// None yet.
    pub fn new(experiment: &'a Experiment, prepared: &'a [Prepared], diverged: Diverged) -> Self {
        let (folders, ended) = (Vec::new(), HashMap::new());
        let (written, took) = (Instant::now(), Duration::ZERO);
        ResultFolders { experiment, prepared, diverged, folders, written, took, ended }
    }

    /// With a folder for these of the pairs. What becomes of the results that lie there is told.
    ///
    /// # Errors
    /// Where the experiment cannot be written as an experiment file.
    pub fn with(mut self, folder: &Path, name: &str, pairs: Range<usize>) -> Result<Self> {
        let description = Description::new(name, self.experiment, self.diverged)?;
        match description.replaces(folder) {
            Replaces::Nothing => {}
            Replaces::Part { same, before, now } => tracing::info!(
                "{}: the experiment now has {} instead of {before}; {same} unchanged, whose runs are not repeated",
                folder.display(),
                count(now, "optimizer")
            ),
            Replaces::Another => tracing::warn!(
                "{}: the results of another experiment are replaced; its runs stay in the runs folder (--results-dir or \
                 another name keeps both)",
                folder.display()
            ),
        }
        if let Some(runs) = self.prepared.iter().flat_map(|pair| &pair.tasks).map(|task| &task.runs_dir).next()
            && let Some(advice) = packing::advice(folder, runs)
        {
            tracing::warn!("{advice}");
        }
        self.folders.push(Target { folder: folder.to_owned(), description, pairs });
        Ok(self)
    }

    /// The experiment's target, if it has one, and how these pairs fare by it.
    fn targets(&self, pairs: &[PairResult]) -> Option<Targets> {
        self.experiment.target.map(|target| Targets::new(target, pairs, self.diverged))
    }

    /// Writes all folders with what there is now, which is handed back.
    ///
    /// # Errors
    /// Where a result cannot be understood, or a folder cannot be written to.
    pub fn write(&mut self) -> Result<Vec<PairResult>> {
        let began = Instant::now();
        let pairs = collect_all(self.experiment, self.prepared)?;
        let targets = self.targets(&pairs);
        for folder in &self.folders {
            write(&folder.folder, &folder.description, &pairs[folder.pairs.clone()], targets.as_ref())?;
        }
        self.written = Instant::now();
        self.took = self.written - began;
        Ok(pairs)
    }

    /// These results of the pairs, with where they lie.
    pub(in crate::study) fn results(&self, pairs: Vec<PairResult>) -> StudyResults {
        StudyResults {
            rows: final_rows(&pairs, self.diverged, self.targets(&pairs).as_ref()),
            pairs,
            diverged: self.diverged,
            folders: self.folders.iter().map(|target| target.folder.clone()).collect(),
        }
    }

    /// To be called with each run that has ended: after as many runs as there are seeds, and from time to time, the
    /// folders are written, unless that was done just before. What goes wrong then is told and costs no run.
    pub fn ended(&mut self, run: &RunTask) {
        let pair = (run.settings.problem.name.clone(), run.settings.optimizer.name.as_str());
        let ended = self.ended.entry(pair).or_insert(0);
        *ended += 1;
        let whole = ended.is_multiple_of(self.experiment.seeds.len().max(1));
        if is_due(whole, self.written.elapsed(), self.took)
            && let Err(error) = self.write()
        {
            tracing::warn!("the results cannot be brought up to date: {error}");
        }
    }
}

/// Whether folders are to be written that were written so long ago, which took so long, where as many runs have ended as
/// there are seeds, or others.
fn is_due(whole: bool, since: Duration, took: Duration) -> bool {
    (whole || since > INTERVAL) && since >= took * SPARING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_written_more_rarely() {
        let seconds = Duration::from_secs;
        let quick = Duration::from_millis(50);
        assert!(is_due(true, Duration::from_millis(500), quick) && !is_due(true, Duration::from_millis(499), quick));
        assert!(is_due(false, seconds(31), quick) && !is_due(false, seconds(30), quick));
        // Reading thousands of runs takes seconds.
        assert!(!is_due(true, seconds(59), seconds(6)) && is_due(true, seconds(60), seconds(6)));
        assert!(!is_due(false, seconds(59), seconds(6)) && is_due(false, seconds(60), seconds(6)));
    }
}
