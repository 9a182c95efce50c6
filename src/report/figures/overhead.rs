//! What quantities and optimizer steps cost, as multiples of the gradient: bars, and lines over several batch sizes.

use super::super::axis::{Frame, LABEL_SIZE, Scale, TICK_SIZE};
use super::super::results::distinct;
use super::super::style::{self, Style};
use super::super::svg::{Anchor, Svg, shortened, text_width};
use super::super::text::{self, ratio};
use super::frames::Single;
use super::plot::{Datum, Figure, Line, Point, WIDTH};
use crate::bench::{Row, baseline};
use crate::config::name::file_part;

/// The figures of a bench: one for each figure of the paper and problem.
pub fn overhead(rows: &[Row]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for figure in distinct(rows.iter().map(|row| &row.figure)) {
        let here: Vec<&Row> = rows.iter().filter(|row| row.figure == figure && row.ratio.is_finite()).collect();
        for problem in distinct(here.iter().map(|row| &row.problem)) {
            let own: Vec<&Row> = here.iter().filter(|row| row.problem == problem).copied().collect();
            let sizes = distinct(own.iter().map(|row| &row.batch_size));
            let threads = distinct(own.iter().map(|row| &row.threads));
            figures.push(match sizes.len() > 1 && threads.len() == 1 {
                true => over_batch_sizes(&figure, &problem, &own),
                false => bars(&figure, &problem, &own),
            });
        }
    }
    super::distinct(figures.into_iter())
}

fn span<T: Ord + Copy + std::fmt::Display>(values: impl Iterator<Item = T> + Clone) -> String {
    match (values.clone().min(), values.max()) {
        (Some(low), Some(high)) if low == high => low.to_string(),
        (Some(low), Some(high)) => format!("{low} to {high}"),
        _ => String::new(),
    }
}

fn caption(problem: &str, rows: &[&Row], spread: &str, open: &str) -> String {
    let mut text = format!(
        "{}. Time relative to the gradient: median of n = {} paired rounds, {spread} its 95\u{a0}% interval; threads: {}, \
         batch size: {}.",
        text::problem_title(problem),
        span(rows.iter().map(|row| row.rounds)),
        span(rows.iter().map(|row| row.threads)),
        span(rows.iter().map(|row| row.batch_size))
    );
    if !open.is_empty() {
        text.push_str(&format!(" {open}: {}.", baseline::PUBLISHED_NOTE));
    }
    text
}

fn names(figure: &str, problem: &str) -> (String, String) {
    let what = if figure == "steps" { "optimizer steps".to_owned() } else { format!("quantities, Figure {figure}") };
    let stem = format!("overhead_{}_{}", file_part(figure).replace('_', "=5f"), file_part(problem));
    (stem, format!("Overhead of {what} on {}", text::problem_title(problem)))
}

fn over_batch_sizes(figure: &str, problem: &str, rows: &[&Row]) -> Figure {
    let mut lines = Vec::new();
    for (place, name) in distinct(rows.iter().map(|row| &row.quantity)).into_iter().enumerate() {
        let mut points: Vec<Point> = rows.iter().filter(|row| row.quantity == name).map(|row| point(row)).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let (first, last) = (points.first().map_or(0.0, |p| p.x), points.last().map_or(0.0, |p| p.x));
        let known = baseline::published_ratios().iter().filter(|known| {
            (known.figure.as_str(), known.problem.as_str(), &known.quantity) == (figure, problem, &name)
                && (first..=last).contains(&(known.batch_size as f64))
        });
        let reference = known.map(|known| Point::bare(known.batch_size as f64, known.ratio)).collect();
        lines.push(Line { style: look(place), name, points, reference, mark_all: true });
    }
    let (stem, title) = names(figure, problem);
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let references = || lines.iter().flat_map(|line| line.reference.iter());
    let values = || points().chain(references()).flat_map(|p| [p.low, p.high]);
    let open = if references().next().is_some() { "Open marks" } else { "" };
    let mut sizes: Vec<f64> = points().map(|p| p.x).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let wide = values().fold(0.0, f64::max) > 12.0;
    let x = (Scale::of(points().map(|p| p.x), true), "batch size (log)");
    let y = (Scale::of(values(), wide), format!("time / gradient{}", if wide { " (log)" } else { "" }));
    let caption = caption(problem, rows, "band:", open);
    let problem = Some(problem.to_owned());
    Single { kind: "overhead", problem, stem, title, caption, lines, x, y, x_ticks: sizes }.draw()
}

/// Looks for names that are no optimizers, in turn.
fn look(place: usize) -> Style {
    style::of(["KFAC", "DiagGGN", "KFLR", "DiagGGN-MC", "KFRA", "Momentum", "Adam"].get(place).unwrap_or(&""), place)
}

fn point(row: &Row) -> Point {
    let (low, high) = interval(row);
    Point { x: row.batch_size as f64, y: row.ratio, low, high }
}

/// The ends of the ratio's interval, or the ratio itself where there is none.
fn interval(row: &Row) -> (f64, f64) {
    let or_ratio = |end: f64| if end.is_finite() { end } else { row.ratio };
    (or_ratio(row.ratio_low), or_ratio(row.ratio_high))
}

/// Rows of bars, and where they lie.
struct Bars<'a> {
    rows: &'a [&'a Row],
    frame: Frame,
    /// The height of a row.
    step: f64,
    /// Where bars begin: on a logarithmic axis, which has no zero, at the gradient.
    start: f64,
}

