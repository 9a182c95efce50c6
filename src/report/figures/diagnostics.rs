//! What runs with diagnostics measured on their way: noise, signal to noise, condition numbers.

use std::collections::BTreeMap;

use super::super::axis::Scale;
use super::super::results::Results;
use super::super::style::Looks;
use super::super::text;
use super::frames::{Heading, Panel, draw_panels};
use super::plot::{Figure, Line, Point};
use crate::config::name::file_part;
use crate::study::aggregate::Statistics;
use crate::study::results::StudyDiagnosticRow;

/// What is shown: the name in diagnostics.csv, what is written above the panel, and whether it is measured for each layer,
/// of which the largest value is taken, rather than for the whole network.
const SHOWN: [(&str, &str, bool); 4] = [
    ("noise_scale", "noise scale", false),
    ("gradient_snr", "signal to noise", false),
    ("condition_number_a", "condition number of A", true),
    ("condition_number_b", "condition number of B", true),
];

/// The figure of a problem; none without diagnostics.
pub fn diagnostics(results: &Results, problem: &str) -> Option<Figure> {
    let here: Vec<&StudyDiagnosticRow> = results.diagnostics.iter().filter(|row| row.problem == problem).collect();
    let looks = Looks::of(results);
    let line = |name: &str, optimizer: &String, by_layer: bool| {
        // Of each step and seed one value.
        let mut largest: BTreeMap<(u64, u64), f64> = BTreeMap::new();
        let rows = here.iter().filter(|row| row.name == name && row.optimizer == *optimizer && row.value.is_finite());
        for row in rows.filter(|row| (row.layer == "all") != by_layer) {
            let value = largest.entry((row.step, row.seed)).or_insert(row.value);
            *value = value.max(row.value);
        }
        let mut steps: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        largest.into_iter().for_each(|((step, _), value)| steps.entry(step).or_default().push(value));
        let point = |(step, values): (u64, Vec<f64>)| {
            let at = Statistics::of(&values)?;
            Some(Point { x: step as f64, y: at.median, low: at.lower_quartile, high: at.upper_quartile })
        };
        let points: Vec<Point> = steps.into_iter().filter_map(point).collect();
        let (name, style) = (optimizer.clone(), looks.style(optimizer));
        (!points.is_empty()).then_some(Line { style, name, points, reference: Vec::new(), mark_all: false })
    };
    let panel = |&(name, title, by_layer): &(&str, &str, bool)| {
        let lines = results.optimizers(problem);
        let lines: Vec<Line> = lines.iter().filter_map(|optimizer| line(name, optimizer, by_layer)).collect();
        let points = || lines.iter().flat_map(|line| line.points.iter());
        let last = points().map(|point| point.x).reduce(f64::max)?;
        let y = Scale::of(points().flat_map(|point| [point.low, point.high]), true);
        let x = (Scale::linear(0.0, 1.015 * last).whole(), "step");
        Some(Panel { title: title.to_owned(), name: name.to_owned(), lines, x, y })
    };
    let panels: Vec<Panel> = SHOWN.iter().filter_map(panel).collect();
    if panels.is_empty() {
        return None;
    }
    let title = text::problem_title(problem);
    let names = Heading {
        kind: "diagnostics",
        problem: problem.to_owned(),
        stem: format!("diagnostics_{}", file_part(problem)),
        title: format!("Noise and conditioning on {title}"),
        caption: format!(
            "{title}. Simple noise scale in samples, squared gradient over its variance, and condition numbers of the damped \
             Kronecker factors (the largest over layers). Line: median over seeds; band: quartiles."
        ),
    };
    Some(draw_panels(names, &panels))
}
