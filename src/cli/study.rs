//! `backpack-run study`: grids, the best setting of each, its seeds, and what they come to.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::dry_run;
use super::flags::{Format, StudyFlags};
use super::runs::{self, Shown};
use super::tables::{Table, number, whole};
use super::terminal::{self, Global, print, wrapped};
use crate::error::{Error, Result};
use crate::optimizers::OptionValue;
use crate::report::results::edges_in_words;
use crate::study::aggregate::Diverged;
use crate::study::axes::Edge;
use crate::study::conduct::{Conclusion, Study};
use crate::study::experiment::Metric;
use crate::study::results::{PairResult, StudyResults, final_csv, option_columns};
use crate::study::settings::decimal;
use crate::words::shell_quoted;

/// Run an experiment file: its grids, then the best settings with all seeds.
///
/// Example: backpack-run study configs/fig10_quick.toml --jobs 2
///
/// For each optimizer on each problem, this runs the grid with grid_seed, picks the best setting, and runs that setting with
/// all seeds. RESULTS/NAME holds curves.csv, seeds.csv, grid.csv, final.csv and meta.json, which are kept up to date while the
/// study is running. Started again, it skips the runs that are done. `report NAME` then makes a page of the results.
#[derive(Args, Clone, Debug)]
pub struct StudyArgs {
    #[command(flatten)]
    aggregation: AggregationFlags,
    #[command(flatten)]
    flags: StudyFlags,
    #[command(flatten)]
    retry: runs::RetryFlags,
}

/// How seeds are put together.
#[derive(Args, Clone, Debug)]
pub(super) struct AggregationFlags {
    /// How diverged runs count in curves over seeds
    #[arg(long, value_enum, default_value_t, display_order = 900)]
    pub diverged: Diverged,
}

/// Carries the study out and prints its final values.
pub(super) fn run(args: StudyArgs, global: &Global) -> Result<()> {
    let study = Study::prepare(args.flags.resolve()?, &runs::folders(&args.flags)?)?;
    let experiment = &study.experiment;
    if args.flags.launch.dry_run.is_some() {
        return dry_run::run(experiment, study.stages(args.retry.failed())?, &args.flags);
    }
    if !study.choices().is_empty() && !experiment.seeds.contains(&experiment.grid_seed) && !global.is_quiet() {
        terminal::log_line(&format!(
            "the grids run with seed {} (grid_seed), which is not one of the seeds of the best settings",
            experiment.grid_seed
        ));
    }
    let results = study.results_in(&args.flags.folders.results(), args.aggregation.diverged)?;
    let (terms, mut shown) = (runs::terms(&args.flags, &args.retry, global)?, Shown::new(global));
    let conclusion = study.carry_out(results, &terms, &mut |event| shown.tell(event))?;
    conclude(conclusion, &experiment.name, &args.flags)
}

// The final values of a study as a table, as CSV and as JSON.

/// Prints the final values if there are any, and ends as the runs did.
pub(super) fn conclude(conclusion: Conclusion<StudyResults>, name: &str, flags: &StudyFlags) -> Result<()> {
    let Conclusion { results, failure } = conclusion;
    let paths: Vec<String> = results.folders.iter().map(|path| path.display().to_string()).collect();
    if failure.is_none() || !results.rows.is_empty() {
        print(&match flags.output.format {
            Format::Table => table(&results.pairs, results.diverged),
            Format::Csv => final_csv(&results.rows)?,
            Format::Json => {
                let value = json!({ "schema_version": 1, "name": name, "folders": paths, "results": results.rows });
                let text = serde_json::to_string_pretty(&value);
                text.map_err(|error| Error::Environment(format!("writing JSON: {error}")))? + "\n"
            }
        })?;
        terminal::log_line(&format!("results in {}", paths.join(", ")));
        results.pairs.iter().flat_map(beyond).for_each(|line| terminal::log_line(&line));
        terminal::log_line(&format!("next: backpack-run report {}", next(&results.folders, flags)));
    }
    failure.map_or(Ok(()), Err)
}

/// What `report` is to be given.
fn next(folders: &[PathBuf], flags: &StudyFlags) -> String {
    let name = |folder: &PathBuf| shell_quoted(&folder.file_name().unwrap_or_default().to_string_lossy());
    let mut words: Vec<String> = folders.iter().map(name).collect();
    if let Some(results) = &flags.folders.results_dir {
        words.extend(["--results-dir".to_owned(), shell_quoted(&results.display().to_string())]);
    }
    words.join(" ")
}

/// A line for each axis on whose edge a best setting lies, with what to try next.
fn beyond(pair: &PairResult) -> Vec<String> {
    pair.grid.edges().iter().map(|edge| format!("{}: {}", pair.name(), advice(edge))).collect()
}

