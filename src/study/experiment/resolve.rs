//! Puts an experiment together: a flag overrides `--set`, which overrides the experiment file, the problem file and
//! the default.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::keys::{ExperimentFile, ExperimentKeys, GridKeys, OptimizerEntry, parse_file, parse_set};
use super::{Experiment, Metric, OptimizerGrid, Search, Select, problems};
use crate::backpack::request::DEFAULT_CHUNK_BYTES;
use crate::config::Source;
use crate::config::name::{folder_name, is_folder_name};
use crate::error::{Error, Result};
use crate::optimizers::{OptimizerName, OptionValue, Schedule};
use crate::problems::definition::{Limit, ProblemDefinition};
use crate::{numbers, suggest};

/// The seed of a grid's runs, and the first of the ten of the runs with the best setting, as in the paper.
pub const DEFAULT_GRID_SEED: u64 = 42;
/// Seconds between checkpoints.
pub const DEFAULT_CHECKPOINT_SECONDS: f64 = 60.0;

/// Where an experiment's values come from, the strongest first.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// What flags say.
    pub flags: ExperimentKeys,
    /// The arguments of `--set`, later ones overriding earlier ones.
    pub set: &'a [String],
    /// The experiment file, if there is one.
    pub file: Option<&'a Path>,
    /// What holds where neither of them, nor a problem file, says anything.
    pub fallback: ExperimentKeys,
}

/// The experiment that a request describes.
///
/// # Errors
/// [`Error::Config`] for a defect in a file or a `--set`, [`Error::Usage`] where no problem or no optimizer is named,
/// or a value is given that none of the optimizers has.
pub fn resolve(request: Request) -> Result<Experiment> {
    let source = request.file.map(Source::read).transpose()?;
    resolve_source(request, source.as_ref())
}

