//! What a study comes to: for each problem and optimizer the best setting, and what its seeds measured.

mod folders;
pub mod records;
mod tables;
mod targets;
mod tuning;
mod write;

pub use folders::{ResultFolders, StudyResults};
pub use tables::{FinalRow, StudyDiagnosticRow, final_csv, final_rows, option_cells, option_columns};
pub use targets::{TargetColumns, Targets};
pub use write::{Description, Replaces, write};

use super::collect::{GridResult, GridRun};
use super::experiment::{Experiment, Select};
use super::prepare::Prepared;
use super::select::{Candidate, SeedResult};
use super::settings::RunTask;
use super::state::RunState;
use super::store::{Kept, RunStatus};
use crate::error::{Error, Result};
use crate::problems::definition::Limit;

/// One optimizer on one problem.
#[derive(Clone, Debug)]
pub struct PairResult {
    /// The grid; of one setting where there was nothing to choose.
    pub grid: GridResult,
    /// The best setting's place in the grid, once the grid is finished; nothing where every run diverged.
    pub winner: Option<usize>,
    /// The best setting's runs, one a seed.
    pub seeds: Vec<SeedRun>,
    /// Steps of one epoch.
    pub steps_per_epoch: usize,
}

/// One run of the best setting.
#[derive(Clone, Debug)]
pub struct SeedRun {
    /// The run.
    pub task: RunTask,
    /// Where it stands.
    pub state: RunState,
    /// What it has measured so far.
    pub result: SeedResult,
    /// Steps made by a run that is done, where its length was one in seconds.
    pub steps: Option<u64>,
}

impl PairResult {
    /// Reads what the grid's runs and those of the best setting with `seeds` have measured.
    ///
    /// # Errors
    /// Where a result cannot be understood.
    pub fn collect(prepared: &Prepared, select: Select, seeds: &[u64]) -> Result<Self> {
        let grid = GridResult::collect(prepared, select)?;
        let winner = match prepared.grid.settings.len() {
            1 => Some(0),
            _ if grid.is_complete => grid.best(),
            _ => None,
        };
        let tasks = winner.map_or_else(Vec::new, |place| prepared.runs_with(place, seeds));
        let seeds = tasks.into_iter().map(SeedRun::read).collect::<Result<_>>()?;
        Ok(PairResult { grid, winner, seeds, steps_per_epoch: prepared.steps_per_epoch })
    }

    /// `KFAC on mnist_logreg`.
    pub fn name(&self) -> String {
        format!("{} on {}", self.grid.grid.title(), self.grid.problem)
    }

    /// Whether there is only one setting, so that no grid is needed.
    pub fn is_single(&self) -> bool {
        self.grid.candidates.len() == 1
    }

    /// Whether the setting that the seeds are run with is known.
    pub fn is_decided(&self) -> bool {
        self.is_single() || self.grid.is_complete
    }

    /// The best setting.
    pub fn setting(&self) -> Option<&Candidate> {
        self.winner.map(|place| &self.grid.candidates[place])
    }

    /// The best setting's runs that have their results.
    pub fn finished(&self) -> Vec<SeedResult> {
        let finished = self.seeds.iter().filter(|run| run.is_finished());
        finished.map(|run| run.result.clone()).collect()
    }

    /// The last epoch of a run; within a limit of seconds, that of the run that came furthest.
    pub fn epochs(&self) -> usize {
        let of = |run: &SeedRun| run.result.rows.last().map_or(0, |row| row.epoch);
        match self.limit() {
            Some(Limit::Seconds(_)) => self.seeds.iter().map(of).max().unwrap_or(0),
            _ => self.grid.epochs(),
        }
    }

    /// Where its runs end, if not after a number of epochs.
    pub fn limit(&self) -> Option<Limit> {
        self.grid.grid.settings.first().and_then(|settings| settings.problem.limit)
    }

    /// Steps made by one of its runs up to an evaluation.
    pub(super) fn steps_at(&self, run: &SeedRun, epoch: usize) -> u64 {
        let whole = (epoch * self.steps_per_epoch) as u64;
        let is_last = run.result.rows.last().is_some_and(|row| row.epoch == epoch);
        match (self.limit(), run.steps) {
            (Some(Limit::Steps(steps)), _) => whole.min(steps),
            (_, Some(steps)) if is_last => steps,
            _ => whole,
        }
    }

    /// `interior`, the edges of the grid on which the best setting lies, joined by `;`, or `single` without a grid.
    pub fn edge(&self) -> String {
        let edges: Vec<String> = self
            .grid
            .edges()
            .iter()
            .map(|edge| {
                let axis = if edge.axis == "lr" { "learning_rate" } else { &edge.axis };
                format!("{axis}:{}", if edge.upper { "highest" } else { "lowest" })
            })
            .collect();
        match edges.is_empty() {
            _ if self.is_single() => "single".to_owned(),
            true => "interior".to_owned(),
            false => edges.join(";"),
        }
    }
}

impl SeedRun {
    /// Whether it has its result.
    pub fn is_finished(&self) -> bool {
        self.state.is_final()
    }

    fn read(task: RunTask) -> Result<Self> {
        let folder = task.folder();
        let (mut state, mut steps, mut rows) = (RunState::Pending, None, Vec::new());
        match folder.read_result() {
            Ok(Kept::Result { status, epochs }) => (state, steps, rows) = (status.status, status.steps, epochs),
            Ok(Kept::Nothing(status)) => {
                state = RunStatus::unfinished(status.as_ref());
                match folder.read_epochs() {
                    Ok(found) => rows = found,
                    // The run writes the table anew when it goes on.
                    Err(error) => tracing::warn!("{error}; the run's evaluations so far are left out"),
                }
            }
            Ok(Kept::Damaged(damage)) => damage.tell(),
            Err(error @ Error::Io { .. }) => tracing::warn!("{error}; the run counts as not finished"),
            Err(error) => return Err(error),
        }
        Ok(SeedRun { task, state, result: SeedResult { rows, diverged: state == RunState::Diverged }, steps })
    }
}

/// Where a run of a grid stands; one whose result is damaged waits to be carried out again.
fn state(run: &GridRun) -> Result<RunState> {
    Ok(match &run.result {
        Some(result) if result.diverged => RunState::Diverged,
        Some(_) => RunState::Done,
        None => RunStatus::unfinished(run.task.folder().read_status()?.as_ref()),
    })
}

/// The names in a pair's rows: the problem's and the optimizer's.
fn names(pair: &PairResult) -> [String; 2] {
    [pair.grid.problem.clone(), pair.grid.grid.title().to_owned()]
}

/// All pairs of an experiment.
///
/// # Errors
/// Where a result cannot be understood.
pub fn collect_all(experiment: &Experiment, prepared: &[Prepared]) -> Result<Vec<PairResult>> {
    prepared.iter().map(|pair| PairResult::collect(pair, experiment.select, &experiment.seeds)).collect()
}
