//! `--dry-run`: the resolved configuration, the runs and where they stand, and what they will cost.

use std::time::Duration;

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::flags::{Format, StudyFlags};
use super::{grid_table, print};
use crate::error::{Error, Result};
use crate::study::estimate::{self, Estimate};
use crate::study::experiment::Experiment;
use crate::study::plan::Planned;
use crate::study::run::DataCache;

/// What the runs of one optimizer on one problem cost.
struct Cost {
    problem: String,
    optimizer: String,
    runs: usize,
    /// That of its first run, or why there is none.
    estimate: Result<Estimate>,
}

/// Prints what would be done, and does nothing of it.
pub(super) fn run(experiment: &Experiment, planned: &[Planned], flags: &StudyFlags) -> Result<()> {
    let costs = costs(planned);
    let jobs = flags.launch.jobs();
    print(&match flags.output.format {
        Format::Table => text(experiment, planned, &costs, jobs)?,
        Format::Csv => csv(planned),
        Format::Json => json(experiment, planned, &costs, jobs)?,
    })
}

/// One estimate for each pair of problem and optimizer that has something to do.
fn costs(planned: &[Planned]) -> Vec<Cost> {
    let mut cache = DataCache::default();
    let mut costs: Vec<Cost> = Vec::new();
    let to_do: Vec<&Planned> = planned.iter().filter(|run| run.standing.is_to_do()).collect();
    if let Some(first) = to_do.first() {
        crate::runtime::set_threads(first.task.settings.threads);
        crate::runtime::keep_freed_memory();
    }
    for run in to_do {
        let settings = &run.task.settings;
        let (problem, optimizer) = (settings.problem.name.clone(), settings.optimizer.name.to_string());
        match costs.iter_mut().find(|cost| cost.problem == problem && cost.optimizer == optimizer) {
            Some(cost) => cost.runs += 1,
            None => {
                let estimate = estimate::estimate(&run.task, &mut cache);
                costs.push(Cost { problem, optimizer, runs: 1, estimate });
            }
        }
    }
    costs
}

fn text(experiment: &Experiment, planned: &[Planned], costs: &[Cost], jobs: usize) -> Result<String> {
    let mut text = format!("# resolved configuration\n{}\n# runs\n", experiment.to_toml()?.trim_end());
    for run in planned {
        text += &format!("{:>8}  {}\n", run.standing.as_str(), run.task.folder().path().display());
    }
    let to_do = planned.iter().filter(|run| run.standing.is_to_do()).count();
    text += &format!("{} runs, {to_do} to do, {jobs} at a time\n", planned.len());
    if costs.is_empty() {
        return Ok(text);
    }
    text += "\n# estimate, from timing a few steps (without what interrupted runs have behind them)\n";
    let mut table = grid_table::table();
    table.set_header(["problem", "optimizer", "runs", "steps/s", "time a run", "memory a run", "disk a run"]);
    let mut total = Some(0.0);
    let (mut memory, mut disk) = (0u64, 0u64);
    for cost in costs {
        let mut row = vec![cost.problem.clone(), cost.optimizer.clone(), cost.runs.to_string()];
        match &cost.estimate {
            Ok(estimate) => {
                total = total.map(|total| total + estimate.seconds * cost.runs as f64);
                memory = memory.max(estimate.memory_bytes * jobs.min(to_do) as u64);
                disk += disk_bytes(cost.runs, estimate, jobs);
                row.extend([
                    format!("{:.0}", 1.0 / estimate.step_seconds),
                    duration(estimate.seconds),
                    ByteSize(estimate.memory_bytes).to_string(),
                    ByteSize(estimate.disk_bytes).to_string(),
                ]);
            }
            Err(error) => {
                total = None;
                text += &format!("{} {}: cannot be timed: {error}\n", cost.problem, cost.optimizer);
                row.extend(["-", "-", "-", "-"].map(str::to_owned));
            }
        }
        table.add_row(row);
    }
    text += &format!("{table}\n");
    if let Some(total) = total {
        let free = planned.first().and_then(|run| estimate::free_disk(&run.task.runs_dir).ok());
        let free = free.map_or_else(String::new, |free| format!(" ({} free)", ByteSize(free)));
        text += &format!(
            "time {}, memory {}, disk {}{free}\n",
            duration(total / jobs as f64),
            ByteSize(memory),
            ByteSize(disk)
        );
    }
    Ok(text)
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

fn csv(planned: &[Planned]) -> String {
    let line = |run: &Planned| {
        let folder = run.task.folder().path().display().to_string().replace('"', "\"\"");
        format!("{},\"{folder}\"\n", run.standing.as_str())
    };
    std::iter::once("state,folder\n".to_owned()).chain(planned.iter().map(line)).collect()
}

fn json(experiment: &Experiment, planned: &[Planned], costs: &[Cost], jobs: usize) -> Result<String> {
    let runs: Vec<Value> = planned
        .iter()
        .map(|run| json!({ "state": run.standing.as_str(), "folder": run.task.folder().path(), "seed": run.task.seed, "settings": run.task.settings }))
        .collect();
    let costs: Vec<Value> = costs
        .iter()
        .map(|cost| match &cost.estimate {
            Ok(estimate) => json!({
                "problem": cost.problem,
                "optimizer": cost.optimizer,
                "runs": cost.runs,
                "step_seconds": estimate.step_seconds,
                "run_seconds": estimate.seconds,
                "memory_bytes": estimate.memory_bytes,
                "disk_bytes": estimate.disk_bytes,
            }),
            Err(error) => json!({
                "problem": cost.problem,
                "optimizer": cost.optimizer,
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
        "estimates": costs,
    });
    let text = serde_json::to_string_pretty(&value);
    Ok(text.map_err(|error| Error::Environment(format!("writing JSON: {error}")))? + "\n")
}
