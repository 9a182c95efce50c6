//! `--dry-run`: what would run, how long it would take and how much of the machine, and on request every run and the
//! resolved experiment.

use std::time::Duration;

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::flags::{DryRun, Format, LaunchFlags, Launcher, StudyFlags};
use super::print;
use super::runs::{self, RetryFlags};
use super::tables::{Table, whole};
use super::terminal::wrapped;
use crate::error::{Error, Result};
use crate::problems::definition::Limit;
use crate::study::collect::GridResult;
use crate::study::estimate::{self, Estimate};
use crate::study::experiment::{Experiment, Select};
use crate::study::halving;
use crate::study::launch::slurm::Variables;
use crate::study::plan::{Planned, Standing};
use crate::study::power;
use crate::study::prepare::Prepared;
use crate::study::run::DataCache;
use crate::study::task::RunTask;
use crate::table;
use crate::words::count;

/// Runs that are carried out together.
pub(super) struct Stage {
    /// What they are, where there is more than one stage.
    title: String,
    /// The runs that are known.
    planned: Vec<Planned>,
    /// In place of runs whose settings follow from earlier stages: the same runs of another setting, which cost as much.
    later: Vec<Planned>,
}

impl Stage {
    /// Of runs that are all known.
    pub fn known(title: &str, planned: Vec<Planned>) -> Self {
        Stage { title: title.to_owned(), planned, later: Vec::new() }
    }

    /// Of `known` runs and of others whose setting is not known yet, for which `stand_ins` are counted and timed.
    pub fn new(title: &str, known: Vec<RunTask>, stand_ins: Vec<RunTask>, retry: &RetryFlags) -> Result<Self> {
        let later =
            stand_ins.into_iter().map(|task| Planned { task, standing: Standing::ToDo, unsealed: false }).collect();
        Ok(Stage { title: title.to_owned(), planned: runs::plan(known, retry)?, later })
    }

    fn to_do(&self) -> impl Iterator<Item = &Planned> {
        self.planned.iter().filter(|run| run.standing.is_to_do()).chain(&self.later)
    }
}

/// The stages of grids: one without halving, else one a rung, all grids together.
pub(super) fn grid_stages(grids: &[&Prepared], select: Select, retry: &RetryFlags) -> Result<Vec<Stage>> {
    let mut stages: Vec<(Vec<RunTask>, Vec<RunTask>)> = Vec::new();
    for pair in grids {
        let result = GridResult::collect(pair, select)?;
        let levels = halving::rungs(pair.grid.settings.len(), result.epochs(), pair.halving);
        for (number, level) in levels.iter().enumerate() {
            if stages.len() == number {
                stages.push(Default::default());
            }
            match result.rungs.get(number) {
                Some(rung) => stages[number].0.extend(rung.iter().cloned()),
                None => stages[number].1.extend((0..level.settings).flat_map(|place| pair.runs(place, level.epochs))),
            }
        }
    }
    let several = stages.len() > 1;
    let title = |number: usize| if several { format!("grid, rung {}", number + 1) } else { "grid".to_owned() };
    let stages = stages.into_iter().enumerate();
    stages.map(|(number, (known, later))| Stage::new(&title(number), known, later, retry)).collect()
}

/// What the runs of one optimizer on one problem cost.
struct Cost {
    problem: String,
    optimizer: String,
    epochs: usize,
    limit: Option<Limit>,
    runs: usize,
    /// That of its first run, or why there is none.
    estimate: Result<Estimate>,
}

/// Prints what would be done, and does nothing of it.
pub(super) fn run(experiment: &Experiment, stages: &[Stage], flags: &StudyFlags) -> Result<()> {
    let hidden = match flags.launch.launcher {
        Launcher::Slurm => Variables::here()?.told,
        Launcher::Local => Vec::new(),
    };
    let costs = costs(stages);
    let jobs = flags.launch.jobs();
    print(&match flags.output.format {
        Format::Table => text(experiment, stages, &costs, &flags.launch, &hidden)?,
        Format::Csv => csv(stages)?,
        Format::Json => json(experiment, stages, &costs, jobs)?,
    })?;
    // What cannot be set up for a few steps cannot be run either; what this machine has no memory for another may have.
    let elsewhere = flags.launch.launcher == Launcher::Slurm;
    costs.into_iter().try_for_each(|cost| match cost.estimate {
        Err(Error::Memory(_)) if elsewhere => Ok(()),
        estimate => estimate.map(drop),
    })
}

