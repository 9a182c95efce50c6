//! `check`: holds every quantity of a problem to the oracle.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;
use serde_json::json;

use super::flags::{FolderFlags, Format, OutputFlags, memory_size, open_device};
use super::tables::Table;
use super::terminal::{print, wrapped};
use super::{choices, random_nets, terminal};
use crate::backpack::oracle::{self, CheckReport, CheckRow, CheckSettings, Coordinates};
use crate::backpack::{memory, quantities};
use crate::error::{Error, Result};
use crate::problems::builder::{build_loss, build_network};
use crate::problems::data::{DataFolders, describe};
use crate::problems::definition::{self, parse_set};
use crate::runtime::{DeviceChoice, set_threads};
use crate::table;
use crate::words::count;

/// The version of the JSON.
const SCHEMA_VERSION: u64 = 1;

/// Samples in the batch.
const SAMPLES: i64 = 4;

/// Entries of a tensor that are compared where each takes a derivative.
const COORDINATES: usize = 64;

/// Compare every quantity of a problem with automatic differentiation.
///
/// Example: backpack-run check --problem path/to/net.toml
///
/// This is done in double precision on a small random batch in the shape of the problem's data. The exit code is 1 where a
/// quantity does not agree.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// A built-in problem (see `list problems`) or the path of a problem file
    #[arg(long, value_name = "PROBLEM", required_unless_present = "random_nets")]
    problem: Option<String>,
    /// Override a key of the problem file, for example loss=mse; repeatable
    #[arg(long, value_name = "KEY=VALUE", requires = "problem", help_heading = "Computing")]
    set: Vec<String>,
    /// Instead of a problem, check small random networks for this many seconds, also in single precision; 0 checks one
    #[arg(
        long,
        value_name = "SECONDS",
        conflicts_with_all = ["problem", "quantities", "all_coordinates", "mc_samples", "memory_budget", "data_dir"]
    )]
    random_nets: Option<u64>,
    /// Quantities, comma-separated (see `list quantities`), or all
    #[arg(long, value_name = "LIST", default_value = "all", value_delimiter = ',')]
    quantities: Vec<String>,
    /// Compare all entries rather than 64 of each tensor where each one takes a derivative
    #[arg(long)]
    all_coordinates: bool,
    /// The seed of parameters, batch, sampled labels and compared entries, or of the first random network
    #[arg(long, value_name = "SEED", default_value_t = 42)]
    seed: u64,
    /// Labels drawn per sample
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=1000))]
    mc_samples: i64,
    /// Print the table of all comparisons, not only of those that fail
    #[arg(long)]
    table: bool,
    /// Memory that a quantity may take; those that need more are left out [default: three quarters of what is free]
    #[arg(long, value_name = "SIZE", value_parser = memory_size, help_heading = "Computing")]
    memory_budget: Option<ByteSize>,
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Computing")]
    threads: Option<u16>,
    /// Where tensors live: cpu, cuda or cuda:INDEX [env: BACKPACK_RUN_DEVICE] [default: cpu]
    #[arg(long, value_name = "DEVICE", help_heading = "Computing")]
    device: Option<DeviceChoice>,
    /// Data sets [default: $BACKPACK_RUN_DATA, else the usual places]
    #[arg(long, value_name = "DIR", help_heading = "Computing")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    output: OutputFlags,
}

