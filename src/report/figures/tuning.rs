//! What depends on tuning: the best at each learning rate, and the best of so many settings.

use super::frames::Single;
use super::plot::{Figure, Line, Point};
use crate::config::name::file_part;
use crate::report::axis::Scale;
use crate::report::grid::{GridTable, Outcome, Setting, epochs_given, settings, when};
use crate::report::results::Results;
use crate::report::statistics::expected_best;
use crate::report::style::Looks;
use crate::report::text::{self, metric_title};

// How much depends on the learning rate: for each, the best over dampings.

/// The figure of a problem; none without a grid of two learning rates or more.
pub fn sensitivity(results: &Results, problem: &str) -> Option<Figure> {
    let metric = results.selection_metric();
    let better = |a: f64, b: f64| if (a > b) == metric.larger_is_better() { a } else { b };
    let looks = Looks::of(results);
    let (mut lines, mut seeds) = (Vec::new(), 0);
    for name in results.grid_optimizers(problem) {
        let Some(table) = GridTable::of(results, problem, &name) else { continue };
        let best = |column: usize| {
            let value = |row: &Vec<Outcome>| match row[column] {
                Outcome::Value(value) => Some(value),
                _ => None,
            };
            table.outcomes.iter().filter_map(value).reduce(better).unwrap_or(f64::NAN)
        };
        let rates = table.learning_rates.iter().enumerate();
        let points: Vec<Point> = rates.map(|(column, rate)| Point::bare(*rate, best(column))).collect();
        if points.len() > 1 {
            lines.push(Line { style: looks.style(&name), name, points, reference: Vec::new(), mark_all: true });
            seeds = seeds.max(table.seeds);
        }
    }
    if lines.is_empty() {
        return None;
    }
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let caption = format!(
        "{}. For each learning rate, the best {} over all dampings {}, n = {seeds} per \
         setting. A gap: every setting diverged or is missing.",
        text::problem_title(problem),
        metric_title(metric),
        when(results, [problem])
    );
    let x = Scale::of(points().map(|p| p.x), true);
    let y = Scale::of(points().map(|p| p.y), !metric.larger_is_better());
    let title = format!("Sensitivity to the learning rate on {}", text::problem_title(problem));
    let stem = format!("sensitivity_{}", file_part(problem));
    let y = (y, metric_title(metric).to_owned());
    let problem = Some(problem.to_owned());
    Some(
        Single {
            kind: "sensitivity",
            problem,
            stem,
            title,
            caption,
            x: (x, "learning rate α (log)"),
            y,
            lines,
            x_ticks: Vec::new(),
        }
        .draw(),
    )
}

// What tuning buys: the expected best of k settings drawn from the grid.

/// The figure of a problem; none without a grid of two settings or more, nor where settings have unlike numbers of epochs, since
/// a try is then no fixed amount of training and the best of k would mix values of different epochs.
pub fn budget(results: &Results, problem: &str) -> Option<Figure> {
    if epochs_given(results, problem).is_some() {
        return None;
    }
    let metric = results.selection_metric();
    let grids: Vec<(String, Vec<Setting>)> = results
        .grid_optimizers(problem)
        .into_iter()
        .map(|name| {
            let settings = settings(results, problem, &name);
            (name, settings)
        })
        .collect();
    let all = grids.iter().flat_map(|(_, settings)| settings).filter_map(|setting| match setting.outcome {
        Outcome::Value(value) => Some(value),
        _ => None,
    });
    let worse = |a: f64, b: f64| if (a < b) == metric.larger_is_better() { a } else { b };
    // A diverged run is worth no more than the worst that did not diverge.
    let worst = all.reduce(worse)?;
    let looks = Looks::of(results);
    let mut lines = Vec::new();
    for (name, settings) in &grids {
        // Every setting is a try of its own, also where several share learning rate and damping.
        let outcomes = settings.iter().filter_map(|setting| match setting.outcome {
            Outcome::Value(value) => Some(value),
            Outcome::Diverged => Some(worst),
            Outcome::Missing => None,
        });
        let values: Vec<f64> = outcomes.collect();
        if values.len() > 1 {
            let best = expected_best(&values, metric.larger_is_better());
            let points = best.iter().enumerate().map(|(i, value)| Point::bare((i + 1) as f64, *value)).collect();
            let style = looks.style(name);
            lines.push(Line { style, name: name.clone(), points, reference: Vec::new(), mark_all: false });
        }
    }
    if lines.is_empty() {
        return None;
    }
    let seeds = grids.iter().flat_map(|(_, settings)| settings).map(|setting| setting.seeds).max().unwrap_or(0);
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let caption = format!(
        "{}. Expected best of k settings drawn at random from the grid, each at most once: {} at the last epoch, n = {seeds} \
         per setting. A diverged setting counts as the worst of the problem.",
        text::problem_title(problem),
        metric_title(metric)
    );
    let x = Scale::of(points().map(|p| p.x), true).whole();
    let y = Scale::of(points().map(|p| p.y), !metric.larger_is_better());
    let title = format!("Tuning budget on {}", text::problem_title(problem));
    let stem = format!("budget_{}", file_part(problem));
    let y = (y, format!("expected best {}", metric_title(metric)));
    let problem = Some(problem.to_owned());
    Some(
        Single {
            kind: "budget",
            problem,
            stem,
            title,
            caption,
            x: (x, "settings tried (log)"),
            y,
            lines,
            x_ticks: Vec::new(),
        }
        .draw(),
    )
}
