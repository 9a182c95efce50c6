//! The final values of a study as a table, as CSV and as JSON.

use serde_json::json;

use super::flags::{Format, StudyFlags};
use super::result_folder::ResultFolders;
use super::tables::{self, number};
use super::{logging, print};
use crate::error::{Error, Result};
use crate::study::aggregate::Diverged;
use crate::study::experiment::Metric;
use crate::study::results::{FinalRow, PairResult, final_csv, final_rows, option_columns};

/// Writes the results with all that was measured, prints the final values if there are any, and ends as the runs did.
pub(super) fn conclude(outcome: Result<()>, name: &str, results: &mut ResultFolders, flags: &StudyFlags) -> Result<()> {
    let pairs = match (results.write(), &outcome) {
        (Ok(pairs), _) => pairs,
        // Why the runs ended matters more than what followed from it.
        (Err(_), Err(_)) => return outcome,
        (Err(error), Ok(())) => return Err(error),
    };
    if matches!(outcome, Err(Error::Interrupted | Error::Environment(_))) {
        return outcome;
    }
    let paths: Vec<String> = results.paths().map(|path| path.display().to_string()).collect();
    let rows: Vec<FinalRow> = final_rows(&pairs, results.diverged(), results.targets(&pairs).as_ref());
    if outcome.is_ok() || !rows.is_empty() {
        print(&match flags.output.format {
            Format::Table => table(&pairs, results.diverged()),
            Format::Csv => final_csv(&rows)?,
            Format::Json => {
                let value = json!({ "schema_version": 1, "name": name, "folders": paths, "results": rows });
                let text = serde_json::to_string_pretty(&value);
                text.map_err(|error| Error::Environment(format!("writing JSON: {error}")))? + "\n"
            }
        })?;
        logging::line(&format!("results in {}", paths.join(", ")));
    }
    outcome
}

/// One row an optimizer and problem: median and quartiles.
fn table(pairs: &[PairResult], diverged: Diverged) -> String {
    const SHOWN: [Metric; 4] =
        [Metric::TrainLosses, Metric::TestLosses, Metric::ValidAccuracies, Metric::TestAccuracies];
    let mut table = tables::table();
    table.set_header(
        ["problem", "optimizer", "setting", "edge", "seeds"]
            .into_iter()
            .chain(SHOWN.iter().map(|metric| metric.as_str())),
    );
    let columns = option_columns(pairs.iter().map(|pair| &pair.grid.grid));
    for pair in pairs {
        let Some(settings) = pair.winner.and_then(|place| pair.grid.grid.settings.get(place)) else { continue };
        let rows = pair.final_rows(diverged, &columns, None);
        let setting = settings.label_with(&columns);
        let seeds = match rows.first() {
            Some(row) if row.diverged > 0 => format!("{}, {} diverged", pair.finished().len(), row.diverged),
            _ => pair.finished().len().to_string(),
        };
        let cell = |metric| {
            let Some(row) = rows.iter().find(|row| row.metric == metric) else { return "-".to_owned() };
            let at = &row.statistics;
            format!("{} [{}, {}]", number(at.median), number(at.lower_quartile), number(at.upper_quartile))
        };
        let head = [pair.grid.problem.clone(), pair.grid.grid.title().to_owned(), setting, pair.edge(), seeds];
        table.add_row(head.into_iter().chain(SHOWN.map(cell)));
    }
    format!("median [lower quartile, upper quartile] over seeds after the last epoch\n{table}\n")
}
