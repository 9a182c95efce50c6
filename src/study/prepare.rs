//! From an experiment to its runs: every problem with every optimizer of it, every setting with every seed; and the
//! rungs of successive halving.

use std::path::PathBuf;

use super::experiment::{DataFacts, Experiment, OptimizerGrid};
use super::run::{self, continuation};
use super::settings::{Grid, RunSettings, RunTask};
use super::store::KeepEnd;
use crate::backpack::Network;
use crate::backpack::layers::Mode;
use crate::error::{Error, Result};
use crate::optimizers;
use crate::problems::builder;
use crate::problems::data::{self, DataFolders, DataInfo, DataSource};
use crate::problems::definition::{Limit, ProblemDefinition};

/// Where things lie.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The folder that holds all runs.
    pub runs: PathBuf,
    /// Where data lie, if that was said; else they are looked for.
    pub data: Option<PathBuf>,
    /// While this file exists runs are suspended, if one was named.
    pub pause_file: Option<PathBuf>,
}

/// One optimizer on one problem, with its runs.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The settings.
    pub grid: Grid,
    /// The seeds that each of them is run with.
    pub seeds: Vec<u64>,
    /// The runs of the full epochs, settings outside, seeds inside.
    pub tasks: Vec<RunTask>,
    /// Steps of one epoch.
    pub steps_per_epoch: usize,
    /// Successive halving of the settings, if that was asked for.
    pub halving: Option<usize>,
}

impl Prepared {
    /// The runs of one setting with this many epochs, one a seed.
    pub fn runs(&self, place: usize, epochs: usize) -> Vec<RunTask> {
        let mut runs = self.tasks[place * self.seeds.len()..][..self.seeds.len()].to_vec();
        for run in &mut runs {
            // What a lower rung leaves is for the one above.
            if epochs < run.settings.problem.epochs && run.keep_end == KeepEnd::Small {
                run.keep_end = KeepEnd::Always;
            }
            run.settings.problem.epochs = epochs;
        }
        runs
    }

    /// Removes of its lower rungs' runs the ends that were kept for the rungs above alone.
    pub fn drop_ends(&self) {
        let levels = rungs(self.grid.settings.len(), self.epochs(), self.halving);
        let below = levels.iter().rev().skip(1);
        let runs =
            below.flat_map(|level| (0..self.grid.settings.len()).flat_map(|place| self.runs(place, level.epochs)));
        for run in runs {
            continuation::drop_end(&run.folder(), self.tasks[0].keep_end);
        }
    }

    fn epochs(&self) -> usize {
        self.grid.settings.first().map_or(0, |settings| settings.problem.epochs)
    }

    /// How many rungs its grid has: one without halving.
    pub fn rungs(&self) -> usize {
        rungs(self.grid.settings.len(), self.epochs(), self.halving).len()
    }

    /// The runs of one setting with these seeds and the full epochs.
    pub fn runs_with(&self, place: usize, seeds: &[u64]) -> Vec<RunTask> {
        let first = &self.tasks[place * self.seeds.len()];
        seeds.iter().map(|&seed| RunTask { seed, ..first.clone() }).collect()
    }
}

/// The runs of these pairs of problem and optimizer, after checking that problem and data fit together.
///
/// # Errors
/// Where the data of a problem are not there, its network does not fit them, or the optimizer asks for what the network
/// has not; nothing has then been started.
pub fn prepare(
    experiment: &Experiment,
    pairs: &[(&ProblemDefinition, &OptimizerGrid)],
    seeds: &[u64],
    folders: &Folders,
) -> Result<Vec<Prepared>> {
    let search = DataFolders::from_choice(folders.data.as_deref());
    let mut fingerprints = Vec::new();
    pairs
        .iter()
        .map(|(problem, optimizer)| {
            if let DataSource::Absent(input) = &problem.dataset {
                return Err(data::no_data(input));
            }
            let info = data::describe(&problem.dataset, &search)?;
            let network = builder::lay_out(problem, &info.shape)?;
            check(problem, &network, &info)?;
            let steps_per_epoch =
                info.steps_per_epoch((problem.batch_size, problem.drop_last), problem.valid_size, problem.train_size)?;
            let facts = DataFacts {
                fingerprint: fingerprint(&problem.dataset, &search, &mut fingerprints)?,
                weights: problem.weights.as_deref().map(data::digest_of).transpose()?,
                default_valid_size: info.default_valid_size,
            };
            let mut grid = experiment.grid(problem, optimizer, &facts);
            if let Some(Limit::Steps(steps)) = problem.limit {
                let epochs = steps.div_ceil(steps_per_epoch.max(1) as u64) as usize;
                grid.settings.iter_mut().for_each(|settings| settings.problem.epochs = epochs);
            }
            grid.settings.first().map_or(Ok(()), |settings| check_optimizer(settings, &network, &info))?;
            let task = |settings: &RunSettings, seed: u64| RunTask {
                settings: settings.clone(),
                seed,
                runs_dir: folders.runs.clone(),
                data_dir: folders.data.clone(),
                checkpoint_seconds: experiment.checkpoint_seconds,
                keep_end: experiment.keep_end,
                diagnostics: experiment.diagnostics,
                pause_file: folders.pause_file.clone(),
            };
            let tasks = grid.settings.iter().flat_map(|setting| seeds.iter().map(move |&seed| task(setting, seed)));
            let tasks = tasks.collect();
            Ok(Prepared { grid, seeds: seeds.to_vec(), tasks, steps_per_epoch, halving: experiment.halving })
        })
        .collect()
}

