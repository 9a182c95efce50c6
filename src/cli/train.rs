//! `backpack-run train`: one setting.

use clap::Args;

use super::dry_run;
use super::flags::{Format, StudyFlags};
use super::runs::{self, Shown};
use super::tables::{self, Table};
use super::terminal::{Global, print};
use crate::error::{Error, Result};
use crate::study::collect;
use crate::study::conduct::Study;
use crate::study::event::Evaluation;
use crate::study::experiment::Experiment;
use crate::study::forecast::Stage;
use crate::study::select::SeedResult;
use crate::study::store::EpochRow;
use crate::study::store::rows::to_csv;
use crate::table;

/// Train one setting, with one seed or several.
///
/// Example: backpack-run train --problem mnist_logreg --optimizer adam --lr 1e-3 --epochs 5
///
/// Prints losses and accuracies after the last epoch, and the folder of each run.
#[derive(Args, Clone, Debug)]
#[command(
    mut_arg("problem", |arg| arg.value_name("PROBLEM").help("The problem: a built-in name (see `list problems`) or the path of a problem file")),
    mut_arg("curv", |arg| arg.value_name("NAME").help("The damped curvature rule: diag_ggn, diag_ggn_mc, kfac, kflr, kfra, ekfac or foof (see `list optimizers`)")),
    mut_arg("optimizer", |arg| arg.value_name("NAME").help("The optimizer: sgd, momentum, adam, adamw, muon, soap or shampoo (see `list optimizers`)")),
    mut_arg("lr", |arg| arg.value_name("NUMBER").help("The learning rate")),
    mut_arg("damping", |arg| arg.value_name("NUMBER").help("The damping")),
    mut_arg("search", |arg| arg.hide(true)),
    mut_arg("budget", |arg| arg.hide(true)),
    mut_arg("halving", |arg| arg.hide(true))
)]
pub struct TrainArgs {
    #[command(flatten)]
    flags: StudyFlags,
    #[command(flatten)]
    retry: runs::RetryFlags,
}

/// Trains, and prints each seed's last evaluation and its folder.
pub(super) fn run(args: TrainArgs, global: &Global) -> Result<()> {
    let by_flag = args.flags.search.is_some() || args.flags.budget.is_some() || args.flags.halving.is_some();
    if by_flag || ["search", "budget", "halving"].iter().any(|key| args.flags.sets(key)) {
        return Err(Error::Usage("train runs one setting; search, budget and halving belong to grid".to_owned()));
    }
    // In an experiment file they are for the other commands.
    let experiment = Experiment { search: None, halving: None, ..args.flags.resolve()? };
    let study = Study::of_one_setting(experiment, &runs::folders(&args.flags)?)?;
    if args.flags.launch.dry_run.is_some() {
        let stage = Stage::new("", study.runs(), Vec::new(), args.retry.failed())?;
        return dry_run::run(&study.experiment.without_seeds(), vec![stage], &args.flags);
    }
    let (terms, mut shown) = (runs::terms(&args.flags, &args.retry, global)?, Shown::new(global));
    study.carry_out_runs(&terms, &mut |event| shown.tell(event))?;
    let mut results = Vec::new();
    for run in study.runs() {
        let folder = run.folder();
        if let Some(result) = collect::read(&folder)? {
            results.push((run.seed, folder, result));
        }
    }
    let text = match args.flags.output.format {
        Format::Table => {
            let folders = results.iter().map(|(_, folder, _)| format!("{}\n", folder.path().display()));
            let rows = results.iter().map(|(seed, _, result)| (*seed, result));
            format!("{}\n{}", table_of(rows), folders.collect::<String>())
        }
        Format::Csv => {
            // The columns of epochs.csv hold numbers alone, none of which is quoted.
            let columns = to_csv::<EpochRow>(&[])?;
            let header: Vec<&str> =
                ["seed", "folder", "diverged"].into_iter().chain(columns.trim_end().split(',')).collect();
            let mut records = Vec::new();
            for (seed, folder, result) in &results {
                if let Some(row) = result.rows.last() {
                    let values = to_csv(&[*row])?;
                    let mut record =
                        vec![seed.to_string(), folder.path().display().to_string(), result.diverged.to_string()];
                    record.extend(values.lines().nth(1).unwrap_or_default().split(',').map(str::to_owned));
                    records.push(record);
                }
            }
            table::csv(&header, records)?
        }
        Format::Json => {
            let runs: Vec<_> = results
                .iter()
                .map(|(seed, folder, result)| {
                    serde_json::json!({
                        "seed": seed,
                        "folder": folder.path().display().to_string(),
                        "diverged": result.diverged,
                        "final": result.rows.last().map(Evaluation::from),
                    })
                })
                .collect();
            let value = serde_json::json!({ "schema_version": 1, "runs": runs });
            let text = serde_json::to_string_pretty(&value);
            text.map_err(|error| Error::Environment(format!("writing JSON: {error}")))? + "\n"
        }
    };
    print(&text)
}

