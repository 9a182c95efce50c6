//! The report's tables in Markdown and LaTeX (booktabs): chosen settings as in the paper's Table 3, final results,
//! agreement.

use std::path::{Path, PathBuf};

use super::agreement::Agreement;
use super::escape::{latex, markdown};
use super::results::{FinalRow, PAPER_METRICS, Results, SingleRow, distinct, edges_in_words};
use super::text;
use super::text::{cell, metric_title};
use crate::atomic::{self, Durability};
use crate::digits::{significant, with_bar};
use crate::error::Result;
use crate::table::csv;

/// A table of text.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The files' name without the ending.
    pub stem: &'static str,
    /// What it shows, a sentence.
    pub caption: String,
    /// The columns.
    pub header: Vec<String>,
    /// The rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
    /// Columns from this one on are numbers and stand at the right.
    pub first_number: usize,
}

impl Table {
    /// Writes the table in its three forms into a folder and gives its path without ending.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        for (ending, text) in [("md", self.markdown()), ("tex", self.latex()), ("csv", self.csv()?)] {
            atomic::write(&folder.join(format!("{}.{ending}", self.stem)), text.as_bytes(), Durability::Process)?;
        }
        Ok(folder.join(self.stem))
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let row =
            |cells: &[String]| format!("| {} |\n", cells.iter().map(|c| markdown(c)).collect::<Vec<_>>().join(" | "));
        let rule = (0..self.header.len()).map(|i| if i < self.first_number { "---" } else { "---:" });
        let rule: Vec<&str> = rule.collect();
        let mut text = format!("{}\n\n{}| {} |\n", self.caption, row(&self.header), rule.join(" | "));
        text.extend(self.rows.iter().map(|cells| row(cells)));
        text
    }

    /// The table as CSV.
    ///
    /// # Errors
    /// None that input can reach.
    pub fn csv(&self) -> Result<String> {
        csv(&self.header.iter().map(String::as_str).collect::<Vec<_>>(), self.rows.iter().cloned())
    }

    /// The table in LaTeX with booktabs' rules.
    pub fn latex(&self) -> String {
        let row =
            |cells: &[String]| format!("{} \\\\\n", cells.iter().map(|c| latex(c)).collect::<Vec<_>>().join(" & "));
        let columns: String = (0..self.header.len()).map(|i| if i < self.first_number { 'l' } else { 'r' }).collect();
        let mut text = format!("% {}\n% needs \\usepackage{{booktabs}}\n", self.caption);
        text.push_str(&format!("\\begin{{tabular}}{{{columns}}}\n\\toprule\n{}\\midrule\n", row(&self.header)));
        let mut problem = None;
        for cells in &self.rows {
            if problem.is_some_and(|last| last != &cells[0]) {
                text.push_str("\\midrule\n");
            }
            problem = cells.first();
            text.push_str(&row(cells));
        }
        text.push_str("\\bottomrule\n\\end{tabular}\n");
        text
    }
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}

/// The tables that a study has enough for.
pub fn tables(results: &Results, agreements: &[Agreement]) -> Vec<Table> {
    [settings(results), finals(results), single(results), agreement(agreements)]
        .into_iter()
        .filter(|table| !table.rows.is_empty())
        .collect()
}

/// One row a winner, as the paper's Table 3.
fn settings(results: &Results) -> Table {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut add = |problem: &str, optimizer: &str, rate: f64, damping: Option<f64>, edge: &str| {
        let damping = damping.map_or_else(|| "-".to_owned(), |damping| significant(damping, 6));
        let edge = match edges_in_words(edge) {
            words if words.is_empty() => edge.to_owned(),
            words => words.join(", "),
        };
        let row = vec![problem.to_owned(), optimizer.to_owned(), significant(rate, 6), damping, edge];
        if !rows.contains(&row) {
            rows.push(row);
        }
    };
    let winners = results.meta["winners"].as_array().map(Vec::as_slice).unwrap_or_default();
    if winners.is_empty() {
        for row in &results.finals {
            add(&row.problem, &row.optimizer, row.learning_rate, row.damping, &row.edge);
        }
    }
    for winner in winners {
        let text = |key: &str| winner[key].as_str().unwrap_or("-").to_owned();
        let rate = winner["learning_rate"].as_f64().unwrap_or(f64::NAN);
        add(&text("problem"), &text("optimizer"), rate, winner["damping"].as_f64(), &text("edge"));
    }
    let caption =
        "The chosen settings: learning rate α, damping λ, and whether they lie on the grid's edge.".to_owned();
    let header = strings(["problem", "optimizer", "α", "λ", "place in the grid"]);
    Table { stem: "settings", caption, header, rows, first_number: 5 }
}