/// As [`resolve`], with the experiment file's text in `source`.
pub(super) fn resolve_source(request: Request, source: Option<&Arc<Source>>) -> Result<Experiment> {
    let mut set = ExperimentKeys::default();
    for argument in request.set {
        set = parse_set(argument)?.or(set);
    }
    let given = request.flags.or(set);
    let ExperimentFile { keys: file_keys, optimizers: entries } = match source {
        Some(source) => parse_file(source)?,
        None => ExperimentFile::default(),
    };
    let given_seeds = given.seeds.clone();
    let given_grid = given.grid.clone();
    let given_draws = given_grid.options.get("mc_samples").is_some();
    let of_file = file_keys.problems.clone().map(problems::defined).transpose()?;
    if let Some(of_file) = &of_file {
        check_restrictions(&entries, of_file)?;
    }
    let mut problems = match (given.problems.clone(), of_file) {
        (Some(choices), Some(of_file)) => problems::chosen(choices, &of_file, request.file)?,
        (None, Some(of_file)) => of_file,
        (choices, None) => problems::defined(choices.or(request.fallback.problems.clone()).unwrap_or_default())?,
    };
    let in_file: Vec<OptimizerName> = entries.iter().map(|entry| entry.name).collect();
    let entries = chosen(&given, entries)?;
    if given_draws && !entries.iter().any(|entry| entry.name.samples_labels()) {
        tracing::warn!("mc_samples is given, but none of the optimizers samples labels: it changes nothing");
    }
    let common_grid = file_keys.grid.clone().or(request.fallback.grid.clone());
    let keys = given.or(file_keys).or(request.fallback);
    let mc_samples = match keys.grid.options.get("mc_samples") {
        Some([OptionValue::Count(count), ..]) => *count as usize,
        _ => 1,
    };

    if problems.is_empty() {
        return Err(Error::Usage(
            "no problem is named: give --problem NAME (see `list problems`) or an experiment file".to_owned(),
        ));
    }
    problems.iter_mut().for_each(|problem| keys.problem.apply(problem));
    problems.iter().try_for_each(|problem| problem.loss().map(drop))?;
    check_names(&problems)?;
    check_given(&given_grid, &entries.iter().map(|entry| entry.name).collect::<Vec<_>>())?;
    // What a file says for all is for those of its optimizers that have it, whichever of them are chosen now.
    if !in_file.is_empty() {
        check_given(&common_grid, &in_file)?;
    }
    let optimizers = grids(given_grid, common_grid, &entries, &in_file)?;
    check_twice(&entries, &optimizers, &problems)?;
    let search = search(&keys, &optimizers)?;

    check_limits(&problems, &optimizers, keys.halving)?;
    let metric = metric(keys.select.metric, &problems)?;
    let has_baseline =
        |problem: &ProblemDefinition| optimizers.iter().any(|grid| grid.is_baseline() && grid.is_for(&problem.name));
    let target = keys.target.map(|target| target.resolve(metric, &problems, has_baseline)).transpose()?;
    if keys.tuning_repeats.is_some() && keys.halving.is_some() {
        return Err(Error::Usage(
            "tuning_repeats draws from settings that have all been trained to the end: leave out halving or tuning_repeats"
                .to_owned(),
        ));
    }

    let experiment = Experiment {
        name: name(&keys, request.file, &problems),
        problems,
        optimizers,
        threads: keys.threads.unwrap_or(1),
        mc_samples,
        device: keys.device.unwrap_or_else(|| "cpu".to_owned()),
        chunk_bytes: keys.chunk_bytes.unwrap_or(DEFAULT_CHUNK_BYTES),
        keep_end: keys.keep_end.unwrap_or_default(),
        diagnostics: keys.diagnostics,
        checkpoint_seconds: keys.checkpoint_seconds.unwrap_or(DEFAULT_CHECKPOINT_SECONDS),
        grid_seed: keys.grid_seed.unwrap_or(DEFAULT_GRID_SEED),
        seeds: keys.seeds.unwrap_or_else(|| (DEFAULT_GRID_SEED..DEFAULT_GRID_SEED + 10).collect()),
        given_seeds,
        select: Select { metric, mode: keys.select.mode.unwrap_or_default() },
        target,
        tuning_repeats: keys.tuning_repeats,
        search,
        halving: keys.halving,
    };
    if experiment.pairs().is_empty() {
        return Err(Error::Usage("no optimizer applies to any of the problems: there is nothing to run".to_owned()));
    }
    Ok(experiment)
}

/// Refuses what needs a number of epochs, or one that is known before, where there is a limit in its place.
fn check_limits(problems: &[ProblemDefinition], optimizers: &[OptimizerGrid], halving: Option<usize>) -> Result<()> {
    let Some((problem, limit)) = problems.iter().find_map(|problem| Some((problem, problem.limit?))) else {
        return Ok(());
    };
    if halving.is_some() {
        return Err(Error::Usage(format!(
            "halving divides epochs, and {} has {limit} in their place: leave one of them out",
            problem.name
        )));
    }
    let is_scheduled = |grid: &&OptimizerGrid| {
        grid.values("schedule").iter().any(|value| *value != OptionValue::Schedule(Schedule::Constant))
    };
    let in_seconds = problems.iter().any(|problem| matches!(problem.limit, Some(Limit::Seconds(_))));
    match optimizers.iter().find(is_scheduled).filter(|_| in_seconds) {
        Some(grid) => Err(Error::Usage(format!(
            "{} has a schedule, which goes by parts of a run, and with epochs = {{ seconds = .. }} nobody knows how long that \
             is: give epochs or steps, or leave the schedule out",
            grid.name
        ))),
        None => Ok(()),
    }
}

