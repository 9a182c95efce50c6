//! Learning curves: the median over seeds with its quartiles, for the paper's four metrics.

use super::super::agreement::Reference;
use super::super::axis::{Frame, Scale};
use super::super::results::{CurveRow, PAPER_METRICS, Results, curve};
use super::super::style::Looks;
use super::super::svg::Svg;
use super::super::text;
use super::super::text::metric_title;
use super::frames::{Heading, Panel, draw_panels};
use super::names;
use super::plot::{self, Figure, Line, Point, WIDTH};
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

impl Over {
    /// The word in names of files.
    pub fn as_str(self) -> &'static str {
        match self {
            Over::Epochs => "epochs",
            Over::Seconds => "seconds",
        }
    }
}

/// Published points drawn for a curve, at most.
const REFERENCE_POINTS: usize = 14;
/// The part of training that the vertical range takes no notice of: it is where all curves are steep.
const STEEP: f64 = 0.1;
/// What is much worse than three quarters of what is shown, an optimizer or a setting, is left out of a range, of an axis or of
/// colours, where that would be so many times as wide.
pub(super) const MUCH_WIDER: f64 = 3.0;

fn lines(results: &Results, problem: &str, metric: Metric, over: Over, reference: Option<&Reference>) -> Vec<Line> {
    let looks = Looks::of(results);
    let mut lines = Vec::new();
    for name in results.optimizers(problem) {
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
            lines.push(Line { style: looks.style(&name), name, points, reference, mark_all: false });
        }
    }
    // A problem without accuracies has columns of them all the same.
    if !lines.iter().flat_map(|line| &line.points).any(|point| point.y.is_finite()) {
        return Vec::new();
    }
    if over == Over::Seconds && is_spread(&lines) {
        // What precedes training has no place on a logarithmic axis.
        lines.iter_mut().for_each(|line| line.points.retain(|point| point.x > 0.0));
    }
    lines
}

/// The range along the curves.
fn horizontal(lines: &[Line], over: Over) -> Scale {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let last = points().map(|p| p.x).fold(0.0, f64::max);
    match over {
        Over::Seconds if is_spread(lines) => Scale::of(points().map(|p| p.x).filter(|x| *x > 0.0), true),
        // A little more, so that the last marks are whole.
        Over::Seconds => Scale::linear(0.0, 1.015 * last),
        Over::Epochs => Scale::linear(0.0, 1.015 * last).whole(),
    }
}

/// What counts for the vertical range: the lines without their steep part, and their bands at the end.
fn compared(line: &Line) -> Vec<f64> {
    let points = &line.points;
    let steep = match points.len() {
        0..3 => 0,
        length => ((length - 1) as f64 * STEEP).ceil() as usize,
    };
    let from = points.get(steep).map_or(0.0, |point| point.x);
    let reference = line.reference.iter().filter(|point| point.x >= from).map(|point| point.y);
    let end = points.last().into_iter().flat_map(|point| [point.low, point.high]);
    points
        .iter()
        .skip(steep)
        .map(|point| point.y)
        .chain(reference)
        .chain(end)
        .filter(|value| value.is_finite())
        .collect()
}