/// Prints the comparison.
///
/// # Errors
/// [`Error::Failed`] where the quantities are not the oracle's; what [`definition::load`] and [`oracle::check`] say.
pub(super) fn run(args: CheckArgs) -> Result<()> {
    let Some(problem) = &args.problem else {
        return random_nets::run(args.random_nets.unwrap_or(0), args.seed, args.threads, args.device, &args.output);
    };
    choices::check_quantity_names(args.quantities.iter().map(|name| name.trim()))?;
    let mut definition = definition::load(problem)?;
    for argument in &args.set {
        parse_set(argument)?.apply(&mut definition);
    }
    let loss = build_loss(&definition)?;
    let folders = FolderFlags { data_dir: args.data_dir.clone(), ..FolderFlags::default() };
    let info = describe(&definition.dataset, &DataFolders::from_choice(folders.data().as_deref()))?;
    let device = open_device(args.device)?;
    if let Some(threads) = args.threads {
        set_threads(threads.into());
    }
    let mut network = build_network(&definition, &info.shape, args.seed)?;
    network.log_choices();
    let all = quantities::all();
    let everything = args.quantities.iter().any(|name| name == "all");
    let names: Vec<&str> = if everything {
        all.iter().map(|quantity| quantity.name()).collect()
    } else {
        args.quantities.iter().map(|name| name.trim()).collect()
    };
    let coordinates = match args.all_coordinates {
        true => Coordinates::All,
        false => Coordinates::Drawn { count: COORDINATES, seed: args.seed },
    };
    let settings = CheckSettings {
        quantities: &names,
        strict: !everything,
        samples: SAMPLES,
        seed: args.seed,
        mc_samples: args.mc_samples,
        coordinates,
        memory: args.memory_budget.map_or_else(memory::default_budget, |budget| Ok(budget.as_u64()))?,
        device,
    };
    let report = oracle::check(&mut network, loss.as_ref(), &info.shape, &settings)?;
    print(&match args.output.format {
        Format::Table => text(&report, args.table),
        Format::Csv => csv(&report)?,
        Format::Json => json_text(&report),
    })?;
    if args.output.format != Format::Table {
        for skipped in &report.skipped {
            terminal::log_line(&format!("{} was not compared: {}", skipped.what, skipped.reason));
        }
    }
    match report.failures() {
        0 => Ok(()),
        failures => Err(Error::Failed(format!(
            "{failures} of {} comparisons with automatic differentiation fail",
            report.rows.len()
        ))),
    }
}

const HEADER: [&str; 7] = ["quantity", "layer", "parameter", "error", "bound", "compared", "ok"];

fn cells(report: &CheckReport) -> impl Iterator<Item = [String; 7]> {
    report.rows.iter().map(|row| {
        [
            row.quantity.to_owned(),
            row.layer.clone(),
            row.parameter.to_owned(),
            format!("{:.1e}", row.error),
            format!("{:e}", row.bound),
            row.compared.to_string(),
            if row.ok { "yes" } else { "NO" }.to_owned(),
        ]
    })
}

/// The table where it is asked for, else what does not hold, and one line on all of it.
fn text(report: &CheckReport, wants_table: bool) -> String {
    let mut text = String::new();
    if wants_table || report.failures() > 0 {
        let mut table = Table::new(HEADER).right([3, 4, 5]).droppable(&["compared", "bound"]);
        let shown = cells(report).zip(&report.rows).filter(|(_, row)| wants_table || !row.ok);
        shown.for_each(|(row, _)| table.row(row));
        text = format!("{table}\n");
    }
    for skipped in &report.skipped {
        text += &wrapped(&format!("{} was not compared: {}", skipped.what, skipped.reason), 0);
    }
    let (all, failures) = (report.rows.len(), report.failures());
    let worst = report.rows.iter().map(|row| row.error).fold(0.0, f64::max);
    let compared = count(all, "comparison");
    text + &match failures {
        _ if all == 0 => "nothing was compared\n".to_owned(),
        0 => format!("{compared} {}, worst {worst:.0e}\n", if all == 1 { "holds" } else { "hold" }),
        _ => format!("{failures} of {compared} {}, worst {worst:.0e}\n", if failures == 1 { "fails" } else { "fail" }),
    }
}

fn csv(report: &CheckReport) -> Result<String> {
    let record = |row: &CheckRow| {
        let names = [row.quantity, row.layer.as_str(), row.parameter].map(str::to_owned);
        let values = [row.error.to_string(), row.bound.to_string(), row.compared.to_string(), row.ok.to_string()];
        [names.as_slice(), &values].concat()
    };
    table::csv(&HEADER, report.rows.iter().map(record))
}

