//! Learning curves: the median over seeds with its quartiles, for the paper's four metrics.

use super::super::agreement::Reference;
use super::super::axis::{Frame, LABEL_SIZE, Scale};
use super::super::results::{CurveRow, PAPER_METRICS, Results, curve};
use super::super::style;
use super::super::svg::{Anchor, Svg};
use super::super::text::metric_title;
use super::plot::{Line, Point};
use super::{Figure, WIDTH, legend, plot};
use crate::config::name::file_part;
use crate::study::experiment::Metric;

/// What curves are drawn over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Passes over the training samples.
    Epochs,
    /// Seconds of training alone.
    Seconds,
}

/// Published points drawn for a curve, at most.
const REFERENCE_POINTS: usize = 14;

fn lines(results: &Results, problem: &str, metric: Metric, over: Over, reference: Option<&Reference>) -> Vec<Line> {
    let mut lines = Vec::new();
    for (place, name) in results.optimizers(problem).into_iter().enumerate() {
        let seconds = if over == Over::Seconds { results.seconds(problem, &name) } else { Vec::new() };
        let point = |row: &&CurveRow| {
            let x = match over {
                Over::Epochs => row.epoch as f64,
                Over::Seconds => *seconds.get(row.epoch)?,
            };
            Some(Point { x, y: row.median, low: row.lower_quartile, high: row.upper_quartile })
        };
        let points: Vec<Point> = results.curve(problem, &name, metric).iter().filter_map(point).collect();
        let published = reference.map(|r| curve(&r.rows, problem, &name, metric)).unwrap_or_default();
        let last = points.last().map_or(0.0, |p| p.x);
        let published: Vec<Point> = published.iter().filter_map(point).filter(|p| p.x <= last).collect();
        let stride = published.len().div_ceil(REFERENCE_POINTS).max(1);
        let reference = published.into_iter().step_by(stride).collect();
        if !points.is_empty() {
            lines.push(Line { style: style::of(&name, place), name, points, reference, mark_all: false });
        }
    }
    if over == Over::Seconds && is_spread(&lines) {
        // What precedes training has no place on a logarithmic axis.
        lines.iter_mut().for_each(|line| line.points.retain(|point| point.x > 0.0));
    }
    lines
}

/// The ranges. What precedes training is left out of the vertical one, as it would hide everything else.
fn frame(lines: &[Line], metric: Metric, over: Over, [x, y, width, height]: [f64; 4]) -> Frame {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let last = points().map(|p| p.x).fold(0.0, f64::max);
    let few = lines.iter().all(|line| line.points.len() < 4);
    let shown = || {
        let trained = lines.iter().flat_map(move |line| line.points.iter().filter(move |p| few || p.x > 0.0));
        trained.chain(lines.iter().flat_map(|line| line.reference.iter().filter(|p| p.x > 0.0)))
    };
    let values = shown().flat_map(|p| [p.low, p.high]);
    let vertical = Scale::of(values, !metric.larger_is_better());
    let horizontal = match over {
        Over::Seconds if is_spread(lines) => Scale::of(points().map(|p| p.x).filter(|x| *x > 0.0), true),
        // A little more, so that the last marks are whole.
        _ => Scale::linear(0.0, 1.015 * last),
    };
    Frame { x, y, width, height, horizontal, vertical }
}

/// Whether the slowest takes so much longer than the fastest that equal distances would hide the fast ones.
fn is_spread(lines: &[Line]) -> bool {
    let ends = || lines.iter().filter_map(|line| line.points.last()).map(|point| point.x);
    ends().fold(0.0, f64::max) > 4.0 * ends().fold(f64::INFINITY, f64::min)
}

fn x_title(over: Over, log: bool) -> &'static str {
    match (over, log) {
        (Over::Epochs, _) => "epoch",
        (Over::Seconds, false) => "training time in s",
        (Over::Seconds, true) => "training time in s (log)",
    }
}

fn caption(results: &Results, problem: &str, reference: Option<&Reference>) -> String {
    let mut text = format!("{problem}. Line: median over seeds; band: quartiles; {}.", seeds(results, problem));
    if let Some(reference) = reference {
        text.push_str(&format!(" Open marks: {} medians, whiskers their quartiles.", reference.title));
    }
    text
}

