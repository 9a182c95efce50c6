//! What a reader wants first: one row for each optimizer on a problem, sorted, with what cannot be told from the best.

use super::evidence::{LEVEL, Leader, last_values};
use super::results::{FinalRow, GridRow, Results, distinct};
use super::statistics::median_interval;
use super::tables::Table;
use super::text;
use super::text::{bytes, cell, ratio, seconds};
use crate::bench::Row;
use crate::digits::significant;
use crate::optimizers::OptimizerName;
use crate::statistics::median;
use crate::study::experiment::Metric;

/// A median over seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// Its 95 % interval, that of the sign test; none for fewer than six seeds.
    pub interval: Option<[f64; 2]>,
    /// The smallest and the largest value.
    pub range: [f64; 2],
}

/// How an optimizer compares with the best one of its problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the best.
    Best,
    /// It cannot be told from the best.
    Level,
    /// It is clearly worse.
    Behind,
    /// It shares no finished seed with the best.
    Unknown,
}

/// What its tuning had to choose from.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// Settings tried.
    pub settings: usize,
    /// Epochs trained in all.
    pub epochs: usize,
    /// The smallest and the largest learning rate.
    pub learning_rates: [f64; 2],
    /// The smallest and the largest damping.
    pub dampings: Option<[f64; 2]>,
}

/// When the seeds reached the study's target; a median that is missing was reached by fewer than half.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// Steps.
    pub steps: Option<f64>,
    /// Epochs.
    pub epochs: Option<f64>,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// Seeds that reached it.
    pub seeds: usize,
}

/// One optimizer on one problem.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryRow {
    /// The problem's name.
    pub problem: String,
    /// The optimizer's name.
    pub optimizer: String,
    /// How it compares with the best.
    pub standing: Standing,
    /// The chosen setting: name and value of each hyperparameter.
    pub setting: Vec<(String, String)>,
    /// At the last epoch.
    pub accuracy: Option<Estimate>,
    /// At the last epoch.
    pub loss: Option<Estimate>,
    /// Of a study with a target.
    pub reached: Option<Reached>,
    /// The median over epochs and seeds.
    pub epoch_seconds: Option<f64>,
    /// The time of a step in units of the gradient's, by a bench.
    pub step_cost: Option<f64>,
    /// The most memory that a step takes, by a bench.
    pub peak_bytes: Option<u64>,
    /// The tuning; nothing without a grid.
    pub tuning: Option<Tuning>,
    /// The edges of the grid on which the setting lies, such as "lr low".
    pub edges: Vec<String>,
    /// Whether it is one of the rules without damping, which others are held to.
    pub baseline: bool,
    /// Seeds that count.
    pub n: usize,
    /// Of them, those that diverged.
    pub diverged: usize,
}

/// The rows of all problems, of each the best first.
pub fn summary(results: &Results, leaders: &[Leader], bench: &[Row]) -> Vec<SummaryRow> {
    let mut rows = Vec::new();
    for problem in results.problems() {
        let leader = leaders.iter().find(|leader| leader.problem == problem);
        let metric = leader.map_or(Metric::TestAccuracies, |leader| leader.metric);
        let mut here: Vec<SummaryRow> = distinct(
            results.optimizers(&problem).iter().chain(&distinct(results.finals_of(&problem).map(|row| &row.optimizer))),
        )
        .iter()
        .map(|optimizer| row(results, &problem, optimizer, leader, bench))
        .collect();
        // Unknown values come last, equal ones stay in their order.
        here.sort_by(|a, b| {
            let key = |row: &SummaryRow| {
                let estimate = if metric.larger_is_better() { &row.accuracy } else { &row.loss };
                let median = estimate.as_ref().map_or(f64::NAN, |estimate| estimate.median);
                let sign = if metric.larger_is_better() { -1.0 } else { 1.0 };
                if median.is_nan() { f64::INFINITY } else { sign * median }
            };
            (a.standing != Standing::Best, key(a)).partial_cmp(&(b.standing != Standing::Best, key(b))).unwrap()
        });
        rows.extend(here);
    }
    rows
}