fn bars(figure: &str, problem: &str, rows: &[&Row]) -> Figure {
    let known = rows.iter().any(|row| row.published().is_some());
    let (stem, title) = names(figure, problem);
    let caption = caption(problem, rows, "whiskers:", if known { "Open bars" } else { "" });
    let several = distinct(rows.iter().map(|row| &row.batch_size)).len() > 1
        || distinct(rows.iter().map(|row| &row.threads)).len() > 1;
    let name = |row: &Row| {
        let of = match several {
            true => format!(" (N={}, {} thr.)", row.batch_size, row.threads),
            false => String::new(),
        };
        let room = WIDTH / 2.0 - text_width(&of, TICK_SIZE);
        format!("{}{of}", shortened(&row.quantity, room, TICK_SIZE))
    };
    let ends = || rows.iter().flat_map(|row| [interval(row).0, interval(row).1].into_iter().chain(row.published()));
    let largest = ends().fold(1.0, f64::max);
    let log = largest > 20.0;
    let horizontal = if log {
        Scale { low: (ends().fold(1.0, f64::min) * 0.8).max(1e-3), high: largest * 2.4, log, whole: false }
    } else {
        Scale::linear(0.0, largest * 1.2)
    };
    // The paper's bar lies below ours, open and thinner.
    let step = if known { 31.0 } else { 23.0 };
    let left = 14.0 + rows.iter().map(|row| text_width(&name(row), TICK_SIZE)).fold(60.0, f64::max);
    let (width, height) = (WIDTH - left - 16.0, step * rows.len() as f64);
    let frame = Frame { x: left, y: 8.0, width, height, horizontal, vertical: Scale::linear(0.0, 1.0) };
    let below = frame.y + height + 58.0;
    let mut svg = Svg::new(WIDTH, below - 8.0);
    for (value, text) in frame.horizontal_ticks() {
        let (x, _) = frame.at(value, 0.0);
        svg.line((x, frame.y), (x, frame.y + height), "stroke=\"#e4e4e4\" stroke-width=\"0.7\"");
        svg.text((x, frame.y + height + 4.0 + TICK_SIZE), TICK_SIZE, Anchor::Middle, "", &text);
    }
    let one = frame.at(1.0, 0.0).0;
    svg.line((one, frame.y), (one, frame.y + height), "stroke=\"#000\" stroke-width=\"1.2\" stroke-dasharray=\"4 2\"");
    let bars = Bars { rows, frame, step, start: if log { one } else { frame.x } };
    for (place, row) in bars.rows.iter().enumerate() {
        bars.draw(&mut svg, row, frame.y + step * place as f64);
        let middle = frame.y + step * (place as f64 + 0.5);
        svg.text((frame.x - 6.0, middle + 4.4), TICK_SIZE, Anchor::End, "", &name(row));
    }
    svg.rect(frame.rectangle(), "fill=\"none\" stroke=\"#000\" stroke-width=\"0.8\"");
    let x_title = format!("time / gradient{}; dashed: the gradient", if log { " (log)" } else { "" });
    let x_middle = (frame.x + frame.width / 2.0).min(WIDTH - 10.0 - text_width(&x_title, LABEL_SIZE) / 2.0);
    svg.text((x_middle, frame.y + height + 36.0), LABEL_SIZE, Anchor::Middle, "", &x_title);
    let datum = |(place, row): (usize, &&Row)| {
        let (lower, upper) = interval(row);
        Datum { panel: String::new(), line: name(row), x: place as f64, value: row.ratio, lower, upper }
    };
    let data = rows.iter().enumerate().map(datum).collect();
    let problem = Some(problem.to_owned());
    Figure { kind: "overhead", problem, svg: svg.finish(&title, &caption), stem, title, caption, data }
}

impl Bars<'_> {
    /// Our bar with its interval, and the paper's below it where there is one.
    fn draw(&self, svg: &mut Svg, row: &Row, top: f64) {
        let paper = row.published();
        let middle = if paper.is_some() { top + 9.5 } else { top + self.step / 2.0 };
        let place = |value: f64| self.frame.at(value, 0.0).0;
        let end = place(row.ratio);
        self.bar(svg, (middle, 6.5), end, "fill=\"#7aa6c9\" stroke=\"#0b4a78\"");
        let (low, high) = interval(row);
        let (low, high) = (place(low), place(high));
        svg.line((low, middle), (high, middle), "stroke=\"#000\" stroke-width=\"1.2\"");
        for x in [low, high] {
            svg.line((x, middle - 3.5), (x, middle + 3.5), "stroke=\"#000\" stroke-width=\"1.2\"");
        }
        self.label(svg, (high.max(end), middle + 4.4), TICK_SIZE, row.ratio);
        if let Some(paper) = paper {
            let (middle, end) = (top + 22.5, place(paper));
            self.bar(svg, (middle, 4.0), end, "fill=\"#fff\" stroke=\"#000\"");
            self.label(svg, (end, middle + 4.0), TICK_SIZE - 1.5, paper);
        }
    }

    fn bar(&self, svg: &mut Svg, (middle, half): (f64, f64), end: f64, looks: &str) {
        let (left, right) = (self.start.min(end), self.start.max(end));
        svg.rect([left, middle - half, right - left, 2.0 * half], &format!("{looks} stroke-width=\"0.8\""));
    }

    /// The ratio in figures beside its bar, on white so that no line crosses it.
    fn label(&self, svg: &mut Svg, (end, y): (f64, f64), size: f64, value: f64) {
        let (x, text) = (end.max(self.start) + 5.0, ratio(value));
        svg.rect([x - 1.0, y - 0.8 * size, text_width(&text, size), 0.9 * size], "fill=\"#fff\"");
        svg.text((x, y), size, Anchor::Start, "", &text);
    }
}