/// How the runs would be submitted.
fn slurm(launch: &LaunchFlags, to_do: usize) -> String {
    let given = launch.slurm.clone().unwrap_or_default();
    let options: Vec<String> = given.arguments().collect();
    let limit = given.limit(launch.jobs.map(|jobs| jobs as usize));
    format!(
        "as SLURM job arrays, one per part, {} in all{}{}{}; the time limit applies to one run",
        count(to_do, "task"),
        if options.is_empty() { "" } else { ", submitted with " },
        options.join(" "),
        limit.map_or_else(String::new, |limit| format!(", at most {limit} at a time"))
    )
}

/// One estimate for each pair of problem and optimizer that has something to do, and for each number of epochs.
fn costs(stages: &[Stage]) -> Vec<Cost> {
    let mut cache = DataCache::default();
    let mut costs: Vec<Cost> = Vec::new();
    let to_do: Vec<&Planned> = stages.iter().flat_map(Stage::to_do).collect();
    if let Some(first) = to_do.first() {
        crate::runtime::set_threads(first.task.settings.threads);
        crate::runtime::keep_freed_memory();
    }
    for run in to_do {
        let settings = &run.task.settings;
        let (problem, optimizer) = (settings.problem.name.clone(), settings.optimizer.name.to_string());
        let epochs = settings.problem.epochs;
        let limit = settings.problem.limit;
        let same = |cost: &&mut Cost| cost.problem == problem && cost.optimizer == optimizer && cost.epochs == epochs;
        match costs.iter_mut().find(same) {
            Some(cost) => cost.runs += 1,
            None => {
                let estimate = estimate::estimate(&run.task, &mut cache);
                costs.push(Cost { problem, optimizer, epochs, limit, runs: 1, estimate });
            }
        }
    }
    costs
}

/// The answer first, then what it is made of; the resolved file and every run where all is asked for.
fn text(
    experiment: &Experiment,
    stages: &[Stage],
    costs: &[Cost],
    launch: &LaunchFlags,
    hidden: &[String],
) -> Result<String> {
    let mut text = answer(stages, costs, launch);
    hidden.iter().for_each(|line| text += &wrapped(line, 0));
    if let Some(note) = power::too_few_seeds(experiment) {
        text += &wrapped(&format!("note: {note}"), 0);
    }
    if stages.len() > 1 {
        stages.iter().for_each(|stage| text += &stage.line());
    }
    if !costs.is_empty() {
        text += "\n# estimate, from timing a few steps; interrupted runs need less\n";
        text += &estimates(costs);
    }
    if launch.dry_run != Some(DryRun::Full) {
        return Ok(text + &wrapped("--dry-run=full also prints the resolved experiment file and every run", 0));
    }
    for stage in stages {
        text += &match stages.len() {
            1 => "\n# runs\n".to_owned(),
            _ => format!("\n# runs: {}\n", stage.title),
        };
        for run in &stage.planned {
            text += &format!("{:>8}  {}\n", run.standing.as_str(), run.task.folder().path().display());
        }
        if !stage.later.is_empty() {
            text += &format!(
                "{:>8}  {} of settings that depend on the stage before\n",
                "later",
                count(stage.later.len(), "run")
            );
        }
    }
    Ok(text + &format!("\n# resolved configuration\n{}\n", experiment.to_toml()?.trim_end()))
}

impl Stage {
    /// "grid: 30 runs, 12 done, 18 to do".
    fn line(&self) -> String {
        let mut states: Vec<(&str, usize)> = Vec::new();
        let later = self.later.iter().map(|_| "later");
        for state in self.planned.iter().map(|run| run.standing.as_str()).chain(later) {
            match states.iter_mut().find(|(known, _)| *known == state) {
                Some((_, number)) => *number += 1,
                None => states.push((state, 1)),
            }
        }
        let states: Vec<String> = states.iter().map(|(state, number)| format!("{number} {state}")).collect();
        let all = count(self.planned.len() + self.later.len(), "run");
        wrapped(&format!("{}: {all}, {}", self.title, states.join(", ")), 2)
    }
}

/// How many runs, how long, how much.
fn answer(stages: &[Stage], costs: &[Cost], launch: &LaunchFlags) -> String {
    let jobs = launch.jobs();
    let all: usize = stages.iter().map(|stage| stage.planned.len() + stage.later.len()).sum();
    let to_do = stages.iter().flat_map(Stage::to_do).count();
    let mut text = match launch.launcher {
        Launcher::Local => wrapped(&format!("{}, {to_do} to do, {jobs} at a time", count(all, "run")), 0),
        Launcher::Slurm => wrapped(&format!("{}, {to_do} to do, {}", count(all, "run"), slurm(launch, to_do)), 0),
    };
    let known: Option<Vec<&Estimate>> = costs.iter().map(|cost| cost.estimate.as_ref().ok()).collect();
    let Some(known) = known.filter(|known| !known.is_empty()) else { return text };
    let total: f64 = costs.iter().zip(&known).map(|(cost, estimate)| estimate.seconds * cost.runs as f64).sum();
    let memory = known.iter().map(|estimate| estimate.memory_bytes * jobs.min(to_do) as u64).max().unwrap_or(0);
    let disk: u64 = costs.iter().zip(&known).map(|(cost, estimate)| disk_bytes(cost.runs, estimate, jobs)).sum();
    let first = stages.iter().flat_map(Stage::to_do).next();
    let free = first.and_then(|run| estimate::free_disk(&run.task.runs_dir).ok());
    let free = free.map_or_else(String::new, |free| format!(" ({} free)", ByteSize(free)));
    let time = duration(total / jobs as f64);
    text += &wrapped(&format!("time {time}, memory {}, disk {}{free}", ByteSize(memory), ByteSize(disk)), 0);
    text
}

