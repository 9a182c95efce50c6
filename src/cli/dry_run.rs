//! `--dry-run`: what would run, how long it would take and how much of the machine, and on request every run and the
//! resolved experiment.

use std::time::Duration;

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::choices::typed;
use super::flags::{DryRun, Format, LaunchFlags, Launcher, StudyFlags};
use super::tables::{Table, whole};
use super::terminal::{print, wrapped};
use crate::error::{Error, Result};
use crate::study::aggregate;
use crate::study::experiment::Experiment;
use crate::study::forecast::{Cost, Forecast, Stage, Total};
use crate::study::launch::slurm::Variables;
use crate::study::standing::Planned;
use crate::table;
use crate::words::count;

/// Prints what would be done, and does nothing of it.
pub(super) fn run(experiment: &Experiment, stages: Vec<Stage>, flags: &StudyFlags) -> Result<()> {
    let hidden = match flags.launch.launcher {
        Launcher::Slurm => Variables::here()?.told,
        Launcher::Local => Vec::new(),
    };
    let forecast = Forecast::of(stages);
    print(&match flags.output.format {
        Format::Table => text(experiment, &forecast, forecast.total(flags.launch.jobs()), &flags.launch, &hidden)?,
        Format::Csv => csv(&forecast.stages)?,
        Format::Json => json(experiment, &forecast, flags.launch.jobs())?,
    })?;
    let launch = &flags.launch;
    forecast
        .costs
        .into_iter()
        .find(|cost| obstacle(cost, launch).is_some())
        .map_or(Ok(()), |cost| cost.estimate.map(drop))
}

/// Why the runs of a cost cannot start, if they cannot: what cannot be set up for a few steps cannot be run either, but
/// what this machine has no memory for another may have.
fn obstacle<'a>(cost: &'a Cost, launch: &LaunchFlags) -> Option<&'a Error> {
    let elsewhere = launch.launcher == Launcher::Slurm;
    cost.estimate.as_ref().err().filter(|error| !(elsewhere && matches!(error, Error::Memory(_))))
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

/// The answer first, then what it is made of; the resolved file and every run where all is asked for.
fn text(
    experiment: &Experiment,
    forecast: &Forecast,
    total: Option<Total>,
    launch: &LaunchFlags,
    hidden: &[String],
) -> Result<String> {
    let Forecast { stages, costs } = forecast;
    let mut text = answer(forecast, total, launch);
    hidden.iter().for_each(|line| text += &wrapped(line, 0));
    if let Some(note) = aggregate::too_few_seeds(experiment) {
        text += &wrapped(&format!("note: {note}"), 0);
    }
    if stages.len() > 1 {
        stages.iter().for_each(|stage| text += &line(stage));
    }
    if !costs.is_empty() {
        text += "\n# estimate, from timing a few steps; interrupted runs need less\n";
        text += &estimates(costs, launch);
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

/// "grid: 30 runs, 12 done, 18 to do".
fn line(stage: &Stage) -> String {
    let mut states: Vec<(&str, usize)> = Vec::new();
    let later = stage.later.iter().map(|_| "later");
    for state in stage.planned.iter().map(|run| run.standing.as_str()).chain(later) {
        match states.iter_mut().find(|(known, _)| *known == state) {
            Some((_, number)) => *number += 1,
            None => states.push((state, 1)),
        }
    }
    let states: Vec<String> = states.iter().map(|(state, number)| format!("{number} {state}")).collect();
    wrapped(&format!("{}: {}, {}", stage.title, count(stage.runs(), "run"), states.join(", ")), 2)
}

/// How many runs, how long, how much.
fn answer(forecast: &Forecast, total: Option<Total>, launch: &LaunchFlags) -> String {
    let (jobs, to_do) = (launch.jobs(), forecast.to_do());
    let all = count(forecast.runs(), "run");
    let mut text = match launch.launcher {
        Launcher::Local => wrapped(&format!("{all}, {to_do} to do, {jobs} at a time"), 0),
        Launcher::Slurm => wrapped(&format!("{all}, {to_do} to do, {}", slurm(launch, to_do)), 0),
    };
    if let Some(total) = total {
        let free = total.free_disk.map_or_else(String::new, |free| format!(" ({} free)", ByteSize(free)));
        let (time, memory) = (duration(total.seconds), ByteSize(total.memory_bytes));
        text += &wrapped(&format!("time {time}, memory {memory}, disk {}{free}", ByteSize(total.disk_bytes)), 0);
    }
    text
}

/// A row for each optimizer on each problem, and why some cannot be timed: each reason once, except the one that the
/// command ends with.
fn estimates(costs: &[Cost], launch: &LaunchFlags) -> String {
    let names = ["problem", "optimizer", "epochs", "runs", "steps/s", "time per run", "memory per run", "disk per run"];
    let mut table = Table::new(names).right(2..8).droppable(&["steps/s", "disk per run", "epochs"]);
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
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
                let (reason, run) = (error.to_string(), format!("{} {}", cost.problem, cost.optimizer));
                match reasons.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, runs)) => runs.push(run),
                    None => reasons.push((reason, vec![run])),
                }
                row.extend(["-", "-", "-", "-"].map(str::to_owned));
            }
        }
        table.row(row);
    }
    let last = costs.iter().find_map(|cost| obstacle(cost, launch)).map(Error::to_string);
    let told = reasons.iter().filter(|(reason, _)| Some(reason) != last.as_ref());
    let told =
        told.map(|(reason, runs)| wrapped(&format!("{} cannot be timed: {}", runs.join(", "), typed(reason)), 0));
    format!("{table}\n{}", told.collect::<String>())
}

