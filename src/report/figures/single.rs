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
}

impl Single<'_> {
    /// Draws it.
    pub fn draw(self) -> Figure {
        let entries: Vec<_> = self.lines.iter().map(|line| (line.name.as_str(), line.style)).collect();
        let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
        let mut svg = Svg::new(WIDTH, 282.0 + legend::height(&names, &self.caption, WIDTH - 20.0));
        let (horizontal, vertical) = (self.x.0, self.y.0);
        let frame = Frame { x: 64.0, y: 12.0, width: WIDTH - 80.0, height: 218.0, horizontal, vertical };
        frame.draw_axes(&mut svg, self.x.1, &self.y.1);
        plot::draw(&mut svg, &frame, &self.lines, &format!("clip-{}", self.stem));
        legend::draw(&mut svg, (10.0, 276.0), WIDTH - 20.0, &entries, &self.caption);
        Figure { svg: svg.finish(&self.title, &self.caption), stem: self.stem, title: self.title }
    }
}