fn row(results: &Results, problem: &str, optimizer: &str, leader: Option<&Leader>, bench: &[Row]) -> SummaryRow {
    let standing = match leader {
        Some(leader) if leader.optimizer == optimizer => Standing::Best,
        Some(leader) => match leader.is_ahead_of(optimizer) {
            Some(true) => Standing::Behind,
            Some(false) => Standing::Level,
            None => Standing::Unknown,
        },
        None => Standing::Unknown,
    };
    let finals: Vec<&FinalRow> = results.finals_of(problem).filter(|row| row.optimizer == optimizer).collect();
    let at_end = |metric| {
        let values: Vec<f64> = last_values(results, problem, optimizer, metric).iter().map(|(_, v)| *v).collect();
        let known = finals.iter().find(|row| row.metric == metric);
        estimate(&values)
            .or_else(|| known.map(|row| Estimate { median: row.median, interval: None, range: [f64::NAN; 2] }))
    };
    let first = finals.first();
    let own_bench = results.command_line_name(optimizer).and_then(|name| {
        let is_it = |row: &&Row| row.figure == "steps" && row.problem == problem && row.quantity == name;
        bench.iter().find(is_it)
    });
    let seconds: Vec<f64> = {
        let own = results.seeds_of(problem).filter(|row| row.optimizer == optimizer && row.epoch > 0);
        own.filter_map(|row| row.train_seconds).collect()
    };
    SummaryRow {
        problem: problem.to_owned(),
        optimizer: optimizer.to_owned(),
        standing,
        setting: results.setting(problem, optimizer),
        // Some losses have none.
        accuracy: at_end(Metric::TestAccuracies).filter(|estimate| !estimate.median.is_nan()),
        loss: at_end(Metric::TestLosses),
        reached: first.and_then(|row| {
            Some(Reached {
                steps: row.target_steps,
                epochs: row.target_epochs,
                seconds: row.target_seconds,
                seeds: row.target_reached?,
            })
        }),
        epoch_seconds: (!seconds.is_empty()).then(|| median(&seconds)),
        step_cost: own_bench.map(|row| row.ratio).filter(|ratio| ratio.is_finite()),
        peak_bytes: own_bench.and_then(|row| row.peak_bytes),
        tuning: tuning(results, problem, optimizer),
        edges: results.edges(problem, optimizer),
        baseline: results
            .command_line_name(optimizer)
            .and_then(OptimizerName::find)
            .is_some_and(|name| !name.has_damping()),
        n: first.map_or_else(|| last_values(results, problem, optimizer, Metric::TestLosses).len(), |row| row.n),
        diverged: first.map_or(0, |row| row.diverged),
    }
}

fn estimate(values: &[f64]) -> Option<Estimate> {
    let smallest = values.iter().copied().reduce(f64::min)?;
    let largest = values.iter().copied().fold(smallest, f64::max);
    let interval = median_interval(values, 1.0 - LEVEL).map(|(low, high)| [low, high]);
    Some(Estimate { median: median(values), interval, range: [smallest, largest] })
}

fn tuning(results: &Results, problem: &str, optimizer: &str) -> Option<Tuning> {
    let rows: Vec<&GridRow> =
        results.grid.iter().filter(|row| row.problem == problem && row.optimizer == optimizer).collect();
    let seeds = distinct(rows.iter().map(|row| &row.seed)).len();
    // What the study says counts the rungs of halving too.
    let told = |key: &str| Some(results.tuning(problem, optimizer)?[key].as_u64()? as usize);
    let settings = told("budget").unwrap_or(rows.len() / seeds.max(1));
    if settings < 2 {
        return None;
    }
    let ends = |values: Vec<f64>| {
        let low = values.iter().copied().reduce(f64::min)?;
        Some([low, values.iter().copied().fold(low, f64::max)])
    };
    Some(Tuning {
        settings,
        epochs: told("epochs").unwrap_or_else(|| rows.iter().filter_map(|row| row.epoch).sum()),
        learning_rates: ends(rows.iter().map(|row| row.learning_rate).collect())?,
        dampings: ends(rows.iter().filter_map(|row| row.damping).collect()),
    })
}

/// What the table's columns and marks mean, a sentence each.
pub fn legend(rows: &[SummaryRow]) -> String {
    let has = |test: fn(&SummaryRow) -> bool| rows.iter().any(test);
    let estimates = || rows.iter().flat_map(|row| row.accuracy.iter().chain(&row.loss));
    let with_interval = estimates().any(|estimate| estimate.interval.is_some());
    let with_range = estimates().any(|estimate| estimate.interval.is_none() && !estimate.range[0].is_nan());
    let mut text = "Medians over seeds at the last epoch".to_owned();
    text.push_str(match (with_interval, with_range) {
        (true, true) => {
            ", with the 95\u{a0}% interval of the median, or the smallest and largest values for fewer than six seeds. "
        }
        (true, false) => ", with the 95\u{a0}% interval of the median. ",
        (false, true) => ", with their smallest and largest values (an interval needs six seeds). ",
        (false, false) => ". ",
    });
    text.push_str("Best first; =: these seeds do not tell it from the best");
    let has_best =
        |row: &SummaryRow| rows.iter().any(|other| other.problem == row.problem && other.standing == Standing::Best);
    let unknown = || rows.iter().filter(|row| row.standing == Standing::Unknown);
    text.push_str(match (unknown().any(has_best), unknown().any(|row| !has_best(row))) {
        (true, true) => "; ?: it shares no finished seed with the best, or with any other",
        (true, false) => "; ?: it shares no finished seed with the best",
        (false, true) => "; ?: no other optimizer shares a finished seed with it",
        (false, false) => "",
    });
    text.push('.');
    if has(|row| row.tuning.is_some()) {
        text.push_str(" Tuning: settings tried / epochs trained for it.");
    }
    if has(|row| row.reached.is_some()) {
        text.push_str(" To target: median over seeds; never: fewer than half reached it.");
    }
    if has(|row| row.step_cost.is_some()) {
        text.push_str(" Step: its time relative to a gradient.");
    }
    text
}