/// The metric that decides: the validation accuracy where all problems have one, else the validation loss.
fn metric(given: Option<Metric>, problems: &[ProblemDefinition]) -> Result<Metric> {
    let without = problems.iter().find(|problem| !problem.has_accuracy());
    match (given, without) {
        (Some(metric), Some(problem)) if metric.is_accuracy() => Err(Error::Usage(format!(
            "select.metric = \"{metric}\": {} has {}, with which there is no accuracy; expected train_losses, \
             valid_losses or test_losses, or leave the key out for valid_losses",
            problem.name,
            if problem.targets.is_default() { "the loss mse" } else { "targets = \"input\"" }
        ))),
        (Some(metric), _) => Ok(metric),
        (None, Some(_)) => Ok(Metric::ValidLosses),
        (None, None) => Ok(Metric::default()),
    }
}

/// The file's optimizers, or those given by name with what the file says of them.
fn chosen(given: &ExperimentKeys, entries: Vec<OptimizerEntry>) -> Result<Vec<OptimizerEntry>> {
    let Some(names) = &given.optimizers else {
        return if entries.is_empty() {
            let names = |damped: bool| {
                let these = OptimizerName::all().filter(|name| name.has_damping() == damped);
                these.map(OptimizerName::as_str).collect::<Vec<_>>().join(", ")
            };
            Err(Error::Usage(format!(
                "no optimizer is named: give --curv ({}), --optimizer ({}) or an experiment file with an [[optimizer]]",
                names(true),
                names(false)
            )))
        } else {
            Ok(entries)
        };
    };
    let mut known = HashSet::new();
    let mut result = Vec::new();
    for &name in names.iter().filter(|name| known.insert(**name)) {
        let before = result.len();
        result.extend(entries.iter().filter(|entry| entry.name == name).cloned());
        if result.len() == before {
            let (grid, place) = (GridKeys::default(), Default::default());
            result.push(OptimizerEntry { name, label: None, grid, problems: None, place });
        }
    }
    Ok(result)
}

/// Refuses a key that none of the optimizers has.
fn check_given(keys: &GridKeys, optimizers: &[OptimizerName]) -> Result<()> {
    if keys.dampings.is_some() && !optimizers.iter().any(|name| name.has_damping()) {
        return Err(Error::Usage("a damping is given, but none of the optimizers has one: leave it out".to_owned()));
    }
    keys.options.check(optimizers)
}

/// The optimizers' grids: what is given for all of them, their own values, what the file says for all, the default.
fn grids(
    given: GridKeys,
    common: GridKeys,
    entries: &[OptimizerEntry],
    in_file: &[OptimizerName],
) -> Result<Vec<OptimizerGrid>> {
    let chosen_curvature = entries.iter().any(|entry| entry.name.has_damping());
    let curvature = chosen_curvature || in_file.iter().any(|name| name.has_damping());
    let grid = |entry: &OptimizerEntry| {
        let name = entry.name;
        let meant = |keys: &GridKeys, beside_curvature| GridKeys {
            options: keys.options.clone().meant_for(name, beside_curvature),
            ..keys.clone()
        };
        let keys = meant(&given, chosen_curvature).or(entry.grid.clone()).or(meant(&common, curvature));
        let dampings = if name.has_damping() { keys.dampings } else { Some(Vec::new()) };
        let grid = OptimizerGrid {
            name,
            label: entry.label.clone(),
            learning_rates: distinct(keys.learning_rates.unwrap_or_else(name.info().learning_rates)),
            dampings: distinct(dampings.unwrap_or_else(name.info().dampings)),
            options: keys.options.resolve(name),
            problems: entry.problems.as_ref().map(|names| names.iter().map(|(name, _)| name.clone()).collect()),
        };
        if grid.count() > numbers::MAX_POINTS {
            return Err(Error::Usage(format!(
                "the grid of {name} has {} learning rates times {} dampings{}: at most {} settings are allowed",
                grid.learning_rates.len(),
                grid.dampings.len(),
                further_axes(&grid),
                numbers::MAX_POINTS
            )));
        }
        Ok(grid)
    };
    entries.iter().map(grid).collect()
}