/// One row a winner, the four metrics as median and quartiles.
fn finals(results: &Results) -> Table {
    let mut rows = Vec::new();
    for problem in distinct(results.finals.iter().map(|row| &row.problem)) {
        let here: Vec<&FinalRow> = results.finals.iter().filter(|row| row.problem == problem).collect();
        for optimizer in distinct(here.iter().map(|row| &row.optimizer)) {
            let own: Vec<&&FinalRow> = here.iter().filter(|row| row.optimizer == optimizer).collect();
            let mut row = vec![problem.clone(), optimizer];
            for metric in PAPER_METRICS {
                let found = own.iter().find(|row| row.metric == metric && !row.median.is_nan());
                row.push(found.map_or_else(
                    || "-".to_owned(),
                    |r| format!("{} [{}, {}]", cell(r.median), cell(r.lower_quartile), cell(r.upper_quartile)),
                ));
            }
            row.push(own.iter().map(|row| row.n).max().unwrap_or(0).to_string());
            row.push(own.iter().map(|row| row.diverged).max().unwrap_or(0).to_string());
            rows.push(row);
        }
    }
    let mut header = strings(["problem", "optimizer"]);
    header.extend(PAPER_METRICS.map(|metric| metric_title(metric).to_owned()));
    header.extend(strings(["n", "diverged"]));
    let caption = "Results at the last epoch: median [lower, upper quartile] over n seeds.".to_owned();
    Table { stem: "final", caption, header, rows, first_number: 2 }
}

/// One row an optimizer and problem: the best single setting over all problems beside the best of each.
fn single(results: &Results) -> Table {
    let value = |value: Option<f64>| value.filter(|value| !value.is_nan()).map_or_else(|| "-".to_owned(), cell);
    let row = |row: &SingleRow| {
        let rank = match (row.rank, row.settings) {
            (Some(rank), Some(settings)) => format!("{} of {settings}", significant(rank, 3)),
            _ => "-".to_owned(),
        };
        vec![
            row.optimizer.clone(),
            significant(row.learning_rate, 6),
            row.damping.map_or_else(|| "-".to_owned(), |damping| significant(damping, 6)),
            text::problem_title(&row.problem).to_owned(),
            rank,
            value(row.test_accuracy),
            value(row.best_test_accuracy),
            value(row.test_loss),
            value(row.best_test_loss),
        ]
    };
    let caption = "One setting for all problems: each optimizer's setting with the lowest mean rank over problems, beside the best \
                   setting of each problem, with the grid's seed."
        .to_owned();
    let header = strings([
        "optimizer",
        "α",
        "λ",
        "problem",
        "rank",
        "test accuracy",
        "best's accuracy",
        "test loss",
        "best's loss",
    ]);
    Table { stem: "single", caption, header, rows: results.single.iter().map(row).collect(), first_number: 5 }
}

/// One row a curve that the reference has too.
fn agreement(agreements: &[Agreement]) -> Table {
    let row = |a: &Agreement| {
        let (counts, expected) = (a.counts(), a.expected);
        let of = |count: usize, expected: Option<f64>| match expected {
            Some(expected) => format!("{count} ({expected:.0})"),
            None => count.to_string(),
        };
        let farthest = a.farthest().map_or_else(
            || "-".to_owned(),
            |far| {
                let distance = significant(far.distance(), 2);
                format!("{distance} at epoch {}: {}, {}", far.epoch, cell(far.median), cell(far.reference))
            },
        );
        let seeds = a.end.seeds.map(|n| n.map_or_else(|| "-".to_owned(), |n| n.to_string())).join(", ");
        vec![
            a.problem.clone(),
            a.optimizer.clone(),
            metric_title(a.metric).to_owned(),
            seeds,
            a.epochs.len().to_string(),
            of(counts.inside, expected.map(|e| e.inside)),
            of(counts.once, expected.map(|e| e.once)),
            of(counts.twice, expected.map(|e| e.twice)),
            farthest,
            a.end.bound.map_or_else(|| cell(a.end.difference), |bound| with_bar(a.end.difference, bound)),
        ]
    };
    let caption = "Agreement with the reference: seeds of ours and of the reference; epochs, not counting 0, at which our median \
                   lies between the reference's quartiles (inside), and between them widened on each side by once or twice the \
                   distance between them, in brackets as many as are to be expected of so many seeds; the epoch farthest \
                   outside, by how many of these distances, our median and the reference's; our median less the reference's at \
                   the last epoch, with half its 95 % interval. The section Agreement of docs/report.md says what this rests on."
        .to_owned();
    let header = strings([
        "problem",
        "optimizer",
        "metric",
        "seeds",
        "epochs",
        "inside",
        "once",
        "twice",
        "farthest",
        "difference at the end",
    ]);
    Table { stem: "agreement", caption, header, rows: agreements.iter().map(row).collect(), first_number: 3 }
}
