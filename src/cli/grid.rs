//! `backpack-run grid`: every setting of a grid, and which is the best.

use clap::Args;
use serde_json::{Value, json};

use super::dry_run;
use super::flags::{Format, StudyFlags};
use super::runs::{self, Shown};
use super::study::advice;
use super::tables::{Table, number};
use super::terminal::{Global, print, wrapped};
use crate::error::{Error, Result};
use crate::study::collect::GridResult;
use crate::study::conduct::{Conclusion, Study};
use crate::study::event::finite;
use crate::study::results::{option_cells, option_columns};
use crate::study::settings::decimal;
use crate::table;

/// Train every setting of a grid and name the best.
///
/// Example: backpack-run grid --problem mnist_logreg --curv kfac --jobs 2
///
/// Without --lr and --damping, the grid is the paper's. --search draws settings from its range instead; --halving trains all
/// settings for a few epochs and only the best of them for longer. Runs that are done are skipped, and an interrupted run
/// resumes from its last checkpoint.
#[derive(Args, Clone, Debug)]
pub struct GridArgs {
    #[command(flatten)]
    flags: StudyFlags,
    #[command(flatten)]
    retry: runs::RetryFlags,
}

/// Carries the grid out and prints its table.
pub(super) fn run(args: GridArgs, global: &Global) -> Result<()> {
    let study = Study::of_grids(args.flags.resolve()?, &runs::folders(&args.flags)?)?;
    if args.flags.launch.dry_run.is_some() {
        let stages = study.grid_stages(args.retry.failed())?;
        return dry_run::run(&study.experiment.without_seeds(), stages, &args.flags);
    }
    let (terms, mut shown) = (runs::terms(&args.flags, &args.retry, global)?, Shown::new(global));
    let Conclusion { results, failure } = study.carry_out_grids(&terms, &mut |event| shown.tell(event))?;
    // What the other runs have found out is worth a table though some failed.
    if failure.is_none() || results.iter().any(|result| !result.ranking.is_empty()) {
        print(&render(&results, args.flags.output.format)?)?;
    }
    failure.map_or(Ok(()), Err)
}

// A grid's result as a table, as CSV and as JSON.

/// All grids in the form that was asked for.
fn render(results: &[GridResult], format: Format) -> Result<String> {
    match format {
        Format::Table => Ok(results.iter().map(text).collect::<Vec<_>>().join("\n")),
        Format::Csv => csv(results),
        Format::Json => {
            let value = json!({ "schema_version": 1, "grids": results.iter().map(object).collect::<Vec<_>>() });
            let text = serde_json::to_string_pretty(&value);
            Ok(text.map_err(|error| Error::Environment(format!("writing JSON: {error}")))? + "\n")
        }
    }
}

/// Rows are learning rates, columns dampings, or a row is a setting where there is more to it; the best one has a star.
fn text(result: &GridResult) -> String {
    let grid = &result.grid;
    let gridded = grid.gridded();
    let mut table;
    if grid.search.is_some() || !gridded.is_empty() {
        let numbers: &[&str] = if grid.optimizer.has_damping() { &["lr", "damping"] } else { &["lr"] };
        let header = numbers.iter().copied().chain(gridded.iter().copied());
        table = Table::new(header.chain([result.select.metric.as_str()]));
        for (place, candidate) in result.candidates.iter().enumerate() {
            let options = option_cells(&gridded, &grid.settings[place]);
            let numbers = [Some(candidate.learning_rate), candidate.damping].into_iter().flatten().map(decimal);
            table.row(numbers.chain(options).chain([cell(result, place)]));
        }
    } else {
        let columns = grid.dampings.len().max(1);
        let mut header = vec!["lr".to_owned()];
        match grid.dampings.is_empty() {
            true => header.push(result.select.metric.to_string()),
            false => header.extend(grid.dampings.iter().map(|damping| format!("damping {}", decimal(*damping)))),
        }
        table = Table::new(header);
        for (row, learning_rate) in grid.learning_rates.iter().enumerate() {
            let cells = (0..columns).map(|column| cell(result, row * columns + column));
            table.row(std::iter::once(decimal(*learning_rate)).chain(cells));
        }
    }
    let table = table.right(0..1 + gridded.len() + grid.dampings.len().max(2));
    let title = format!(
        "{}, {}: {} {}, {}",
        result.problem,
        grid.title(),
        result.select.mode,
        result.select.metric,
        describe_seeds(result)
    );
    let mut text = format!("{title}\n{table}\n");
    match result.best() {
        Some(best) => {
            let candidate = &result.candidates[best];
            text += &format!(
                "best: {}, {} {}\n",
                result.grid.setting_label(best),
                result.select.metric,
                number(candidate.score(result.select))
            );
        }
        None => text += "best: none; no run reached its end\n",
    }
    if result.rungs.len() > 1 {
        text += "@: epochs of the setting's last rung; the best setting is the best of the last rung\n";
    }
    for edge in result.edges() {
        text += &wrapped(&format!("warning: {}", advice(&edge)), 0);
    }
    text
}

