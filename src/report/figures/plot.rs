//! A figure, its points, and lines with bands in a frame, which most figures are made of.

use super::super::axis::Frame;
use super::super::escape;
use super::super::style::Style;
use super::super::svg::Svg;
use crate::config::name::file_part;
use crate::error::Result;
use crate::table::csv;

/// A point of a line; `low` and `high` are the band's ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Along the horizontal axis.
    pub x: f64,
    /// The line.
    pub y: f64,
    /// The lower end of the band.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Point {
    /// A point without a band.
    pub fn bare(x: f64, y: f64) -> Self {
        Point { x, y, low: y, high: y }
    }

    fn is_finite(&self) -> bool {
        self.x.is_finite() && self.y.is_finite() && self.low.is_finite() && self.high.is_finite()
    }
}

/// One optimizer's line, and the points that it is compared with.
#[derive(Clone, Debug)]
pub struct Line {
    /// The optimizer.
    pub name: String,
    /// Its looks.
    pub style: Style,
    /// The line with its band.
    pub points: Vec<Point>,
    /// Published points, drawn open with their band as a whisker.
    pub reference: Vec<Point>,
    /// Whether every point gets a marker; else a few do.
    pub mark_all: bool,
}

/// Draws lines into a frame, bands below all of them. `id` is the page's own.
pub fn draw(svg: &mut Svg, frame: &Frame, lines: &[Line], id: &str) {
    svg.open_clipped(id, frame.rectangle());
    for line in lines {
        open(svg, line);
        for stretch in stretches(&line.points).filter(|stretch| stretch.iter().any(|p| p.low < p.high)) {
            let upper = stretch.iter().map(|p| frame.at(p.x, p.high));
            let lower = stretch.iter().rev().map(|p| frame.at(p.x, p.low));
            let looks = format!("fill=\"{}\" fill-opacity=\"0.22\"", line.style.colour);
            svg.polygon(&upper.chain(lower).collect::<Vec<_>>(), &looks);
        }
        svg.close();
    }
    for (place, line) in lines.iter().enumerate() {
        open(svg, line);
        for stretch in stretches(&line.points) {
            let points: Vec<(f64, f64)> = stretch.iter().map(|p| frame.at(p.x, p.y)).collect();
            svg.polyline(&points, &line.style.stroke(1.5));
        }
        let seen: Vec<&Point> = line.points.iter().filter(|p| p.is_finite() && frame.holds(p.x, p.y)).collect();
        // The first point that is seen, and a few that lie elsewhere for each line, so that lines that lie together can
        // be told apart.
        let stride = if line.mark_all { 1 } else { (seen.len() / 4).max(1) };
        let shift = if line.mark_all { 0 } else { 1 + place * stride / lines.len().max(1) };
        for point in seen.first().into_iter().chain(seen.iter().skip(shift).step_by(stride)) {
            line.style.mark(svg, frame.at(point.x, point.y), 2.6, true);
        }
        for point in line.reference.iter().filter(|p| p.is_finite()) {
            let ends = (frame.at(point.x, point.low), frame.at(point.x, point.high));
            svg.line(ends.0, ends.1, &format!("stroke=\"{}\" stroke-width=\"1\"", line.style.colour));
            line.style.mark(svg, frame.at(point.x, point.y), 2.6, false);
        }
        svg.close();
    }
    svg.close();
}

fn open(svg: &mut Svg, line: &Line) {
    svg.open(&format!("class=\"series\" data-optimizer=\"{}\"", file_part(&line.name)));
}

/// The parts of a line without gaps.
fn stretches(points: &[Point]) -> impl Iterator<Item = &[Point]> {
    points.split(|point| !point.is_finite()).filter(|stretch| !stretch.is_empty())
}

// A figure, its points, and what is written of several: their captions and figures.csv.

/// The width of a figure, that of a paper's column at a tenth more than its print size.
pub const WIDTH: f64 = 460.0;

/// A figure that is ready to be written.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What kind of figure it is, the first part of the files' name.
    pub kind: &'static str,
    /// The problem that it is of; none where it is of all.
    pub problem: Option<String>,
    /// The files' name without the ending.
    pub stem: String,
    /// What it shows, one sentence.
    pub title: String,
    /// How to read it: what n, lines and bands are.
    pub caption: String,
    /// The figure as SVG with text as text.
    pub svg: String,
    /// What is drawn.
    pub data: Vec<Datum>,
}

/// One point of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// Which of the figure's frames it lies in.
    pub panel: String,
    /// The line or row that it belongs to.
    pub line: String,
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical axis.
    pub value: f64,
    /// The lower end of the band.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}

/// What lines are drawn from.
pub(super) fn data_of(panel: &str, lines: &[Line]) -> Vec<Datum> {
    let one = |line: &Line| {
        let datum = |point: &Point| Datum {
            panel: panel.to_owned(),
            line: line.name.clone(),
            x: point.x,
            value: point.y,
            lower: point.low,
            upper: point.high,
        };
        line.points.iter().map(datum).collect::<Vec<_>>()
    };
    lines.iter().flat_map(one).collect()
}

/// figures.csv: every point of every figure.
///
/// # Errors
/// None that input can reach.
pub fn to_csv(figures: &[Figure]) -> Result<String> {
    let header = ["figure", "panel", "line", "x", "value", "lower", "upper"];
    let records = figures.iter().flat_map(|figure| {
        figure.data.iter().map(|datum| {
            let names = [figure.stem.clone(), datum.panel.clone(), datum.line.clone()];
            let numbers = [datum.x, datum.value, datum.lower, datum.upper].map(|number| number.to_string());
            names.into_iter().chain(numbers).collect()
        })
    });
    csv(&header, records)
}

/// What stands below the figures in a paper.
pub fn captions(figures: &[Figure]) -> String {
    let one = |figure: &Figure| {
        let [title, caption] = [&figure.title, &figure.caption].map(|text| escape::markdown(text));
        format!("## {}\n\n{title}. {caption}\n\n", figure.stem)
    };
    figures.iter().map(one).collect()
}
