//! The figures of a report, each from results to SVG, and what they are drawn with (`plot`, `frames`, `names`). What a
//! figure shows is said beside it, not in it.

mod curves;
mod diagnostics;
mod frames;
mod heat_map;
mod names;
mod overhead;
mod plot;
mod profile;
mod spectrum;
mod tuning;

pub use curves::{CurvePanel, Over, curve_panel};
pub use overhead::overhead;
pub use plot::{Datum, Figure, WIDTH, captions, to_csv};
pub use spectrum::spectrum;

use super::agreement::Reference;
use super::profile::Cost;
use super::results::Results;
use crate::config::name::without_twins;

type Maker = fn(&Results, &str, Option<&Reference>) -> Option<Figure>;

/// Every kind of figure of a study: made for each problem, where there is something to show.
const MAKERS: [Maker; 6] = [
    |results, problem, reference| curves::learning_curves(results, problem, Over::Epochs, reference),
    |results, problem, _| curves::learning_curves(results, problem, Over::Seconds, None),
    |results, problem, _| heat_map::heat_maps(results, problem),
    |results, problem, _| tuning::sensitivity(results, problem),
    |results, problem, _| tuning::budget(results, problem),
    |results, problem, _| diagnostics::diagnostics(results, problem),
];

/// All figures of a study.
pub fn figures(results: &Results, reference: Option<&Reference>) -> Vec<Figure> {
    let problems = results.problems();
    let own = problems.iter().flat_map(|problem| MAKERS.iter().filter_map(|make| make(results, problem, reference)));
    let across =
        [profile::profile(results, Cost::Steps), profile::profile(results, Cost::Seconds), profile::ranks(results)];
    distinct(own.chain(across.into_iter().flatten()))
}

/// The figures under names of files that are their own on every system.
fn distinct(figures: impl Iterator<Item = Figure>) -> Vec<Figure> {
    let figures: Vec<Figure> = figures.collect();
    let stems = without_twins(figures.iter().map(|figure| figure.stem.clone()));
    figures.into_iter().zip(stems).map(|(figure, stem)| Figure { stem, ..figure }).collect()
}
