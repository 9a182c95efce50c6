//! The figures of a report; one file a kind, each from results to SVG.

mod budget;
mod curves;
mod heat_map;
mod legend;
mod overhead;
mod plot;
mod sensitivity;
mod single;
mod spectrum;

pub use curves::{CurvePanel, Over, curve_panel};
pub use overhead::overhead;
pub use spectrum::spectrum;

use super::agreement::Reference;
use super::results::Results;
use crate::config::name::without_twins;

/// The width of a figure, that of a paper's column at a tenth more than its print size.
pub const WIDTH: f64 = 460.0;

/// A figure that is ready to be written.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The files' name without the ending.
    pub stem: String,
    /// What it shows, one sentence.
    pub title: String,
    /// The figure as SVG with text as text.
    pub svg: String,
}

type Maker = fn(&Results, &str, Option<&Reference>) -> Option<Figure>;

/// Every kind of figure of a study: made for each problem, where there is something to show.
const MAKERS: [Maker; 5] = [
    |results, problem, reference| curves::learning_curves(results, problem, Over::Epochs, reference),
    |results, problem, _| curves::learning_curves(results, problem, Over::Seconds, None),
    |results, problem, _| heat_map::heat_maps(results, problem),
    |results, problem, _| sensitivity::sensitivity(results, problem),
    |results, problem, _| budget::budget(results, problem),
];

/// All figures of a study.
pub fn figures(results: &Results, reference: Option<&Reference>) -> Vec<Figure> {
    let problems = results.problems();
    distinct(problems.iter().flat_map(|problem| MAKERS.iter().filter_map(|make| make(results, problem, reference))))
}

/// The figures under names of files that are their own on every system.
fn distinct(figures: impl Iterator<Item = Figure>) -> Vec<Figure> {
    let figures: Vec<Figure> = figures.collect();
    let stems = without_twins(figures.iter().map(|figure| figure.stem.clone()));
    figures.into_iter().zip(stems).map(|(figure, stem)| Figure { stem, ..figure }).collect()
}
