//! The final values of a study as a table, as CSV and as JSON.

use std::path::PathBuf;

use serde_json::json;

use super::flags::{Format, StudyFlags};
use super::logging;
use super::tables::{Table, number, whole};
use super::terminal::print;
use super::terminal::wrapped;
use crate::error::{Error, Result};
use crate::report::results::edges_in_words;
use crate::study::aggregate::Diverged;
use crate::study::axes::Edge;
use crate::study::conduct::Conclusion;
use crate::study::experiment::Metric;
use crate::study::results::{PairResult, StudyResults, final_csv, option_columns};
use crate::study::settings::decimal;
use crate::words::shell_quoted;

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
        logging::line(&format!("results in {}", paths.join(", ")));
        results.pairs.iter().flat_map(beyond).for_each(|line| logging::line(&line));
        logging::line(&format!("next: backpack-run report {}", next(&results.folders, flags)));
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
    let grid = &pair.grid.grid;
    let line = |edge: &Edge| {
        let side = if edge.upper { "high" } else { "low" };
        let (key, values, range) = match edge.axis.as_str() {
            "lr" => ("learning_rate", &grid.learning_rates, Some(grid.ranges.learning_rate)),
            "damping" => ("damping", &grid.dampings, grid.ranges.damping),
            other => (other, &Vec::new(), None),
        };
        let next = match (grid.search, range) {
            (Some(_), Some(range)) => wider(range, edge.upper).to_vec(),
            _ => further(values, edge.upper),
        };
        let next: Vec<String> = next.into_iter().map(decimal).collect();
        let follows =
            if next.is_empty() { String::new() } else { format!("; next, try {key} = [{}]", next.join(", ")) };
        format!("{}: the best setting lies on the grid's edge ({} {side}){follows}", pair.name(), edge.axis)
    };
    pair.grid.edges().iter().map(line).collect()
}

/// The range of a search, a decade wider on one side.
fn wider([least, largest]: [f64; 2], upper: bool) -> [f64; 2] {
    if upper { [least, as_written(largest * 10.0)] } else { [as_written(least / 10.0), largest] }
}

/// A value as people write it, not what arithmetic leaves of it.
fn as_written(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// The edge of a grid and two values beyond it, as far apart as its last two; nothing for fewer than two, or where they
/// are not positive.
fn further(values: &[f64], upper: bool) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    if upper {
        sorted.reverse();
    }
    let [edge, inner, ..] = sorted[..] else { return Vec::new() };
    let ratio = edge / inner;
    if !(ratio.is_finite() && ratio > 0.0 && inner > 0.0) {
        return Vec::new();
    }
    (0..3).map(|step| as_written(edge * ratio.powi(step))).collect()
}

/// One row an optimizer and problem: median and quartiles.
fn table(pairs: &[PairResult], diverged: Diverged) -> String {
    const SHOWN: [Metric; 4] =
        [Metric::TrainLosses, Metric::TestLosses, Metric::ValidAccuracies, Metric::TestAccuracies];
    let head = ["problem", "optimizer", "setting", "on edge", "seeds"];
    let mut table = Table::new(head.into_iter().chain(SHOWN.iter().map(|metric| metric.as_str())))
        .right(4..9)
        .droppable(&["train_losses", "valid_accuracies", "test_losses", "setting"]);
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

    #[test]
    fn a_grid_goes_on_as_it_was() {
        assert_eq!(further(&[1e-4, 1e-2, 1e-3], false), [1e-4, 1e-5, 1e-6]);
        assert_eq!(further(&[0.1, 0.2, 0.4], true), [0.4, 0.8, 1.6]);
        assert_eq!(further(&[0.1], true), Vec::<f64>::new());
        assert_eq!(further(&[0.0, 0.9], false), Vec::<f64>::new());
        assert_eq!(wider([1e-4, 1e-2], false), [1e-5, 1e-2]);
        assert_eq!(wider([1e-4, 1e-2], true), [1e-4, 0.1]);
    }
}
