//! A figure of one frame, its lines named beside their ends or, where that does not fit, in a legend below.

use super::super::axis::{Frame, Scale};
use super::super::svg::Svg;
use super::figure::{Figure, WIDTH, data_of};
use super::plot::Line;
use super::{labels, legend, plot};

/// What a figure of one frame says.
pub struct Single<'a> {
    pub kind: &'static str,
    pub problem: Option<String>,
    pub stem: String,
    pub title: String,
    pub caption: String,
    pub lines: Vec<Line>,
    pub x: (Scale, &'a str),
    pub y: (Scale, String),
    /// Where ticks stand along the horizontal axis; empty to have round numbers.
    pub x_ticks: Vec<f64>,
}

const HEIGHT: f64 = 218.0;

impl Single<'_> {
    /// Draws it.
    pub fn draw(self) -> Figure {
        let entries: Vec<_> = self.lines.iter().map(|line| (line.name.as_str(), line.style)).collect();
        let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
        let beside = labels::width(&self.lines, HEIGHT);
        let below = if beside.is_some() { 0.0 } else { legend::height(&names, WIDTH - 20.0) };
        let mut svg = Svg::new(WIDTH, 284.0 + below);
        let (horizontal, vertical) = (self.x.0, self.y.0);
        let width = WIDTH - 70.0 - beside.unwrap_or(16.0);
        let frame = Frame { x: 70.0, y: 12.0, width, height: HEIGHT, horizontal, vertical };
        let ticks = if self.x_ticks.is_empty() { frame.horizontal_ticks() } else { frame.ticks_at(&self.x_ticks) };
        frame.draw_axes_with(&mut svg, &ticks, self.x.1, &self.y.1);
        plot::draw(&mut svg, &frame, &self.lines, &format!("clip-{}", self.stem));
        match beside {
            Some(_) => labels::draw(&mut svg, &frame, &self.lines),
            None => legend::draw(&mut svg, (10.0, 282.0), WIDTH - 20.0, &entries),
        }
        Figure {
            kind: self.kind,
            problem: self.problem,
            svg: svg.finish(&self.title, &self.caption),
            data: data_of("", &self.lines),
            stem: self.stem,
            title: self.title,
            caption: self.caption,
        }
    }
}
