//! From an experiment to its results: its runs, its grids rung by rung, the best settings, their seeds, the result folders.

use std::collections::HashSet;
use std::path::Path;

use super::aggregate::Diverged;
use super::collect::GridResult;
use super::event::{Outcome, RunEvent, StudyEvent};
use super::experiment::Experiment;
use super::forecast::{self, Stage};
use super::launch::{self, Launcher, Observer};
use super::prepare::{self, Folders, Prepared};
use super::results::{PairResult, ResultFolders, StudyResults, collect_all};
use super::run;
use super::settings::RunTask;
use super::standing::{self, Planned, Standing};
use super::store::RunFolder;
use crate::doctor;
use crate::error::{EXIT_FAILED, Error, Result};
use crate::signals::Stop;

/// How runs are carried out.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What starts them.
    pub launcher: Launcher,
    /// Also carry out runs that failed by themselves before.
    pub retry_failed: bool,
    /// What stops them after a checkpoint.
    pub stop: Stop,
}

/// Who is told what happens.
pub type Tell<'a> = &'a mut dyn FnMut(StudyEvent);

/// An experiment with its runs: every optimizer on every problem of it.
#[derive(Clone, Debug)]
pub struct Study {
    /// The experiment.
    pub experiment: Experiment,
    /// Its optimizers on its problems, with the runs of their grids.
    pub pairs: Vec<Prepared>,
}

/// What has come of runs, whether or not some of them failed.
#[derive(Debug)]
pub struct Conclusion<T> {
    /// What they measured.
    pub results: T,
    /// What went wrong, if anything did.
    pub failure: Option<Error>,
}

impl Study {
    /// The runs of an experiment: the grids with the one grid seed.
    ///
    /// # Errors
    /// As [`prepare::prepare`].
    pub fn prepare(experiment: Experiment, folders: &Folders) -> Result<Self> {
        let pairs = prepare::prepare(&experiment, &experiment.pairs(), &[experiment.grid_seed], folders)?;
        Ok(Study { experiment, pairs })
    }

    /// The runs of its grids alone, with the seeds that were given for them.
    ///
    /// # Errors
    /// As [`prepare::prepare`].
    pub fn of_grids(experiment: Experiment, folders: &Folders) -> Result<Self> {
        let pairs = prepare::prepare(&experiment, &experiment.pairs(), &experiment.grid_seeds(), folders)?;
        Ok(Study { experiment, pairs })
    }

    /// The runs of its one setting, with the seeds that were given.
    ///
    /// # Errors
    /// As [`prepare::prepare`], and where there are several settings.
    pub fn of_one_setting(experiment: Experiment, folders: &Folders) -> Result<Self> {
        let pairs = prepare::prepare(&experiment, &[experiment.single()?], &experiment.grid_seeds(), folders)?;
        Ok(Study { experiment, pairs })
    }

    /// Carries the experiment out: the grids of all pairs that have something to choose, then the best settings with all
    /// seeds. The folders hold the results at every time. Runs that have their results are not done twice.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and [`Error::Environment`] where nothing could go on. What else went wrong is part of the
    /// conclusion.
    pub fn carry_out(&self, mut results: ResultFolders, terms: &Terms, tell: Tell) -> Result<Conclusion<StudyResults>> {
        let outcome = results.write().and_then(|_| {
            let tell = &mut |event: StudyEvent| keep(event, &mut results, tell);
            let grids = self.run_grids(&self.choices(), terms, tell);
            match grids {
                Ok(()) => self.run_seeds(terms, tell),
                // The other grids are whole; what failed first is told last.
                Err(Error::Failed(_)) => match self.run_seeds(terms, tell) {
                    Ok(()) | Err(Error::Failed(_)) => grids,
                    worse => worse,
                },
                worse => worse,
            }
        });
        results.conclude(outcome)
    }

    /// Carries out the seeds of every best setting that is known.
    ///
    /// # Errors
    /// As [`Study::carry_out`].
    pub fn carry_out_seeds(
        &self,
        mut results: ResultFolders,
        terms: &Terms,
        tell: Tell,
    ) -> Result<Conclusion<StudyResults>> {
        results.write()?;
        let outcome = self.run_seeds(terms, &mut |event| keep(event, &mut results, tell));
        results.conclude(outcome)
    }

    /// Carries out all grids, those of one setting too.
    ///
    /// # Errors
    /// As [`Study::carry_out`].
    pub fn carry_out_grids(&self, terms: &Terms, tell: Tell) -> Result<Conclusion<Vec<GridResult>>> {
        let outcome = self.run_grids(&self.pairs.iter().collect::<Vec<_>>(), terms, tell);
        conclude(outcome, || self.pairs.iter().map(|pair| GridResult::collect(pair, self.experiment.select)).collect())
    }