/// Two digits at least.
fn rate(per_second: f64) -> String {
    let decimals = (1.0 - per_second.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{per_second:.decimals$}")
}

fn duration(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    match seconds {
        short if short < Duration::from_secs(10) => format!("{:.1}s", short.as_secs_f64()),
        // An estimate of days is not known to the minute. Months would not be of whole days.
        days if days >= Duration::from_secs(86_400) => {
            let hours = (days.as_secs() + 1800) / 3600;
            format!("{} {}h", count(hours as usize / 24, "day"), hours % 24)
        }
        long => {
            let unit = if long < Duration::from_secs(3600) { 1 } else { 60 };
            let units = (long.as_secs() + unit / 2) / unit;
            humantime::format_duration(Duration::from_secs(units * unit)).to_string()
        }
    }
}

fn csv(stages: &[Stage]) -> Result<String> {
    let record = |run: &Planned| vec![run.standing.as_str().to_owned(), run.task.folder().path().display().to_string()];
    table::csv(&["state", "folder"], stages.iter().flat_map(|stage| &stage.planned).map(record))
}

fn json(experiment: &Experiment, Forecast { stages, costs }: &Forecast, jobs: usize) -> Result<String> {
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
        "notes": aggregate::too_few_seeds(experiment).into_iter().collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&value);
    Ok(text.map_err(|error| Error::Environment(format!("writing JSON: {error}")))? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::widths::{experiment, snapshot, tasks};
    use crate::study::forecast::Estimate;
    use crate::study::standing::Standing;

    #[test]
    fn the_answer_comes_first_and_then_what_it_is_made_of() {
        let experiment =
            experiment(&["problem=mnist_logreg", "optimizer=kfac", "learning_rate=0.01,1", "damping=0.1,1"]);
        let plan = |task, standing| Planned { task, standing, unsealed: false };
        let mut planned: Vec<Planned> =
            tasks(&experiment, "mnist_logreg").into_iter().map(|task| plan(task, Standing::ToDo)).collect();
        planned[1].standing = Standing::Done;
        let later = tasks(&experiment, "mnist_logreg").into_iter().map(|task| plan(task, Standing::ToDo)).collect();
        let stages = vec![
            Stage { title: "grid".to_owned(), planned, later: Vec::new() },
            Stage { title: "seeds of the best settings".to_owned(), planned: Vec::new(), later },
        ];
        let estimate = Estimate {
            step_seconds: 0.0123,
            evaluation_seconds: 1.0,
            steps_per_epoch: 390,
            seconds: 4000.0,
            memory_bytes: 700 << 20,
            disk_bytes: 30 << 20,
            kept_bytes: 1 << 20,
        };
        let cost = |problem: &str, optimizer: &str, estimate| Cost {
            problem: problem.to_owned(),
            optimizer: optimizer.to_owned(),
            epochs: 100,
            limit: None,
            runs: 1200,
            estimate,
        };
        let costs = vec![
            cost("cifar10_3c3d_sigmoid", "diag_ggn_mc", Ok(estimate)),
            cost("mnist_logreg", "kfac", Ok(Estimate { step_seconds: 0.000_51, seconds: 7.0, ..estimate })),
            cost("mnist_logreg", "kfra", Err(Error::Unsupported("kfra has no rule for this loss".into()))),
        ];
        let forecast = Forecast { stages, costs };
        let total =
            Total { seconds: 100_000.0, memory_bytes: 1400 << 20, disk_bytes: 5 << 30, free_disk: Some(700 << 30) };
        let launch = LaunchFlags { jobs: Some(2), ..LaunchFlags::default() };
        let text = || text(&experiment, &forecast, Some(total), &launch, &[]).unwrap();
        assert!(text().starts_with("8 runs, 7 to do, 2 at a time\ntime 1 day 4h, memory 1.4 GiB, "), "{}", text());
        assert_eq!([3.2, 59.6, 86_399.0, 58.29 * 86_400.0].map(duration), ["3.2s", "59s", "1day", "58 days 7h"]);
        insta::assert_snapshot!(snapshot(&text), @"
        80 columns
        8 runs, 7 to do, 2 at a time
        time 1 day 4h, memory 1.4 GiB, disk 5.0 GiB (700.0 GiB free)
          grid: 4 runs, 3 to do, 1 done
          seeds of the best settings: 4 runs, 4 later

        # estimate, from timing a few steps; interrupted runs need less
        ┌──────────────────────┬─────────────┬────────┬──────┬───────────┬─────────────┐
        │ problem              ┆ optimizer   ┆ epochs ┆ runs ┆  time per ┆  memory per │
        │                      ┆             ┆        ┆      ┆       run ┆         run │
        ╞══════════════════════╪═════════════╪════════╪══════╪═══════════╪═════════════╡
        │ cifar10_3c3d_sigmoid ┆ diag_ggn_mc ┆    100 ┆ 1200 ┆     1h 7m ┆   700.0 MiB │
        │ mnist_logreg         ┆ kfac        ┆    100 ┆ 1200 ┆      7.0s ┆   700.0 MiB │
        │ mnist_logreg         ┆ kfra        ┆    100 ┆ 1200 ┆         - ┆           - │
        └──────────────────────┴─────────────┴────────┴──────┴───────────┴─────────────┘
        no room here for: steps/s, disk per run (--format csv has them)
        --dry-run=full also prints the resolved experiment file and every run

        100 columns
        8 runs, 7 to do, 2 at a time
        time 1 day 4h, memory 1.4 GiB, disk 5.0 GiB (700.0 GiB free)
          grid: 4 runs, 3 to do, 1 done
          seeds of the best settings: 4 runs, 4 later

        # estimate, from timing a few steps; interrupted runs need less
        ┌──────────────────────┬─────────────┬────────┬──────┬─────────┬──────────┬────────────┬───────────┐
        │ problem              ┆ optimizer   ┆ epochs ┆ runs ┆ steps/s ┆ time per ┆ memory per ┆  disk per │
        │                      ┆             ┆        ┆      ┆         ┆      run ┆        run ┆       run │
        ╞══════════════════════╪═════════════╪════════╪══════╪═════════╪══════════╪════════════╪═══════════╡
        │ cifar10_3c3d_sigmoid ┆ diag_ggn_mc ┆    100 ┆ 1200 ┆      81 ┆    1h 7m ┆  700.0 MiB ┆  30.0 MiB │
        │ mnist_logreg         ┆ kfac        ┆    100 ┆ 1200 ┆    1961 ┆     7.0s ┆  700.0 MiB ┆  30.0 MiB │
        │ mnist_logreg         ┆ kfra        ┆    100 ┆ 1200 ┆       - ┆        - ┆          - ┆         - │
        └──────────────────────┴─────────────┴────────┴──────┴─────────┴──────────┴────────────┴───────────┘
        --dry-run=full also prints the resolved experiment file and every run

        150 columns
        8 runs, 7 to do, 2 at a time
        time 1 day 4h, memory 1.4 GiB, disk 5.0 GiB (700.0 GiB free)
          grid: 4 runs, 3 to do, 1 done
          seeds of the best settings: 4 runs, 4 later

        # estimate, from timing a few steps; interrupted runs need less
        ┌──────────────────────┬─────────────┬────────┬──────┬─────────┬──────────────┬────────────────┬──────────────┐
        │ problem              ┆ optimizer   ┆ epochs ┆ runs ┆ steps/s ┆ time per run ┆ memory per run ┆ disk per run │
        ╞══════════════════════╪═════════════╪════════╪══════╪═════════╪══════════════╪════════════════╪══════════════╡
        │ cifar10_3c3d_sigmoid ┆ diag_ggn_mc ┆    100 ┆ 1200 ┆      81 ┆        1h 7m ┆      700.0 MiB ┆     30.0 MiB │
        │ mnist_logreg         ┆ kfac        ┆    100 ┆ 1200 ┆    1961 ┆         7.0s ┆      700.0 MiB ┆     30.0 MiB │
        │ mnist_logreg         ┆ kfra        ┆    100 ┆ 1200 ┆       - ┆            - ┆              - ┆            - │
        └──────────────────────┴─────────────┴────────┴──────┴─────────┴──────────────┴────────────────┴──────────────┘
        --dry-run=full also prints the resolved experiment file and every run
        ");
    }
}