fn json_text(report: &CheckReport) -> String {
    let rows = report.rows.iter().map(|row| {
        json!({
            "quantity": row.quantity,
            "layer": row.layer,
            "parameter": row.parameter,
            "error": row.error,
            "bound": row.bound,
            "compared": row.compared,
            "ok": row.ok,
        })
    });
    let document = json!({ "schema_version": SCHEMA_VERSION, "rows": rows.collect::<Vec<_>>() });
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::widths::snapshot;

    #[test]
    fn the_table_is_of_what_fails_or_of_everything() {
        let row = |quantity, ok| CheckRow {
            quantity,
            layer: "2".to_owned(),
            parameter: "weight",
            error: if ok { 1e-15 } else { 0.5 },
            bound: 1e-9,
            compared: 4,
            ok,
        };
        let report = CheckReport { rows: vec![row("grad", true), row("diag_hessian", false)], skipped: Vec::new() };
        let shown = |wants_table| text(&report, wants_table);
        assert!(shown(false).contains("diag_hessian") && !shown(false).contains("grad"), "{}", shown(false));
        assert!(shown(true).contains("diag_hessian") && shown(true).contains("grad"), "{}", shown(true));
        assert!(shown(false).contains("1 of 2 comparisons fails"), "{}", shown(false));
        insta::assert_snapshot!(snapshot(&|| text(&report, true)), @"
        80 columns
        ┌──────────────┬───────┬───────────┬─────────┬───────┬──────────┬─────┐
        │ quantity     ┆ layer ┆ parameter ┆   error ┆ bound ┆ compared ┆ ok  │
        ╞══════════════╪═══════╪═══════════╪═════════╪═══════╪══════════╪═════╡
        │ grad         ┆ 2     ┆ weight    ┆ 1.0e-15 ┆  1e-9 ┆        4 ┆ yes │
        │ diag_hessian ┆ 2     ┆ weight    ┆  5.0e-1 ┆  1e-9 ┆        4 ┆ NO  │
        └──────────────┴───────┴───────────┴─────────┴───────┴──────────┴─────┘
        1 of 2 comparisons fails, worst 5e-1

        100 columns
        ┌──────────────┬───────┬───────────┬─────────┬───────┬──────────┬─────┐
        │ quantity     ┆ layer ┆ parameter ┆   error ┆ bound ┆ compared ┆ ok  │
        ╞══════════════╪═══════╪═══════════╪═════════╪═══════╪══════════╪═════╡
        │ grad         ┆ 2     ┆ weight    ┆ 1.0e-15 ┆  1e-9 ┆        4 ┆ yes │
        │ diag_hessian ┆ 2     ┆ weight    ┆  5.0e-1 ┆  1e-9 ┆        4 ┆ NO  │
        └──────────────┴───────┴───────────┴─────────┴───────┴──────────┴─────┘
        1 of 2 comparisons fails, worst 5e-1

        150 columns
        ┌──────────────┬───────┬───────────┬─────────┬───────┬──────────┬─────┐
        │ quantity     ┆ layer ┆ parameter ┆   error ┆ bound ┆ compared ┆ ok  │
        ╞══════════════╪═══════╪═══════════╪═════════╪═══════╪══════════╪═════╡
        │ grad         ┆ 2     ┆ weight    ┆ 1.0e-15 ┆  1e-9 ┆        4 ┆ yes │
        │ diag_hessian ┆ 2     ┆ weight    ┆  5.0e-1 ┆  1e-9 ┆        4 ┆ NO  │
        └──────────────┴───────┴───────────┴─────────┴───────┴──────────┴─────┘
        1 of 2 comparisons fails, worst 5e-1
        ");
        let good = CheckReport { rows: vec![row("grad", true)], skipped: Vec::new() };
        assert_eq!(text(&good, false), "1 comparison holds, worst 1e-15\n");
        let good = CheckReport { rows: vec![row("grad", true), row("kfac", true)], skipped: Vec::new() };
        assert_eq!(text(&good, false), "2 comparisons hold, worst 1e-15\n");
    }
}
