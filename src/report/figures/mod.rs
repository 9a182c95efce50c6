//! The figures of a report; one file a kind, each from results to SVG. What a figure shows is said beside it, not in it.

mod budget;
mod colours;
mod curves;
mod diagnostics;
mod heat_map;
mod labels;
mod legend;
mod overhead;
mod panels;
mod plot;
mod profile;
mod ranks;
mod scatter;
mod sensitivity;
mod single;
mod spectrum;

pub use curves::{CurvePanel, Over, curve_panel};
pub use overhead::overhead;
pub use spectrum::spectrum;

use super::agreement::Reference;
use super::profile::Cost;
use super::results::Results;
use crate::config::name::without_twins;
use crate::error::Result;
use crate::table::csv;
use plot::Line;

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
fn data_of(panel: &str, lines: &[Line]) -> Vec<Datum> {
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

type Maker = fn(&Results, &str, Option<&Reference>) -> Option<Figure>;

/// Every kind of figure of a study: made for each problem, where there is something to show.
const MAKERS: [Maker; 6] = [
    |results, problem, reference| curves::learning_curves(results, problem, Over::Epochs, reference),
    |results, problem, _| curves::learning_curves(results, problem, Over::Seconds, None),
    |results, problem, _| heat_map::heat_maps(results, problem),
    |results, problem, _| sensitivity::sensitivity(results, problem),
    |results, problem, _| budget::budget(results, problem),
    |results, problem, _| diagnostics::diagnostics(results, problem),
];

/// All figures of a study.
pub fn figures(results: &Results, reference: Option<&Reference>) -> Vec<Figure> {
    let problems = results.problems();
    let own = problems.iter().flat_map(|problem| MAKERS.iter().filter_map(|make| make(results, problem, reference)));
    let across =
        [profile::profile(results, Cost::Steps), profile::profile(results, Cost::Seconds), ranks::ranks(results)];
    distinct(own.chain(across.into_iter().flatten()))
}

/// The figures under names of files that are their own on every system.
fn distinct(figures: impl Iterator<Item = Figure>) -> Vec<Figure> {
    let figures: Vec<Figure> = figures.collect();
    let stems = without_twins(figures.iter().map(|figure| figure.stem.clone()));
    figures.into_iter().zip(stems).map(|(figure, stem)| Figure { stem, ..figure }).collect()
}
