//! How much depends on the learning rate: for each, the best over dampings.

use super::super::axis::Scale;
use super::super::grid::{GridTable, Outcome, when};
use super::super::problem;
use super::super::results::Results;
use super::super::style::Looks;
use super::super::text::metric_title;
use super::figure::Figure;
use super::plot::{Line, Point};
use super::single::Single;
use crate::config::name::file_part;

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
        problem::title(problem),
        metric_title(metric),
        when(results, [problem])
    );
    let x = Scale::of(points().map(|p| p.x), true);
    let y = Scale::of(points().map(|p| p.y), !metric.larger_is_better());
    let title = format!("Sensitivity to the learning rate on {}", problem::title(problem));
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