/// What tells the data of a problem apart from others; `known` holds what was found out before. That a set is not the
/// published one is told once.
fn fingerprint(source: &DataSource, search: &DataFolders, known: &mut Vec<(DataSource, String)>) -> Result<String> {
    if let Some((_, fingerprint)) = known.iter().find(|(other, _)| other == source) {
        return Ok(fingerprint.clone());
    }
    let fingerprint = match (data::identify(source, search), source) {
        (Ok(identity), _) => {
            if let Some(unlike) = identity.unlike {
                tracing::warn!("{unlike}");
            }
            identity.fingerprint
        }
        // Runs that are done need no data, and none is begun with others than the published ones by this name.
        (Err(Error::MissingData(_)), DataSource::Named(name)) => name.clone(),
        (Err(error), _) => return Err(error),
    };
    known.push((source.clone(), fingerprint.clone()));
    Ok(fingerprint)
}

/// Checks what would make every run of a problem fail at its start.
fn check(problem: &ProblemDefinition, network: &Network, info: &DataInfo) -> Result<()> {
    let fit = builder::fit_data(problem, network, info).map_err(|error| match error {
        Error::Usage(text) => {
            let loss = problem.loss.map(|loss| format!(", loss = \"{loss}\"")).unwrap_or_default();
            Error::Usage(format!("problem {}{loss}: {text}", problem.name))
        }
        other => other,
    })?;
    info.check_protocol(
        (problem.batch_size, problem.drop_last),
        problem.valid_size,
        problem.train_size,
        problem.augment,
    )?;
    match fit.integers {
        Some(_) if problem.augment => Err(Error::Usage(format!(
            "problem {}, augment = true: its network takes integers, which are not augmented; set augment = false",
            problem.name
        ))),
        Some(count) => data::check_integers(&problem.dataset, count),
        None => Ok(()),
    }
}

/// Checks that the network has what the optimizer asks of every pass, as training has it: without, every run would fail
/// in its first step. The settings of a grid ask for the same.
fn check_optimizer(settings: &RunSettings, network: &Network, info: &DataInfo) -> Result<()> {
    let optimizer = optimizers::build(&run::hyperparameters(settings), network);
    let mode = Mode::Training { seed: 0, step: 0 };
    let checked = optimizer.and_then(|optimizer| optimizer.request().check(network, &info.shape, mode));
    let named = |reason: String| format!("{} on {}: {reason}", settings.optimizer.name, settings.problem.name);
    checked.map_err(|error| match error {
        Error::Unsupported(reason) => Error::Unsupported(named(reason)),
        Error::Refused { quantity, layer, reason } => Error::Refused { quantity, layer, reason: named(reason) },
        error => error,
    })
}

/// Checks that the published files that a run needs are there, without reading them.
///
/// # Errors
/// [`crate::Error::MissingData`] that says where they were looked for and how to get them.
pub fn check_data(task: &RunTask) -> Result<()> {
    if let DataSource::Named(name) = &task.settings.problem.dataset
        && let Some(set) = data::published(name)
    {
        DataFolders::from_choice(task.data_dir.as_deref()).find(set)?;
    }
    Ok(())
}

// Successive halving: all settings are trained for few epochs, the best of them for more.
//
// A run of fewer epochs has another folder than the full one, so that each rung's runs are runs of their own. Those of a
// higher rung go on from the ends of the lower one's where the learning rate is constant, else they train anew; either
// way a full run's numbers are those of a full grid.

/// Settings that are trained equally long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The epochs of its runs.
    pub epochs: usize,
    /// How many settings.
    pub settings: usize,
}

/// The rungs of a grid of `settings`, of which one in `factor` goes on each time and the last trains for `epochs`; without a
/// factor, the one rung of the full grid.
///
/// There are as many as leave at least one setting and one epoch: rung r of R has `settings / factor^r` settings with
/// `epochs / factor^(R - 1 - r)` epochs, rounded down.
pub fn rungs(settings: usize, epochs: usize, factor: Option<usize>) -> Vec<Rung> {
    let Some(factor) = factor else { return vec![Rung { epochs, settings }] };
    let mut powers = vec![1usize];
    while let Some(next) = powers.last().and_then(|power| power.checked_mul(factor)) {
        if settings / next == 0 || epochs / next == 0 {
            break;
        }
        powers.push(next);
    }
    let last = powers.len() - 1;
    (0..=last).map(|rung| Rung { epochs: epochs / powers[last - rung], settings: settings / powers[rung] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(settings: usize, epochs: usize, factor: usize) -> Vec<(usize, usize)> {
        rungs(settings, epochs, Some(factor)).iter().map(|rung| (rung.settings, rung.epochs)).collect()
    }

    #[test]
    fn rungs_divide_settings_and_multiply_epochs() {
        assert_eq!(pairs(27, 27, 3), [(27, 1), (9, 3), (3, 9), (1, 27)]);
        assert_eq!(pairs(30, 100, 3), [(30, 3), (10, 11), (3, 33), (1, 100)]);
        assert_eq!(pairs(30, 5, 2), [(30, 1), (15, 2), (7, 5)]);
        assert_eq!(pairs(4, 100, 8), [(4, 100)]);
        assert_eq!(pairs(4, 0, 2), [(4, 0)]);
        assert_eq!(rungs(30, 100, None), [Rung { epochs: 100, settings: 30 }]);
    }
}