/// What is to be said of an edge: which, and what to try next where something follows.
pub(super) fn advice(edge: &Edge) -> String {
    let side = if edge.upper { "high" } else { "low" };
    let value = |value: &OptionValue| match value {
        OptionValue::Number(number) => decimal(*number),
        other => other.to_string(),
    };
    let next: Vec<String> = edge.next.iter().map(value).collect();
    let follows =
        if next.is_empty() { String::new() } else { format!("; next, try {} = [{}]", edge.key, next.join(", ")) };
    format!("the best setting lies on the grid's edge ({} {side}){follows}", edge.axis.replace('_', " "))
}

/// One row an optimizer and problem: median and quartiles.
fn table(pairs: &[PairResult], diverged: Diverged) -> String {
    const SHOWN: [Metric; 4] =
        [Metric::TrainLosses, Metric::TestLosses, Metric::ValidAccuracies, Metric::TestAccuracies];
    let head = ["problem", "optimizer", "setting", "on edge", "seeds"];
    let mut table = Table::new(head.into_iter().chain(SHOWN.iter().map(|metric| metric.as_str())))
        .right(4..9)
        // Lines below the table tell of edges.
        .droppable(&["train_losses", "valid_accuracies", "test_losses", "on edge", "setting"]);
    let columns = option_columns(pairs.iter().map(|pair| &pair.grid.grid));
    for pair in pairs {
        let Some(settings) = pair.winner.and_then(|place| pair.grid.grid.settings.get(place)) else { continue };
        let rows = pair.final_rows(diverged, &columns, None);
        let setting = settings.label_with(&columns).split(", ").map(whole).collect::<Vec<_>>().join(", ");
        let seeds = match rows.first() {
            Some(row) if row.diverged > 0 => format!("{}, {} diverged", pair.finished().len(), row.diverged),
            _ => pair.finished().len().to_string(),
        };
        let cell = |metric| {
            let Some(row) = rows.iter().find(|row| row.metric == metric) else { return "-".to_owned() };
            let at = &row.statistics;
            // The ends stay together.
            let ends = whole(&format!("[{}, {}]", number(at.lower_quartile), number(at.upper_quartile)));
            format!("{} {ends}", number(at.median))
        };
        let head = [pair.grid.problem.clone(), pair.grid.grid.title().to_owned(), setting, edge(pair), seeds];
        table.row(head.into_iter().chain(SHOWN.map(cell)));
    }
    wrapped("median [lower quartile, upper quartile] over seeds after the last epoch", 0) + &format!("{table}\n")
}

