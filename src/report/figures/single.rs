//! A figure of one frame with a legend below it.

use super::super::axis::{Frame, Scale};
use super::super::svg::Svg;
use super::plot::Line;
use super::{Figure, WIDTH, legend, plot};

/// What a figure of one frame says.
pub struct Single<'a> {
    pub stem: String,
    pub title: String,
    pub caption: String,
    pub lines: Vec<Line>,
    pub x: (Scale, &'a str),
    pub y: (Scale, String),
    /// Where ticks stand along the horizontal axis; empty to have round numbers.
    pub x_ticks: Vec<f64>,
}

impl Single<'_> {
    /// Draws it.
    pub fn draw(self) -> Figure {
        let entries: Vec<_> = self.lines.iter().map(|line| (line.name.as_str(), line.style)).collect();
        let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
        let mut svg = Svg::new(WIDTH, 292.0 + legend::height(&names, &self.caption, WIDTH - 20.0));
        let (horizontal, vertical) = (self.x.0, self.y.0);
        let frame = Frame { x: 70.0, y: 12.0, width: WIDTH - 86.0, height: 218.0, horizontal, vertical };
        let ticks = if self.x_ticks.is_empty() { frame.horizontal_ticks() } else { frame.ticks_at(&self.x_ticks) };
        frame.draw_axes_with(&mut svg, &ticks, self.x.1, &self.y.1);
        plot::draw(&mut svg, &frame, &self.lines, &format!("clip-{}", self.stem));
        legend::draw(&mut svg, (10.0, 284.0), WIDTH - 20.0, &entries, &self.caption);
        Figure { svg: svg.finish(&self.title, &self.caption), stem: self.stem, title: self.title }
    }
}