/// A value with its interval, or with its range where there is none.
pub fn estimate_text(estimate: Option<&Estimate>) -> String {
    let Some(Estimate { median, interval, range }) = estimate else { return "-".to_owned() };
    let [low, high] = interval.unwrap_or(*range);
    if low.is_nan() {
        return cell(*median);
    }
    format!("{} [{}, {}]", cell(*median), cell(low), cell(high))
}

/// One column of the table: what it is called, and a row's text.
pub type Column = (&'static str, fn(&SummaryRow) -> String);

fn or_dash<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

fn to_target(row: &SummaryRow, value: impl Fn(&Reached) -> Option<f64>, text: impl Fn(f64) -> String) -> String {
    or_dash(row.reached.as_ref(), |reached| value(reached).map_or_else(|| "never".to_owned(), &text))
}

/// The columns behind the optimizer's name for which any of these rows has something to say.
pub fn columns(rows: &[SummaryRow]) -> Vec<Column> {
    let all: [Column; 13] = [
        ("setting", |row| {
            let parts: Vec<String> = row.setting.iter().map(|(name, value)| format!("{name} {value}")).collect();
            if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
        }),
        ("test accuracy", |row| estimate_text(row.accuracy.as_ref())),
        ("test loss", |row| estimate_text(row.loss.as_ref())),
        ("steps to target", |row| to_target(row, |reached| reached.steps, |steps| format!("{steps:.0}"))),
        ("epochs to target", |row| to_target(row, |reached| reached.epochs, |epochs| significant(epochs, 4))),
        ("time to target", |row| to_target(row, |reached| reached.seconds, seconds)),
        ("seeds at target", |row| or_dash(row.reached.as_ref(), |reached| format!("{}/{}", reached.seeds, row.n))),
        ("time per epoch", |row| or_dash(row.epoch_seconds, seconds)),
        ("step", |row| or_dash(row.step_cost, ratio)),
        ("memory", |row| or_dash(row.peak_bytes, bytes)),
        ("tuning", |row| or_dash(row.tuning.as_ref(), |t| format!("{} / {}", t.settings, t.epochs))),
        ("on edge", |row| if row.edges.is_empty() { "-".to_owned() } else { row.edges.join(", ") }),
        ("seeds", |row| match row.diverged {
            0 => row.n.to_string(),
            diverged => format!("{}, {diverged} diverged", row.n),
        }),
    ];
    all.into_iter().filter(|(_, text)| rows.iter().any(|row| text(row) != "-")).collect()
}

/// What stands before an optimizer's name.
pub fn mark(standing: Standing) -> &'static str {
    match standing {
        Standing::Best => "★",
        Standing::Level => "=",
        Standing::Behind => "",
        Standing::Unknown => "?",
    }
}

/// The table in words, for files.
pub fn table(rows: &[SummaryRow]) -> Table {
    let columns = columns(rows);
    let header = ["problem", "", "optimizer"].into_iter().chain(columns.iter().map(|(name, _)| *name));
    let line = |row: &SummaryRow| {
        let head = [row.problem.clone(), mark(row.standing).to_owned(), row.optimizer.clone()];
        head.into_iter().chain(columns.iter().map(|(_, text)| text(row))).collect()
    };
    Table {
        stem: "summary",
        caption: legend(rows),
        header: header.map(str::to_owned).collect(),
        rows: rows.iter().map(line).collect(),
        first_number: 4,
    }
}

/// A sentence for each baseline whose setting lies on an edge of its grid: it may do better beyond it.
pub fn warnings(rows: &[SummaryRow]) -> Vec<String> {
    let at_edge = rows.iter().filter(|row| row.baseline && !row.edges.is_empty());
    at_edge
        .map(|row| {
            format!(
                "{} on {}: the best setting lies on the edge of its grid ({}), so this baseline may do better beyond it.",
                row.optimizer,
                text::problem_title(&row.problem),
                row.edges.join(", ")
            )
        })
        .collect()
}