/// A row for each seed.
fn table_of<'a>(results: impl Iterator<Item = (u64, &'a SeedResult)>) -> Table {
    let names =
        ["seed", "epochs", "result", "train loss", "valid loss", "test loss", "valid accuracy", "test accuracy"];
    let mut table =
        Table::new(names).right([0, 1, 3, 4, 5, 6, 7]).droppable(&["train loss", "valid loss", "test loss"]);
    for (seed, result) in results {
        let row = result.rows.last().map(Evaluation::from);
        let number =
            |value: fn(&Evaluation) -> Option<f64>| tables::number(row.as_ref().and_then(value).unwrap_or(f64::NAN));
        table.row([
            seed.to_string(),
            result.rows.last().map_or(0, |row| row.epoch).to_string(),
            if result.diverged { "diverged" } else { "done" }.to_owned(),
            number(|row| row.train_loss),
            number(|row| row.valid_loss),
            number(|row| row.test_loss),
            number(|row| row.valid_accuracy),
            number(|row| row.test_accuracy),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::widths::{measured, snapshot};

    #[test]
    fn the_table_of_seeds() {
        let diverged = SeedResult { diverged: true, ..measured(1, 12345.6, 0.1) };
        let results = [(42, measured(100, 0.0312, 0.9912)), (18_446_744_073_709_551_615, diverged)];
        let rows = || results.iter().map(|(seed, result)| (*seed, result));
        insta::assert_snapshot!(snapshot(&|| table_of(rows()).to_string()), @"
        80 columns
        ┌──────────────────────┬────────┬──────────┬─────────┬────────────┬────────────┐
        │                 seed ┆ epochs ┆ result   ┆    test ┆      valid ┆       test │
        │                      ┆        ┆          ┆    loss ┆   accuracy ┆   accuracy │
        ╞══════════════════════╪════════╪══════════╪═════════╪════════════╪════════════╡
        │                   42 ┆    100 ┆ done     ┆  0.0512 ┆     0.9812 ┆     0.9712 │
        │ 18446744073709551615 ┆      1 ┆ diverged ┆ 1.235e4 ┆     0.0900 ┆     0.0800 │
        └──────────────────────┴────────┴──────────┴─────────┴────────────┴────────────┘
        no room here for: train loss, valid loss (--format csv has them)

        100 columns
        ┌──────────────────────┬────────┬──────────┬─────────┬─────────┬─────────┬────────────┬────────────┐
        │                 seed ┆ epochs ┆ result   ┆   train ┆   valid ┆    test ┆      valid ┆       test │
        │                      ┆        ┆          ┆    loss ┆    loss ┆    loss ┆   accuracy ┆   accuracy │
        ╞══════════════════════╪════════╪══════════╪═════════╪═════════╪═════════╪════════════╪════════════╡
        │                   42 ┆    100 ┆ done     ┆  0.0312 ┆  0.0412 ┆  0.0512 ┆     0.9812 ┆     0.9712 │
        │ 18446744073709551615 ┆      1 ┆ diverged ┆ 1.235e4 ┆ 1.235e4 ┆ 1.235e4 ┆     0.0900 ┆     0.0800 │
        └──────────────────────┴────────┴──────────┴─────────┴─────────┴─────────┴────────────┴────────────┘

        150 columns
        ┌──────────────────────┬────────┬──────────┬────────────┬────────────┬───────────┬────────────────┬───────────────┐
        │                 seed ┆ epochs ┆ result   ┆ train loss ┆ valid loss ┆ test loss ┆ valid accuracy ┆ test accuracy │
        ╞══════════════════════╪════════╪══════════╪════════════╪════════════╪═══════════╪════════════════╪═══════════════╡
        │                   42 ┆    100 ┆ done     ┆     0.0312 ┆     0.0412 ┆    0.0512 ┆         0.9812 ┆        0.9712 │
        │ 18446744073709551615 ┆      1 ┆ diverged ┆    1.235e4 ┆    1.235e4 ┆   1.235e4 ┆         0.0900 ┆        0.0800 │
        └──────────────────────┴────────┴──────────┴────────────┴────────────┴───────────┴────────────────┴───────────────┘
        ");
    }
}
