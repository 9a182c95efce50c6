//! Result folders that are kept up to date while runs are carried out.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::study::aggregate::Diverged;
use crate::study::experiment::Experiment;
use crate::study::packing;
use crate::study::prepare::Prepared;
use crate::study::results::{self, Description, PairResult, Replaces, Targets};
use crate::study::task::RunTask;
use crate::words::count;

/// A folder is written anew after this time, if a run has ended since.
const INTERVAL: Duration = Duration::from_secs(30);

/// The result folders of an experiment.
pub(super) struct ResultFolders<'a> {
    experiment: &'a Experiment,
    prepared: &'a [Prepared],
    diverged: Diverged,
    folders: Vec<Target>,
    written: Instant,
    /// How many runs of a pair have ended since the start, by problem and optimizer.
    ended: HashMap<(String, &'static str), usize>,
}

/// A folder and the pairs whose results it holds.
struct Target {
    folder: PathBuf,
    description: Description,
    pairs: Range<usize>,
}

impl<'a> ResultFolders<'a> {
    /// None yet.
    pub fn new(experiment: &'a Experiment, prepared: &'a [Prepared], diverged: Diverged) -> Self {
        let (folders, ended) = (Vec::new(), HashMap::new());
        ResultFolders { experiment, prepared, diverged, folders, written: Instant::now(), ended }
    }

    /// A folder for these of the pairs.
    pub fn add(&mut self, folder: &Path, name: &str, pairs: Range<usize>) -> Result<()> {
        let description = Description::new(name, self.experiment, self.diverged)?;
        match description.replaces(folder) {
            Replaces::Nothing => {}
            Replaces::Part { same, before, now } => tracing::info!(
                "{}: the experiment has {} now and had {before}; {same} of them are as before, and what they have run is not run \
                 again",
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
        Ok(())
    }

    /// What diverged runs count for.
    pub fn diverged(&self) -> Diverged {
        self.diverged
    }

    /// The experiment's target, if it has one, and how these pairs fare by it.
    pub fn targets(&self, pairs: &[PairResult]) -> Option<Targets> {
        self.experiment.target.map(|target| Targets::new(target, pairs, self.diverged))
    }

    /// Where results are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(|target| target.folder.as_path())
    }

    /// Writes all folders with what there is now, which is handed back.
    ///
    /// # Errors
    /// Where a result cannot be understood, or a folder cannot be written to.
    pub fn write(&mut self) -> Result<Vec<PairResult>> {
        let pairs = results::collect_all(self.experiment, self.prepared)?;
        let targets = self.targets(&pairs);
        for folder in &self.folders {
            results::write(&folder.folder, &folder.description, &pairs[folder.pairs.clone()], targets.as_ref())?;
        }
        self.written = Instant::now();
        Ok(pairs)
    }

    /// To be called with each run that has ended: after as many runs as there are seeds, and from time to time, the
    /// folders are written. What goes wrong then is told and costs no run.
    pub fn ended(&mut self, run: &RunTask) {
        let pair = (run.settings.problem.name.clone(), run.settings.optimizer.name.as_str());
        let ended = self.ended.entry(pair).or_insert(0);
        *ended += 1;
        if (ended.is_multiple_of(self.experiment.seeds.len().max(1)) || self.written.elapsed() > INTERVAL)
            && let Err(error) = self.write()
        {
            tracing::warn!("the results cannot be brought up to date: {error}");
        }
    }
}
