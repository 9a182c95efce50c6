//! Figures of one frame, its lines named beside their ends or in a legend, and of up to four with one legend below.

use super::names;
use super::plot::{self, Figure, Line, WIDTH, data_of};
use crate::config::name::file_part;
use crate::report::axis::{Frame, LABEL_SIZE, Scale};
use crate::report::svg::{Anchor, Svg};

// A figure of one frame, its lines named beside their ends or, where that does not fit, in a legend below.

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

const SINGLE_HEIGHT: f64 = 218.0;

impl Single<'_> {
    /// Draws it.
    pub fn draw(self) -> Figure {
        let entries: Vec<_> = self.lines.iter().map(|line| (line.name.as_str(), line.style)).collect();
        let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
        let beside = names::labels_width(&self.lines, SINGLE_HEIGHT);
        let below = if beside.is_some() { 0.0 } else { names::legend_height(&names, WIDTH - 20.0) };
        let mut svg = Svg::new(WIDTH, 284.0 + below);
        let (horizontal, vertical) = (self.x.0, self.y.0);
        let width = WIDTH - 70.0 - beside.unwrap_or(16.0);
        let frame = Frame { x: 70.0, y: 12.0, width, height: SINGLE_HEIGHT, horizontal, vertical };
        let ticks = if self.x_ticks.is_empty() { frame.horizontal_ticks() } else { frame.ticks_at(&self.x_ticks) };
        frame.draw_axes_with(&mut svg, &ticks, self.x.1, &self.y.1);
        plot::draw(&mut svg, &frame, &self.lines, &format!("clip-{}", self.stem));
        match beside {
            Some(_) => names::draw_labels(&mut svg, &frame, &self.lines),
            None => names::draw_legend(&mut svg, (10.0, 282.0), WIDTH - 20.0, &entries),
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

// A figure of up to four frames, two beside each other, with one legend below them.

/// One frame and what is in it.
pub struct Panel {
    /// What is written above it.
    pub title: String,
    /// What tells it from the others, in files of data.
    pub name: String,
    /// The lines.
    pub lines: Vec<Line>,
    /// Along it, and what that is.
    pub x: (Scale, &'static str),
    /// Along its height.
    pub y: Scale,
}

/// What the figure says of itself.
pub struct Heading {
    pub kind: &'static str,
    pub problem: String,
    pub stem: String,
    pub title: String,
    pub caption: String,
}

const PANEL: (f64, f64) = (172.0, 132.0);
const PANEL_ROW: f64 = 178.0;

/// Draws panels row by row.
pub fn draw_panels(names: Heading, panels: &[Panel]) -> Figure {
    let mut entries = Vec::new();
    for line in panels.iter().flat_map(|panel| &panel.lines) {
        if entries.iter().all(|(name, _)| *name != line.name.as_str()) {
            entries.push((line.name.as_str(), line.style));
        }
    }
    let optimizers: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
    let rows = panels.len().div_ceil(2);
    let top = rows as f64 * PANEL_ROW + 24.0;
    let mut svg = Svg::new(WIDTH, top + names::legend_height(&optimizers, WIDTH - 20.0) + 4.0);
    for (place, panel) in panels.iter().enumerate() {
        let (column, line) = ((place % 2) as f64, (place / 2) as f64);
        let (x, y) = (48.0 + column * 229.0, 22.0 + line * PANEL_ROW);
        let frame = Frame { x, y, width: PANEL.0, height: PANEL.1, horizontal: panel.x.0, vertical: panel.y };
        // Where nothing stands below, the axis is named.
        let x_title = if place + 2 >= panels.len() { panel.x.1 } else { "" };
        frame.draw_axes(&mut svg, x_title, "");
        let title = format!("{}{}", panel.title, if frame.vertical.log { " (log)" } else { "" });
        let middle = (frame.x + PANEL.0 / 2.0, frame.y - 6.0);
        svg.text(middle, LABEL_SIZE, Anchor::Middle, "font-weight=\"bold\"", &title);
        plot::draw(&mut svg, &frame, &panel.lines, &format!("clip-{}-{}", names.stem, file_part(&panel.name)));
    }
    names::draw_legend(&mut svg, (10.0, top + 4.0), WIDTH - 20.0, &entries);
    Figure {
        kind: names.kind,
        problem: Some(names.problem),
        stem: names.stem,
        svg: svg.finish(&names.title, &names.caption),
        title: names.title,
        caption: names.caption,
        data: panels.iter().flat_map(|panel| data_of(&panel.name, &panel.lines)).collect(),
    }
}