/// ` times N values of KEY` for each option that has several.
fn further_axes(grid: &OptimizerGrid) -> String {
    let several = grid.options.iter().filter(|(_, values)| values.len() > 1);
    several.map(|(key, values)| format!(" times {} values of {key}", values.len())).collect()
}

/// The search, where one is asked for and its range has logarithms.
fn search(keys: &ExperimentKeys, optimizers: &[OptimizerGrid]) -> Result<Option<Search>> {
    let (kind, budget) = match (keys.search, keys.budget) {
        (None, None) => return Ok(None),
        (Some(kind), Some(budget)) => (kind, budget),
        (Some(kind), None) => {
            return Err(Error::Usage(format!(
                "search {kind} needs a number of settings: give --budget N, or budget = N"
            )));
        }
        (None, Some(_)) => {
            return Err(Error::Usage("budget is given without search: add --search random or --search halton".into()));
        }
    };
    match optimizers.iter().find(|grid| grid.dampings.len() > 1 && grid.dampings.contains(&0.0)) {
        Some(grid) => Err(Error::Usage(format!(
            "{}: damping 0 has no logarithm, by which search draws: give dampings above 0, or leave search out",
            grid.name
        ))),
        None => Ok(Some(Search { kind, budget })),
    }
}

/// The values without those that occurred before.
fn distinct(mut values: Vec<f64>) -> Vec<f64> {
    let mut known = HashSet::new();
    values.retain(|value| known.insert(value.to_bits()));
    values
}

/// Refuses an optimizer for a problem that the file does not have.
fn check_restrictions(entries: &[OptimizerEntry], problems: &[ProblemDefinition]) -> Result<()> {
    let known = problems.iter().map(|problem| problem.name.as_str());
    for (name, place) in entries.iter().flat_map(|entry| entry.problems.iter().flatten()) {
        if !known.clone().any(|known| known == name) {
            let title = format!("`{}` is not one of the experiment's problems", name.escape_debug());
            return Err(place.error(title, "not in `problem`").help(suggest::help(name, known)).into());
        }
    }
    Ok(())
}

/// Refuses two optimizers of one name on a problem: their curves could not be told apart.
fn check_twice(entries: &[OptimizerEntry], grids: &[OptimizerGrid], problems: &[ProblemDefinition]) -> Result<()> {
    for problem in problems {
        let mut known = HashSet::new();
        let twice = |grid: &OptimizerGrid| grid.is_for(&problem.name) && !known.insert(grid.title().to_owned());
        if let Some(index) = grids.iter().position(twice) {
            let grid = &grids[index];
            let name = grid.label.as_deref().unwrap_or(grid.name.as_str());
            let title = format!("the optimizer {name} is given twice for {}", problem.name);
            let error = entries[index].place.error(title, "its results could not be distinguished from the other's");
            return Err(error.help("give it a name of its own: label = \"..\"").into());
        }
    }
    Ok(())
}

/// The experiment's name: as given, or the file's, or made of the problems'.
fn name(keys: &ExperimentKeys, file: Option<&Path>, problems: &[ProblemDefinition]) -> String {
    if let Some(name) = &keys.name {
        return name.0.clone();
    }
    let stem = file.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    let names: Vec<_> = problems.iter().map(|problem| problem.name.as_str()).collect();
    let joined = names.join("+");
    match stem {
        Some(stem) => folder_name(&stem),
        None if is_folder_name(&joined) => joined,
        None => folder_name(&format!("{}+{}", names[0], names.len() - 1)),
    }
}

/// Refuses two problems of one name, whose results could not be told apart.
fn check_names(problems: &[ProblemDefinition]) -> Result<()> {
    let mut known = HashSet::new();
    match problems.iter().find(|problem| !known.insert(problem.name.as_str())) {
        Some(problem) => Err(Error::Usage(format!(
            "two problems are named `{}`: give each its own name in its file, or leave one out",
            problem.name
        ))),
        None => Ok(()),
    }
}