/// The vertical range by what is compared, and the names of the optimizers that lie outside of it at the end.
fn vertical(lines: &[Line], metric: Metric) -> (Scale, Vec<String>) {
    let log = !metric.larger_is_better();
    let scale_of =
        |lines: &[&Line]| Scale::of(lines.iter().flat_map(|line| compared(line)).collect::<Vec<_>>().into_iter(), log);
    let end = |line: &Line| {
        let value = line.points.last().map_or(f64::NAN, |point| point.y);
        let worse = if metric.larger_is_better() { -value } else { value };
        if worse.is_finite() { worse } else { f64::INFINITY }
    };
    let mut sorted: Vec<&Line> = lines.iter().collect();
    sorted.sort_by(|a, b| end(a).total_cmp(&end(b)));
    let all = scale_of(&sorted);
    let most = &sorted[..(3 * sorted.len()).div_ceil(4)];
    let narrow = scale_of(most);
    let length = |scale: &Scale| match scale.log && narrow.log {
        true => (scale.high / scale.low).ln(),
        false => scale.high - scale.low,
    };
    if length(&all) <= MUCH_WIDER * length(&narrow) {
        return (all, Vec::new());
    }
    let is_outside =
        |line: &&&Line| line.points.last().is_some_and(|point| !(0.0..=1.0).contains(&narrow.place(point.y)));
    (narrow, sorted.iter().filter(is_outside).map(|line| line.name.clone()).collect())
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

fn caption(results: &Results, problem: &str, over: Over, reference: Option<&Reference>, outside: &[String]) -> String {
    let mut text = format!(
        "{}. Line: median over seeds; band: quartiles; {}.",
        text::problem_title(problem),
        seeds(results, problem)
    );
    if over == Over::Seconds {
        text.push_str(" Seconds of training only: the median over seeds of the time up to each epoch.");
        if let Some(note) = results.busy_note(problem) {
            text.push_str(&format!(" {note}"));
        }
    }
    if let Some(reference) = reference {
        text.push_str(&format!(" Open marks: {} medians; whiskers: their quartiles.", reference.title));
    }
    if !outside.is_empty() {
        text.push_str(&format!(" Outside the vertical range: {}.", outside.join(", ")));
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
    let mut outside: Vec<String> = Vec::new();
    let panel = |metric: Metric| {
        let lines = lines(results, problem, metric, over, reference);
        if lines.is_empty() {
            return None;
        }
        let x = horizontal(&lines, over);
        let (y, beyond) = vertical(&lines, metric);
        outside.extend(beyond.into_iter().filter(|name| !outside.contains(name)).collect::<Vec<_>>());
        let name = metric.to_string();
        Some(Panel { title: metric_title(metric).to_owned(), name, lines, x: (x, x_title(over, x.log)), y })
    };
    let panels: Vec<Panel> = PAPER_METRICS.into_iter().filter_map(panel).collect();
    let has_reference = panels.iter().flat_map(|panel| &panel.lines).any(|line| !line.reference.is_empty());
    let names = Heading {
        kind: "curves",
        problem: problem.to_owned(),
        stem: format!("curves_{}_{}", file_part(problem), over.as_str()),
        title: format!("Learning curves on {} over {}", text::problem_title(problem), over.as_str()),
        caption: caption(results, problem, over, reference.filter(|_| has_reference), &outside),
    };
    (!panels.is_empty()).then(|| draw_panels(names, &panels))
}

/// One metric's curves by themselves, for the page: the same marks, larger.
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

/// The height of its frame.
const PANEL_HEIGHT: f64 = 226.0;

/// The panel of one metric; none where there is no curve of it.
pub fn curve_panel(
    results: &Results,
    problem: &str,
    metric: Metric,
    over: Over,
    reference: Option<&Reference>,
) -> Option<CurvePanel> {
    let lines = lines(results, problem, metric, over, reference);
    if lines.is_empty() {
        return None;
    }
    let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    let beside = names::labels_width(&lines, PANEL_HEIGHT);
    let below = if beside.is_some() { 0.0 } else { names::legend_height(&names, WIDTH - 20.0) };
    let mut svg = Svg::new(WIDTH, 290.0 + below);
    let (y, outside) = vertical(&lines, metric);
    let frame = Frame {
        x: 70.0,
        y: 14.0,
        width: WIDTH - 70.0 - beside.unwrap_or(16.0),
        height: PANEL_HEIGHT,
        horizontal: horizontal(&lines, over),
        vertical: y,
    };
    let y_title = format!("{}{}", metric_title(metric), if frame.vertical.log { " (log)" } else { "" });
    frame.draw_axes(&mut svg, x_title(over, frame.horizontal.log), &y_title);
    plot::draw(&mut svg, &frame, &lines, &format!("panel-{}-{metric}-{}", file_part(problem), over.as_str()));
    match beside {
        Some(_) => names::draw_labels(&mut svg, &frame, &lines),
        None => {
            let entries: Vec<_> = lines.iter().map(|line| (line.name.as_str(), line.style)).collect();
            names::draw_legend(&mut svg, (10.0, 288.0), WIDTH - 20.0, &entries);
        }
    }
    let title = format!("{} of {} over {}", metric_title(metric), text::problem_title(problem), over.as_str());
    let reference = reference.filter(|_| lines.iter().any(|line| !line.reference.is_empty()));
    let caption = caption(results, problem, over, reference, &outside);
    Some(CurvePanel { svg: svg.finish(&title, &caption), frame, lines, caption })
}
