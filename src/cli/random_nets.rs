//! `check --random-nets`: holds small random networks to the oracle for a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;
use tracing::subscriber::NoSubscriber;

use super::flags::{Format, OutputFlags, open_device};
use super::tables::Table;
use super::terminal;
use super::terminal::print;
use crate::error::{Error, Result};
use crate::problems::random_nets::{Digits, draw, hold};
use crate::runtime::{DeviceChoice, set_threads};
use crate::table;

/// The version of the JSON.
const SCHEMA_VERSION: u64 = 1;

/// The networks that do not hold of which everything is told.
const SHOWN: usize = 5;

/// What a quantity came to in one number type, over all networks.
#[derive(Default)]
struct Row {
    nets: usize,
    compared: usize,
    error: f64,
}

/// Checks the networks of this seed and those that follow until the time is over, at least one, and prints the largest
/// errors.
///
/// # Errors
/// [`Error::Failed`] where a network does not hold.
pub(super) fn run(
    seconds: u64,
    seed: u64,
    threads: Option<u16>,
    device: Option<DeviceChoice>,
    output: &OutputFlags,
) -> Result<()> {
    let device = open_device(device)?;
    set_threads(threads.unwrap_or(1).into());
    let (started, time) = (Instant::now(), Duration::from_secs(seconds));
    let mut rows: BTreeMap<(&'static str, Digits), Row> = BTreeMap::new();
    let (mut nets, mut failed) = (0u64, Vec::new());
    while nets == 0 || started.elapsed() < time {
        let seed = seed.wrapping_add(nets);
        nets += 1;
        let net = draw(seed)?;
        // The oracle's own progress would be a line a sample.
        let held = tracing::subscriber::with_default(NoSubscriber::default(), || hold(&net, device));
        let failures = match held {
            Ok(findings) => {
                let mut seen = Vec::new();
                for (quantity, digits, error, compared) in findings.errors {
                    let row = rows.entry((quantity, digits)).or_default();
                    row.nets += usize::from(!seen.contains(&(quantity, digits)));
                    row.compared += compared;
                    // Not f64::max, which drops a NaN.
                    if error.is_nan() || error > row.error {
                        row.error = error;
                    }
                    seen.push((quantity, digits));
                }
                findings.failures
            }
            Err(error) => vec![format!("net {seed}: {error}")],
        };
        if !failures.is_empty() {
            if failed.len() < SHOWN {
                terminal::log_line(&format!("{}\n{}", net.text, failures.join("\n")));
                terminal::log_line(&format!(
                    "To repeat it alone: backpack-run check --random-nets 0 --seed {seed} ({} samples, {:?})",
                    net.samples, net.mode
                ));
            }
            failed.push(seed);
        }
    }
    print(&match output.format {
        Format::Table => table(&rows),
        Format::Csv => csv(&rows)?,
        Format::Json => json_text(&rows, nets, &failed),
    })?;
    let seconds = started.elapsed().as_secs();
    terminal::log_line(&format!("{nets} random networks in {seconds} s, {} of them fail", failed.len()));
    if failed.is_empty() {
        return Ok(());
    }
    let seeds: Vec<String> = failed.iter().map(u64::to_string).collect();
    Err(Error::Failed(format!("{} of {nets} random networks fail: seeds {}", failed.len(), seeds.join(", "))))
}

const HEADER: [&str; 6] = ["quantity", "digits", "networks", "compared", "error", "bound"];

fn table(rows: &BTreeMap<(&'static str, Digits), Row>) -> String {
    let mut table = Table::new(HEADER).right(2..6);
    for ((quantity, digits), row) in rows {
        table.row([
            (*quantity).to_owned(),
            digits.name().to_owned(),
            row.nets.to_string(),
            row.compared.to_string(),
            format!("{:.1e}", row.error),
            format!("{:e}", digits.bound()),
        ]);
    }
    format!("{table}\n")
}

fn csv(rows: &BTreeMap<(&'static str, Digits), Row>) -> Result<String> {
    table::csv(
        &HEADER,
        rows.iter().map(|((quantity, digits), row)| {
            vec![
                (*quantity).to_owned(),
                digits.name().to_owned(),
                row.nets.to_string(),
                row.compared.to_string(),
                row.error.to_string(),
                digits.bound().to_string(),
            ]
        }),
    )
}

fn json_text(rows: &BTreeMap<(&'static str, Digits), Row>, nets: u64, failed: &[u64]) -> String {
    let rows = rows.iter().map(|((quantity, digits), row)| {
        json!({
            "quantity": quantity,
            "digits": digits.name(),
            "networks": row.nets,
            "compared": row.compared,
            "error": row.error,
            "bound": digits.bound(),
        })
    });
    let document = json!({
        "schema_version": SCHEMA_VERSION,
        "networks": nets,
        "failed_seeds": failed,
        "rows": rows.collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}