/// A row for each optimizer on each problem.
fn estimates(costs: &[Cost]) -> String {
    let names = ["problem", "optimizer", "epochs", "runs", "steps/s", "time per run", "memory per run", "disk per run"];
    let mut table = Table::new(names).right(2..8).droppable(&["steps/s", "disk per run", "epochs"]);
    let mut reasons = String::new();
    for cost in costs {
        let length = cost.limit.map_or_else(|| cost.epochs.to_string(), |limit| limit.to_string());
        let mut row = vec![cost.problem.clone(), cost.optimizer.clone(), length, cost.runs.to_string()];
        match &cost.estimate {
            Ok(estimate) => row.extend([
                rate(1.0 / estimate.step_seconds),
                whole(&duration(estimate.seconds)),
                whole(&ByteSize(estimate.memory_bytes).to_string()),
                whole(&ByteSize(estimate.disk_bytes).to_string()),
            ]),
            Err(error) => {
                reasons += &wrapped(&format!("{} {}: cannot be timed: {error}", cost.problem, cost.optimizer), 0);
                row.extend(["-", "-", "-", "-"].map(str::to_owned));
            }
        }
        table.row(row);
    }
    format!("{table}\n{reasons}")
}

/// Two digits at least.
fn rate(per_second: f64) -> String {
    let decimals = (1.0 - per_second.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{per_second:.decimals$}")
}

/// All runs' results, and the checkpoints of those that run at the same time.
fn disk_bytes(runs: usize, estimate: &Estimate, jobs: usize) -> u64 {
    runs as u64 * estimate.kept_bytes + jobs.min(runs) as u64 * (estimate.disk_bytes - estimate.kept_bytes)
}

fn duration(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    match seconds {
        short if short < Duration::from_secs(10) => format!("{:.1}s", short.as_secs_f64()),
        long => humantime::format_duration(Duration::from_secs(long.as_secs())).to_string(),
    }
}

fn csv(stages: &[Stage]) -> Result<String> {
    let record = |run: &Planned| vec![run.standing.as_str().to_owned(), run.task.folder().path().display().to_string()];
    table::csv(&["state", "folder"], stages.iter().flat_map(|stage| &stage.planned).map(record))
}

fn json(experiment: &Experiment, stages: &[Stage], costs: &[Cost], jobs: usize) -> Result<String> {
    let object = |stage: &Stage, run: &Planned| {
        json!({
            "stage": stage.title,
            "state": run.standing.as_str(),
            "folder": run.task.folder().path().display().to_string(),
            "seed": run.task.seed,
            "settings": run.task.settings,
        })
    };
    let runs: Vec<Value> =
        stages.iter().flat_map(|stage| stage.planned.iter().map(move |run| object(stage, run))).collect();
    let later: Vec<Value> = stages
        .iter()
        .filter(|stage| !stage.later.is_empty())
        .map(|stage| json!({ "stage": stage.title, "runs": stage.later.len() }))
        .collect();
    let costs: Vec<Value> = costs
        .iter()
        .map(|cost| match &cost.estimate {
            Ok(estimate) => json!({
                "problem": cost.problem,
                "optimizer": cost.optimizer,
                "epochs": cost.epochs,
                "runs": cost.runs,
                "step_seconds": estimate.step_seconds,
                "run_seconds": estimate.seconds,
                "memory_bytes": estimate.memory_bytes,
                "disk_bytes": estimate.disk_bytes,
            }),
            Err(error) => json!({
                "problem": cost.problem,
                "optimizer": cost.optimizer,
                "epochs": cost.epochs,
                "runs": cost.runs,
                "error": error.to_string(),
            }),
        })
        .collect();
    let value = json!({
        "schema_version": 1,
        "experiment": experiment.to_toml()?,
        "jobs": jobs,
        "runs": runs,
        "later": later,
        "estimates": costs,
        "notes": power::too_few_seeds(experiment).into_iter().collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&value);
    Ok(text.map_err(|error| Error::Environment(format!("writing JSON: {error}")))? + "\n")
}
