//! The results of a grid's runs, read from their folders and put to their settings.

use super::axes::{self, Edge};
use super::experiment::Select;
use super::prepare;
use super::prepare::Prepared;
use super::select::{self, Candidate, SeedResult};
use super::settings::{Grid, RunTask};
use super::state::RunState;
use super::store::{Kept, RunFolder};
use crate::error::{Error, Result};

/// One run of a grid.
#[derive(Clone, Debug)]
pub struct GridRun {
    /// The run.
    pub task: RunTask,
    /// What it measured; nothing where it has no result.
    pub result: Option<SeedResult>,
}

/// A grid with what its runs measured.
#[derive(Clone, Debug)]
pub struct GridResult {
    /// The problem's name.
    pub problem: String,
    /// The grid.
    pub grid: Grid,
    /// How the best setting is chosen.
    pub select: Select,
    /// One a setting of the grid, in the grid's order; with halving, by the runs of the highest rung that it reached.
    pub candidates: Vec<Candidate>,
    /// The runs that these results are of, one a seed for each setting.
    pub runs: Vec<Vec<GridRun>>,
    /// How many of a setting's runs failed or are not finished, in the grid's order.
    pub unfinished: Vec<usize>,
    /// The places of the settings that have results, best first: higher rungs before lower ones.
    pub ranking: Vec<usize>,
    /// The runs of each rung up to the first that is not finished; one rung without halving.
    pub rungs: Vec<Vec<RunTask>>,
    /// Whether all runs of all rungs have their results.
    pub is_complete: bool,
}

impl GridResult {
    /// Reads the results of every setting and seed. With halving, the runs of a rung follow from the results of the one
    /// below.
    ///
    /// # Errors
    /// Where a result cannot be understood.
    pub fn collect(prepared: &Prepared, select: Select) -> Result<Self> {
        let grid = prepared.grid.clone();
        let epochs = grid.settings.first().map_or(0, |settings| settings.problem.epochs);
        let levels = prepare::rungs(grid.settings.len(), epochs, prepared.halving);
        let mut result = GridResult {
            problem: grid.settings.first().map(|settings| settings.problem.name.clone()).unwrap_or_default(),
            select,
            candidates: grid.settings.iter().map(|settings| candidate(settings, Vec::new())).collect(),
            runs: vec![Vec::new(); grid.settings.len()],
            unfinished: vec![0; grid.settings.len()],
            ranking: Vec::new(),
            rungs: Vec::new(),
            is_complete: false,
            grid,
        };
        for level in &levels {
            // The best of the rung below; all settings in the lowest one.
            let mut members: Vec<usize> = match result.rungs.is_empty() {
                true => (0..result.grid.settings.len()).collect(),
                false => result.ranking[..level.settings.min(result.ranking.len())].to_vec(),
            };
            members.sort_unstable();
            for &place in &members {
                result.read(place, prepared.runs(place, level.epochs))?;
            }
            let tasks = members.iter().flat_map(|&place| &result.runs[place]).map(|run| run.task.clone());
            result.rungs.push(tasks.collect());
            let candidates: Vec<Candidate> = members.iter().map(|&place| result.candidates[place].clone()).collect();
            let best: Vec<usize> = select::rank(&candidates, select).into_iter().map(|place| members[place]).collect();
            let below = result.ranking.iter().copied().filter(|place| !members.contains(place));
            result.ranking = best.iter().copied().chain(below.collect::<Vec<_>>()).collect();
            result.is_complete = members.iter().all(|&place| result.unfinished[place] == 0);
            if !result.is_complete {
                break;
            }
        }
        result.is_complete &= result.rungs.len() == levels.len();
        Ok(result)
    }

    /// Reads the results of a setting's runs.
    fn read(&mut self, place: usize, tasks: Vec<RunTask>) -> Result<()> {
        let run = |task: RunTask| {
            let result = match read(&task.folder()) {
                Err(error @ Error::Io { .. }) => {
                    tracing::warn!("{error}; the run counts as not finished");
                    None
                }
                result => result?,
            };
            Ok(GridRun { task, result })
        };
        let runs = tasks.into_iter().map(run).collect::<Result<Vec<_>>>()?;
        let results: Vec<SeedResult> = runs.iter().filter_map(|run| run.result.clone()).collect();
        self.unfinished[place] = runs.len() - results.len();
        self.runs[place] = runs;
        self.candidates[place] = candidate(&self.grid.settings[place], results);
        Ok(())
    }

    /// The place of the best setting: the first of the ranking, if not all its runs diverged.
    pub fn best(&self) -> Option<usize> {
        let first = *self.ranking.first()?;
        let candidate = &self.candidates[first];
        (candidate.diverged() < candidate.results.len()).then_some(first)
    }

    /// The epochs of a full run.
    pub fn epochs(&self) -> usize {
        self.grid.settings.first().map_or(0, |settings| settings.problem.epochs)
    }

    /// 1 for the best; nothing for a setting without results.
    pub fn rank(&self, place: usize) -> Option<usize> {
        self.ranking.iter().position(|ranked| *ranked == place).map(|rank| rank + 1)
    }

    /// The edges of the grid on which the best setting lies.
    pub fn edges(&self) -> Vec<Edge> {
        self.best().map_or_else(Vec::new, |best| axes::edges(&self.grid, best))
    }
}

fn candidate(settings: &super::settings::RunSettings, results: Vec<SeedResult>) -> Candidate {
    let optimizer = &settings.optimizer;
    Candidate { learning_rate: optimizer.learning_rate, damping: optimizer.damping, results }
}

/// What a run measured; nothing where it has no result, or one that is damaged, which is told.
///
/// # Errors
/// Where this machine cannot read a file of it, or a newer version of the program wrote it.
pub fn read(folder: &RunFolder) -> Result<Option<SeedResult>> {
    Ok(match folder.read_result()? {
        Kept::Result { status, epochs } => {
            Some(SeedResult { rows: epochs, diverged: status.status == RunState::Diverged })
        }
        Kept::Damaged(damage) => {
            damage.tell();
            None
        }
        Kept::Nothing(_) => None,
    })
}