/// "lr low" where the best setting lies on an edge.
fn edge(pair: &PairResult) -> String {
    let words = edges_in_words(&pair.edge());
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::widths::{pair, snapshot};

    #[test]
    fn the_table_of_a_study() {
        let momentum =
            ["optimizer=momentum", "learning_rate=0.01,0.1,1", "momentum=[0.5,0.9]", "nesterov=[true,false]"];
        let pairs = [
            pair("mnist_logreg", &["optimizer=kfac", "learning_rate=0.01,0.1,1", "damping=0.001,0.1,10"], 3),
            pair("cifar10_3c3d_sigmoid", &momentum, 0),
            pair("fmnist_2c2d", &["optimizer=adam", "learning_rate=0.001"], 0),
        ];
        insta::assert_snapshot!(snapshot(&|| table(&pairs, Diverged::default())), @"
        80 columns
        median [lower quartile, upper quartile] over seeds after the last epoch
        ┌──────────────────────┬───────────┬────────────────┬───────┬──────────────────┐
        │ problem              ┆ optimizer ┆ setting        ┆ seeds ┆  test_accuracies │
        ╞══════════════════════╪═══════════╪════════════════╪═══════╪══════════════════╡
        │ mnist_logreg         ┆ KFAC      ┆ lr 0.1,        ┆     3 ┆           0.8900 │
        │                      ┆           ┆ damping 0.001, ┆       ┆ [0.8885, 0.8960] │
        │                      ┆           ┆ momentum 0     ┆       ┆                  │
        │ cifar10_3c3d_sigmoid ┆ Momentum  ┆ lr 0.01,       ┆     3 ┆           0.8900 │
        │                      ┆           ┆ momentum 0.5,  ┆       ┆ [0.8885, 0.8960] │
        │                      ┆           ┆ nesterov true  ┆       ┆                  │
        │ fmnist_2c2d          ┆ Adam      ┆ lr 0.001       ┆     3 ┆           0.8900 │
        │                      ┆           ┆                ┆       ┆ [0.8885, 0.8960] │
        └──────────────────────┴───────────┴────────────────┴───────┴──────────────────┘
        no room here for: train_losses, valid_accuracies, test_losses, on edge (--format
          csv has them)

        100 columns
        median [lower quartile, upper quartile] over seeds after the last epoch
        ┌──────────────────────┬───────────┬──────────────────────┬─────────────┬───────┬──────────────────┐
        │ problem              ┆ optimizer ┆ setting              ┆ on edge     ┆ seeds ┆  test_accuracies │
        ╞══════════════════════╪═══════════╪══════════════════════╪═════════════╪═══════╪══════════════════╡
        │ mnist_logreg         ┆ KFAC      ┆ lr 0.1,              ┆ damping low ┆     3 ┆           0.8900 │
        │                      ┆           ┆ damping 0.001,       ┆             ┆       ┆ [0.8885, 0.8960] │
        │                      ┆           ┆ momentum 0           ┆             ┆       ┆                  │
        │ cifar10_3c3d_sigmoid ┆ Momentum  ┆ lr 0.01,             ┆ lr low,     ┆     3 ┆           0.8900 │
        │                      ┆           ┆ momentum 0.5,        ┆ momentum    ┆       ┆ [0.8885, 0.8960] │
        │                      ┆           ┆ nesterov true        ┆ low         ┆       ┆                  │
        │ fmnist_2c2d          ┆ Adam      ┆ lr 0.001             ┆ -           ┆     3 ┆           0.8900 │
        │                      ┆           ┆                      ┆             ┆       ┆ [0.8885, 0.8960] │
        └──────────────────────┴───────────┴──────────────────────┴─────────────┴───────┴──────────────────┘
        no room here for: train_losses, valid_accuracies, test_losses (--format csv has them)

        150 columns
        median [lower quartile, upper quartile] over seeds after the last epoch
        ┌──────────────────────┬───────────┬─────────────────┬───────────┬───────┬──────────────────┬──────────────────┬──────────────────┬──────────────────┐
        │ problem              ┆ optimizer ┆ setting         ┆ on edge   ┆ seeds ┆     train_losses ┆      test_losses ┆ valid_accuracies ┆  test_accuracies │
        ╞══════════════════════╪═══════════╪═════════════════╪═══════════╪═══════╪══════════════════╪══════════════════╪══════════════════╪══════════════════╡
        │ mnist_logreg         ┆ KFAC      ┆ lr 0.1,         ┆ damping   ┆     3 ┆           0.3000 ┆           0.3200 ┆           0.9000 ┆           0.8900 │
        │                      ┆           ┆ damping 0.001,  ┆ low       ┆       ┆ [0.2940, 0.3015] ┆ [0.3140, 0.3215] ┆ [0.8985, 0.9060] ┆ [0.8885, 0.8960] │
        │                      ┆           ┆ momentum 0      ┆           ┆       ┆                  ┆                  ┆                  ┆                  │
        │ cifar10_3c3d_sigmoid ┆ Momentum  ┆ lr 0.01,        ┆ lr low,   ┆     3 ┆           0.3000 ┆           0.3200 ┆           0.9000 ┆           0.8900 │
        │                      ┆           ┆ momentum 0.5,   ┆ momentum  ┆       ┆ [0.2940, 0.3015] ┆ [0.3140, 0.3215] ┆ [0.8985, 0.9060] ┆ [0.8885, 0.8960] │
        │                      ┆           ┆ nesterov true   ┆ low       ┆       ┆                  ┆                  ┆                  ┆                  │
        │ fmnist_2c2d          ┆ Adam      ┆ lr 0.001        ┆ -         ┆     3 ┆           0.3000 ┆           0.3200 ┆           0.9000 ┆           0.8900 │
        │                      ┆           ┆                 ┆           ┆       ┆ [0.2940, 0.3015] ┆ [0.3140, 0.3215] ┆ [0.8985, 0.9060] ┆ [0.8885, 0.8960] │
        └──────────────────────┴───────────┴─────────────────┴───────────┴───────┴──────────────────┴──────────────────┴──────────────────┴──────────────────┘
        ");
    }

    #[test]
    fn an_edge_is_told_with_what_to_try_next() {
        let told = |set: &[&str], best| beyond(&pair("mnist_logreg", set, best));
        let kfac = ["optimizer=kfac", "learning_rate=0.01,0.1,1", "damping=0.001,0.1,10"];
        let on_edge = "KFAC on mnist_logreg: the best setting lies on the grid's edge";
        assert_eq!(told(&kfac, 3), [format!("{on_edge} (damping low); next, try damping = [0.001, 0.0001, 0.00001]")]);
        assert_eq!(told(&kfac, 4), Vec::<String>::new());
        assert_eq!(
            told(&["optimizer=adam", "learning_rate=0.001", "betas=[[0.9,0.99],[0.9,0.999]]"], 1),
            ["Adam on mnist_logreg: the best setting lies on the grid's edge (betas[1] high); next, try \
              betas = [[0.9, 0.999], [0.9, 0.9999], [0.9, 0.99999]]"]
        );
        let every = ["optimizer=kfac", "learning_rate=1", "damping=1", "inverse_every=[1,10]"];
        assert_eq!(
            told(&every, 1),
            [format!("{on_edge} (inverse every high); next, try inverse_every = [10, 100, 1000]")]
        );
    }
}
