//! The density of a curvature matrix's spectrum, with the eigenvalues that are known by themselves.

use super::super::axis::Scale;
use super::super::style::{Marker, Style};
use super::frames::Single;
use super::plot::{Figure, Line, Point};
use crate::digits::{significant, with_bar};
use crate::spectrum::{Density, Matrix, Record};

const CURVE: Style = Style { colour: "#0072b2", dash: "", marker: Marker::Disc };
const SINGLE: Style = Style { colour: "#d55e00", dash: "", marker: Marker::Up };

/// The figure of a spectrum's density.
pub fn spectrum(record: &Record, density: &Density) -> Figure {
    let about = &record.about;
    // What one eigenvalue of all adds at its place, and a little less.
    let single = 1.0 / (about.parameters as f64 * density.width * (2.0 * std::f64::consts::PI).sqrt());
    let floor = single / 5.0;
    let top = density.high.iter().copied().fold(single, f64::max);
    let at = |place: usize| Point {
        x: density.places[place],
        y: density.density[place],
        low: density.low[place].max(floor / 10.0),
        high: density.high[place].max(floor / 10.0),
    };
    let points = (0..density.places.len()).map(at).map(|point| Point { y: point.y.max(floor / 10.0), ..point });
    let starts = density.quadratures.len();
    let steps = density.quadratures.iter().map(|quadrature| quadrature.nodes.len()).max().unwrap_or(0);
    let curve =
        Line { name: "density".to_owned(), style: CURVE, points: points.collect(), reference: vec![], mark_all: false };
    let mut lines = vec![curve];
    let found = record.eigenvalues.iter().flat_map(|found| found.largest.iter().chain(&found.smallest));
    let marks: Vec<Point> = found.map(|one| Point::bare(one.value, floor * 1.3)).collect();
    let x = Scale::of(density.places.iter().copied().chain(marks.iter().map(|mark| mark.x)), false);
    if !marks.is_empty() {
        let name = "eigenvalues".to_owned();
        lines.push(Line { name, style: SINGLE, points: vec![], reference: marks, mark_all: true });
    }
    let matrix = match about.matrix {
        Matrix::Ggn => "generalised Gauss-Newton matrix",
        Matrix::Hessian => "Hessian",
        Matrix::Fisher => "sampled Fisher matrix",
    };
    let trace = record.trace.map_or_else(String::new, |trace| format!(" Trace {}.", with_bar(trace.value, trace.bar)));
    let caption = format!(
        "{}, {matrix}: {} samples, {} parameters. Line: mean over n = {starts} random vectors, {steps} Lanczos steps each; band: \
         smallest to largest; each node is a Gaussian with standard deviation {}.{trace}",
        about.problem,
        about.samples,
        about.parameters,
        significant(density.width, 2)
    );
    let y = (Scale { low: floor, high: 2.0 * top, log: true, whole: false }, "density (log)".to_owned());
    let title = format!("Spectral density of the {matrix} of {}", about.problem);
    Single {
        kind: "spectrum",
        problem: Some(about.problem.clone()),
        stem: "density".to_owned(),
        title,
        caption,
        x: (x, "eigenvalue"),
        y,
        lines,
        x_ticks: Vec::new(),
    }
    .draw()
}
