//! The results of a grid's runs, read from their folders and put to their settings.

use super::experiment::Select;
use super::select::{self, Candidate, Edge, SeedResult};
use super::settings::{Grid, RunSettings};
use super::store::{RunFolder, RunState};
use crate::error::{Error, Result};

/// A grid with what its runs measured.
#[derive(Clone, Debug)]
pub struct GridResult {
    /// The problem's name.
    pub problem: String,
    /// The grid.
    pub grid: Grid,
    /// How the best setting is chosen.
    pub select: Select,
    /// One a setting of the grid, in the grid's order.
    pub candidates: Vec<Candidate>,
    /// How many of a setting's runs failed or are not finished, in the grid's order.
    pub unfinished: Vec<usize>,
    /// The places of the settings that have results, best first.
    pub ranking: Vec<usize>,
}

impl GridResult {
    /// Reads the results of every setting and seed.
    ///
    /// # Errors
    /// Where a result cannot be understood.
    pub fn collect(
        grid: Grid,
        seeds: &[u64],
        select: Select,
        folder: impl Fn(&RunSettings, u64) -> RunFolder,
    ) -> Result<Self> {
        let mut candidates = Vec::with_capacity(grid.settings.len());
        let mut unfinished = Vec::with_capacity(grid.settings.len());
        for settings in &grid.settings {
            let mut results = Vec::new();
            for &seed in seeds {
                match read(&folder(settings, seed)) {
                    Err(error @ Error::Io { .. }) => tracing::warn!("{error}; the run counts as not finished"),
                    result => results.extend(result?),
                }
            }
            unfinished.push(seeds.len() - results.len());
            let optimizer = &settings.optimizer;
            candidates.push(Candidate { learning_rate: optimizer.learning_rate, damping: optimizer.damping, results });
        }
        let ranking = select::rank(&candidates, select);
        let problem = grid.settings.first().map(|settings| settings.problem.name.clone()).unwrap_or_default();
        Ok(GridResult { problem, grid, select, candidates, unfinished, ranking })
    }

    /// The place of the best setting: the first of the ranking, if not all its runs diverged.
    pub fn best(&self) -> Option<usize> {
        let first = *self.ranking.first()?;
        let candidate = &self.candidates[first];
        (candidate.diverged() < candidate.results.len()).then_some(first)
    }

    /// The edges of the grid on which the best setting lies.
    pub fn edges(&self) -> Vec<Edge> {
        self.best().map_or_else(Vec::new, |best| {
            let candidate = &self.candidates[best];
            select::edges(&self.grid, candidate.learning_rate, candidate.damping)
        })
    }
}

/// What a run measured; nothing where it has no result.
pub fn read(folder: &RunFolder) -> Result<Option<SeedResult>> {
    let diverged = match folder.read_status()?.map(|status| status.status) {
        Some(RunState::Done) => false,
        Some(RunState::Diverged) => true,
        _ => return Ok(None),
    };
    Ok(Some(SeedResult { rows: folder.read_epochs()?, diverged }))
}