    /// Carries out every setting with every seed.
    ///
    /// # Errors
    /// As [`Study::carry_out`].
    pub fn carry_out_runs(&self, terms: &Terms, tell: Tell) -> Result<()> {
        carry_out_remaining(self.runs(), terms, tell)
    }

    /// Every setting with every seed.
    pub fn runs(&self) -> Vec<RunTask> {
        self.pairs.iter().flat_map(|pair| pair.tasks.clone()).collect()
    }

    /// The grids that have something to choose.
    pub fn choices(&self) -> Vec<&Prepared> {
        self.pairs.iter().filter(|pair| pair.grid.settings.len() > 1).collect()
    }

    /// What there is of the results now.
    ///
    /// # Errors
    /// Where a result cannot be understood.
    pub fn collect(&self) -> Result<Vec<PairResult>> {
        collect_all(&self.experiment, &self.pairs)
    }

    /// One result folder for all pairs, with the experiment's name.
    ///
    /// # Errors
    /// Where the experiment cannot be written as a file.
    pub fn results_in(&self, results: &Path, diverged: Diverged) -> Result<ResultFolders<'_>> {
        let name = &self.experiment.name;
        ResultFolders::new(&self.experiment, &self.pairs, diverged).with(&results.join(name), name, 0..self.pairs.len())
    }

    /// One result folder for each pair, named PROBLEM__OPTIMIZER.
    ///
    /// # Errors
    /// Where the experiment cannot be written as a file.
    pub fn results_by_pair(&self, results: &Path, diverged: Diverged) -> Result<ResultFolders<'_>> {
        let none = ResultFolders::new(&self.experiment, &self.pairs, diverged);
        self.pairs.iter().enumerate().try_fold(none, |folders, (place, pair)| {
            let problem = pair.grid.settings.first().map_or("", |settings| settings.problem.name.as_str());
            let name = format!("{problem}__{}", pair.grid.optimizer);
            folders.with(&results.join(&name), &name, place..place + 1)
        })
    }

    /// The stages that [`Study::carry_out`] would go through, as far as they are known.
    ///
    /// # Errors
    /// Where a result cannot be understood.
    pub fn stages(&self, retry_failed: bool) -> Result<Vec<Stage>> {
        let grids = self.choices();
        let mut stages = match grids.is_empty() {
            true => Vec::new(),
            false => forecast::grid_stages(&grids, self.experiment.select, retry_failed)?,
        };
        let mut seeds = self.seed_stage(retry_failed)?;
        // The grid has made the best setting's run with its own seed.
        let before: HashSet<RunFolder> =
            stages.iter().flat_map(|stage| &stage.planned).map(|run| run.task.folder()).collect();
        seeds.planned.retain(|run| !before.contains(&run.task.folder()));
        if seeds.runs() > 0 || stages.is_empty() {
            stages.push(seeds);
        }
        Ok(stages)
    }

    /// Those of [`Study::carry_out_grids`].
    ///
    /// # Errors
    /// Where a result cannot be understood.
    pub fn grid_stages(&self, retry_failed: bool) -> Result<Vec<Stage>> {
        forecast::grid_stages(&self.pairs.iter().collect::<Vec<_>>(), self.experiment.select, retry_failed)
    }

    /// That of [`Study::carry_out_seeds`].
    ///
    /// # Errors
    /// Where a result cannot be understood.
    pub fn seed_stage(&self, retry_failed: bool) -> Result<Stage> {
        forecast::seed_stage(self.collect()?, &self.pairs, &self.experiment.seeds, retry_failed)
    }

    /// Carries out grids, rung by rung where they are halved; the runs of all grids in one go. Where runs of a grid failed, the
    /// other grids are carried out to their end first.
    fn run_grids(&self, grids: &[&Prepared], terms: &Terms, tell: Tell) -> Result<()> {
        let mut failure = Ok(());
        // How many rungs of each grid were tried.
        let mut tried = vec![0; grids.len()];
        loop {
            let mut tasks = Vec::new();
            for (tried, grid) in tried.iter_mut().zip(grids).filter(|(tried, grid)| **tried < grid.rungs()) {
                let result = GridResult::collect(grid, self.experiment.select)?;
                let new = result.rungs.into_iter().skip(*tried).collect::<Vec<_>>();
                *tried += new.len();
                tasks.extend(new.into_iter().flatten());
            }
            if tasks.is_empty() {
                grids.iter().filter(|grid| grid.rungs() > 1).for_each(|grid| grid.drop_ends());
                return failure;
            }
            match carry_out_remaining(tasks, terms, tell) {
                Err(error @ Error::Failed(_)) => failure = failure.and(Err(error)),
                outcome => outcome?,
            }
        }
    }

    /// The seeds of every best setting that is known, all in one go.
    fn run_seeds(&self, terms: &Terms, tell: Tell) -> Result<()> {
        let pairs = self.collect()?;
        for pair in pairs.iter().filter(|pair| pair.winner.is_none()) {
            let name = pair.name();
            match pair.is_decided() {
                true => tracing::warn!("{name}: every run of the grid diverged; there is no best setting to run again"),
                false => {
                    tracing::warn!("{name}: the grid has runs without a result, so that no best setting is chosen")
                }
            }
        }
        let tasks: Vec<RunTask> = pairs.into_iter().flat_map(|pair| pair.seeds).map(|run| run.task).collect();
        if tasks.is_empty() { Ok(()) } else { carry_out_remaining(tasks, terms, tell) }
    }
}

