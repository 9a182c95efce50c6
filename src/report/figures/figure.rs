//! A figure, its points, and what is written of several: their captions and figures.csv.

use super::plot::{self, Line};
use crate::error::Result;
use crate::report::escape;
use crate::table::csv;

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
        let datum = |point: &plot::Point| Datum {
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