fn describe_seeds(result: &GridResult) -> String {
    let seeds = result.candidates.iter().map(|candidate| candidate.results.len()).max().unwrap_or(0);
    if seeds == 1 { "one seed".to_owned() } else { format!("the mean of up to {seeds} seeds") }
}

fn cell(result: &GridResult, place: usize) -> String {
    let candidate = &result.candidates[place];
    let score = match state(result, place) {
        "done" => number(candidate.score(result.select)),
        "diverged" => return "diverged".to_owned(),
        _ if candidate.results.is_empty() => return "failed".to_owned(),
        _ => format!("({})", number(candidate.score(result.select))),
    };
    // With halving, values of different epochs stand in one table.
    let epochs = result.runs[place].first().map_or(0, |run| run.task.settings.problem.epochs);
    let after = if result.rungs.len() > 1 && epochs > 0 { format!(" @{epochs}") } else { String::new() };
    if result.best() == Some(place) { format!("* {score}{after}") } else { score + &after }
}

/// `done` where all seeds went on to the end, `diverged` where all diverged, `failed` where none has a result.
fn state(result: &GridResult, place: usize) -> &'static str {
    let candidate = &result.candidates[place];
    match candidate.diverged() {
        _ if candidate.results.is_empty() => "failed",
        0 if result.unfinished[place] == 0 => "done",
        diverged if diverged == candidate.results.len() => "diverged",
        _ => "partial",
    }
}

fn csv(results: &[GridResult]) -> Result<String> {
    let columns = option_columns(results.iter().map(|result| &result.grid));
    let header = [
        &["problem", "optimizer", "learning_rate", "damping"],
        columns.as_slice(),
        &["seeds", "diverged", "state", "metric", "mode", "value", "rank"],
    ]
    .concat();
    let record = |(result, place): (&GridResult, usize)| {
        let candidate = &result.candidates[place];
        let head = vec![
            result.problem.clone(),
            result.grid.name().to_owned(),
            candidate.learning_rate.to_string(),
            candidate.damping.map(|damping| damping.to_string()).unwrap_or_default(),
        ];
        let tail = vec![
            candidate.results.len().to_string(),
            candidate.diverged().to_string(),
            state(result, place).to_owned(),
            result.select.metric.to_string(),
            result.select.mode.to_string(),
            finite(candidate.score(result.select)).map(|value| value.to_string()).unwrap_or_default(),
            result.rank(place).map(|rank| rank.to_string()).unwrap_or_default(),
        ];
        [head, option_cells(&columns, &result.grid.settings[place]), tail].concat()
    };
    let all = results.iter().flat_map(|result| (0..result.candidates.len()).map(move |place| (result, place)));
    table::csv(&header, all.map(record))
}

fn object(result: &GridResult) -> Value {
    let entry = |place: usize| {
        let candidate = &result.candidates[place];
        let mut entry = json!({
            "learning_rate": candidate.learning_rate,
            "damping": candidate.damping,
            "seeds": candidate.results.len(),
            "diverged": candidate.diverged(),
            "state": state(result, place),
            "value": finite(candidate.score(result.select)),
            "rank": result.rank(place),
        });
        let settings = &result.grid.settings[place];
        for key in result.grid.gridded() {
            entry[key] = json!(settings.option(key));
        }
        entry
    };
    let edges: Vec<Value> = result
        .edges()
        .iter()
        .map(
            |edge| json!({ "axis": edge.axis, "value": edge.value, "end": if edge.upper { "upper" } else { "lower" } }),
        )
        .collect();
    json!({
        "problem": result.problem,
        "optimizer": result.grid.name(),
        "metric": result.select.metric,
        "mode": result.select.mode,
        "settings": (0..result.candidates.len()).map(entry).collect::<Vec<_>>(),
        "best": result.best().map(entry),
        "edges": edges,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::widths::{pair, snapshot};

    #[test]
    fn the_table_of_a_grid() {
        let rates = "learning_rate=0.0001,0.001,0.01";
        let dampings = "damping=0.0001,0.001,0.01,0.1,1,10";
        let options = ["optimizer=adam", rates, "betas=[[0.9,0.999],[0.95,0.95]]", "eps=[1e-8,1e-4]"];
        let grids = [
            pair("mnist_logreg", &["optimizer=kfac", rates, dampings], 2).grid,
            pair("cifar10_3c3d_sigmoid", &options, 1).grid,
        ];
        insta::assert_snapshot!(snapshot(&|| render(&grids, Format::Table).unwrap()));
    }
}