/// Tells what happens, and then keeps the folders up to date with each run that has ended.
fn keep(event: StudyEvent, results: &mut ResultFolders, tell: Tell) {
    tell(event);
    if let StudyEvent::Run { run, event: RunEvent::Ended { outcome }, .. } = event
        && outcome.is_over()
    {
        results.ended(run);
    }
}

impl ResultFolders<'_> {
    /// The last writing, and what the runs came to.
    fn conclude(mut self, outcome: Result<()>) -> Result<Conclusion<StudyResults>> {
        let pairs = self.write();
        match (pairs, outcome) {
            // Why the runs ended matters more than what followed from it.
            (Err(_), Err(error)) => Err(error),
            (pairs, outcome) => {
                let pairs = pairs?;
                conclude(outcome, || Ok(self.results(pairs)))
            }
        }
    }
}

/// What runs came to that ended so.
fn conclude<T>(outcome: Result<()>, results: impl FnOnce() -> Result<T>) -> Result<Conclusion<T>> {
    match outcome {
        Err(error @ (Error::Interrupted | Error::Environment(_))) => Err(error),
        outcome => Ok(Conclusion { results: results()?, failure: outcome.err() }),
    }
}

impl<T> Conclusion<T> {
    /// The results, where nothing went wrong.
    ///
    /// # Errors
    /// What went wrong.
    pub fn whole(self) -> Result<T> {
        self.failure.map_or(Ok(self.results), Err)
    }
}

/// Carries out what remains of these runs together: their start, and what their ends come to.
///
/// # Errors
/// [`Error::Interrupted`](crate::Error::Interrupted), or what [`launch::conclude`] makes of the failures; where the data or the
/// folder of runs are not there, before anything is started.
fn carry_out_remaining(tasks: Vec<RunTask>, terms: &Terms, tell: Tell) -> Result<()> {
    let planned = standing::plan(tasks, terms.retry_failed)?;
    let problems: Vec<&str> = planned.iter().map(|run| run.task.settings.problem.name.as_str()).collect();
    let several_problems = problems.windows(2).any(|pair| pair[0] != pair[1]);
    let (to_do, rest): (Vec<Planned>, Vec<Planned>) = planned.into_iter().partition(|run| run.standing.is_to_do());
    let mut outcomes = Vec::new();
    let mut done = 0;
    for planned in rest {
        match planned.standing {
            Standing::Failed(reason) => {
                let reason = format!("{}: failed before: {reason}", planned.task.label(several_problems));
                tracing::warn!("{reason}");
                outcomes.push(Outcome::Failed { reason, exit_code: EXIT_FAILED });
            }
            _ => {
                run::tidy(&planned.task, planned.unsealed);
                done += 1;
            }
        }
    }
    for planned in &to_do {
        if let Standing::Damaged(damage) = &planned.standing {
            let label = planned.task.label(several_problems);
            tracing::warn!("{label}: {damage}; the run is repeated");
        }
    }
    let continued = to_do.iter().filter(|run| matches!(run.standing, Standing::Continues(_))).count();
    tell(StudyEvent::Planned { to_do: to_do.len(), continued, done });
    let tasks: Vec<RunTask> = to_do.into_iter().map(|run| run.task).collect();
    tasks.iter().try_for_each(prepare::check_data)?;
    if let Some(task) = tasks.first() {
        doctor::check_runs_folder(&task.runs_dir)?;
        let labels: Vec<String> = tasks.iter().map(|task| task.label(several_problems)).collect();
        tell(StudyEvent::Started { runs: &tasks, labels: &labels, done });
        let ended = terms.launcher.carry_out(&tasks, &terms.stop, &mut Told { tasks: &tasks, tell });
        tell(StudyEvent::Ended);
        outcomes.extend(ended?);
    }
    launch::conclude(&outcomes, done)
}

/// Tells of a launcher's runs.
struct Told<'a> {
    tasks: &'a [RunTask],
    tell: Tell<'a>,
}

impl Observer for Told<'_> {
    fn event(&mut self, number: usize, event: &RunEvent) {
        (self.tell)(StudyEvent::Run { number, run: &self.tasks[number], event });
    }

    fn log(&mut self, line: &str) {
        (self.tell)(StudyEvent::Log { line });
    }
}