/// "n = 10", or how n lies between optimizers and epochs.
fn seeds(results: &Results, problem: &str) -> String {
    let n = results.curves.iter().filter(|row| row.problem == problem).filter_map(|row| row.n);
    match (n.clone().min(), n.max()) {
        (Some(least), Some(most)) if least == most => format!("n = {most}"),
        (Some(least), Some(most)) => format!("n = {least} to {most}"),
        _ => "n not stated".to_owned(),
    }
}

/// The figure of a problem: test and train loss above, test and train accuracy below.
pub fn learning_curves(results: &Results, problem: &str, over: Over, reference: Option<&Reference>) -> Option<Figure> {
    let panels: Vec<(Metric, Vec<Line>)> =
        PAPER_METRICS.map(|metric| (metric, lines(results, problem, metric, over, reference))).into();
    let longest = panels.iter().map(|(_, lines)| lines.len()).max()?;
    let shown = panels.iter().find(|(_, lines)| lines.len() == longest && longest > 0)?.1.clone();
    let reference = reference.filter(|_| panels.iter().any(|(_, lines)| lines.iter().any(|l| !l.reference.is_empty())));
    let entries: Vec<_> = shown.iter().map(|line| (line.name.as_str(), line.style)).collect();
    let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
    let caption = caption(results, problem, reference);
    let (panel_width, panel_height, row) = (172.0, 132.0, 178.0);
    let top = 2.0 * row + 24.0;
    let mut svg = Svg::new(WIDTH, top + legend::height(&names, &caption, WIDTH - 20.0) + 6.0);
    for (place, (metric, lines)) in panels.iter().enumerate() {
        let (column, line) = ((place % 2) as f64, (place / 2) as f64);
        let rectangle = [48.0 + column * 229.0, 22.0 + line * row, panel_width, panel_height];
        let frame = frame(lines, *metric, over, rectangle);
        let title = format!("{}{}", metric_title(*metric), if frame.vertical.log { " (log)" } else { "" });
        frame.draw_axes(&mut svg, if place >= 2 { x_title(over, frame.horizontal.log) } else { "" }, "");
        svg.text(
            (frame.x + panel_width / 2.0, frame.y - 6.0),
            LABEL_SIZE,
            Anchor::Middle,
            "font-weight=\"bold\"",
            &title,
        );
        plot::draw(&mut svg, &frame, lines, &format!("clip-{}-{metric}", file_part(problem)));
    }
    legend::draw(&mut svg, (10.0, top + 6.0), WIDTH - 20.0, &entries, &caption);
    let kind = if over == Over::Epochs { "epochs" } else { "seconds" };
    let title = format!("Learning curves on {problem} over {kind}");
    let stem = format!("curves_{}_{kind}", file_part(problem));
    Some(Figure { stem, svg: svg.finish(&title, &caption), title })
}

/// One metric's curves by themselves, for the page: the same marks, larger, without a legend.
#[derive(Debug)]
pub struct CurvePanel {
    /// The panel as SVG.
    pub svg: String,
    /// Its frame, for what reads values under the pointer.
    pub frame: Frame,
    /// What is drawn.
    pub lines: Vec<Line>,
    /// Line, band and n in words.
    pub caption: String,
}

/// The panel of one metric over epochs; none where there is no curve of it.
pub fn curve_panel(
    results: &Results,
    problem: &str,
    metric: Metric,
    reference: Option<&Reference>,
) -> Option<CurvePanel> {
    let lines = lines(results, problem, metric, Over::Epochs, reference);
    if lines.is_empty() {
        return None;
    }
    let mut svg = Svg::new(WIDTH, 292.0);
    let frame = frame(&lines, metric, Over::Epochs, [70.0, 14.0, WIDTH - 86.0, 226.0]);
    let y_title = format!("{}{}", metric_title(metric), if frame.vertical.log { " (log)" } else { "" });
    frame.draw_axes(&mut svg, "epoch", &y_title);
    plot::draw(&mut svg, &frame, &lines, &format!("panel-{}-{metric}", file_part(problem)));
    let title = format!("{} of {problem} over epochs", metric_title(metric));
    let reference = reference.filter(|_| lines.iter().any(|line| !line.reference.is_empty()));
    let caption = caption(results, problem, reference);
    Some(CurvePanel { svg: svg.finish(&title, &caption), frame, lines, caption })
}
