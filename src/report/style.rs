//! How each optimizer is drawn: curvatures dashed in colours of their own, baselines solid in black and greys, as in the
//! paper. Colours are Okabe and Ito's, which colour-blind readers tell apart; dashes and markers do without colour.

use super::results::{Results, distinct};
use super::svg::Svg;

/// A line's looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// As in SVG.
    pub colour: &'static str,
    /// As in SVG's stroke-dasharray; empty for a solid line.
    pub dash: &'static str,
    /// What marks points.
    pub marker: Marker,
}

/// A small shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Marker {
    /// A disc.
    Disc,
    /// A square.
    Square,
    /// A triangle that points up.
    Up,
    /// A triangle that points down.
    Down,
    /// A square on its corner.
    Diamond,
    /// A cross.
    Cross,
}

const fn style(colour: &'static str, dash: &'static str, marker: Marker) -> Style {
    Style { colour, dash, marker }
}

/// The optimizers of the paper, SGD, and those of today.
const KNOWN: [(&str, Style); 14] = [
    ("DiagGGN", style("#d55e00", "7 2.5", Marker::Square)),
    ("DiagGGN-MC", style("#e69f00", "2.5 2", Marker::Diamond)),
    ("KFAC", style("#0072b2", "8 2 2 2", Marker::Disc)),
    ("KFLR", style("#009e73", "4 2", Marker::Up)),
    ("KFRA", style("#aa4499", "10 3", Marker::Down)),
    ("Momentum", style("#000000", "", Marker::Square)),
    ("Adam", style("#7a7a7a", "", Marker::Disc)),
    ("SGD", style("#b0b0b0", "", Marker::Up)),
    ("EKFAC", style("#66ccee", "6 2 2 2", Marker::Diamond)),
    ("FOOF", style("#228833", "3 1.5", Marker::Down)),
    ("AdamW", style("#555555", "", Marker::Diamond)),
    ("Muon", style("#cc3311", "", Marker::Up)),
    ("SOAP", style("#225588", "", Marker::Down)),
    ("Shampoo", style("#887700", "", Marker::Diamond)),
];

/// For others, in turn.
const OTHERS: [Style; 8] = [
    style("#56b4e9", "5 2 1 2", Marker::Cross),
    style("#882255", "3 3", Marker::Square),
    style("#117733", "9 2 1 2 1 2", Marker::Up),
    style("#999933", "1.5 1.5", Marker::Diamond),
    style("#332288", "", Marker::Cross),
    style("#cc79a7", "6 2", Marker::Disc),
    style("#8b4513", "4 1.5 1 1.5", Marker::Down),
    style("#44aa99", "2 1", Marker::Square),
];

/// Colours that are too dark on black, and what takes their place there; figures' black, white and grey too.
const IN_THE_DARK: [(&str, &str); 15] = [
    ("#000", "#e6e6e6"),
    ("#fff", "#15181c"),
    ("#e4e4e4", "#363b42"),
    ("#999", "#80868e"),
    ("#000000", "#f4f4f4"),
    ("#7a7a7a", "#b0b0b0"),
    ("#b0b0b0", "#8a8a8a"),
    ("#555555", "#9c9c9c"),
    ("#0072b2", "#4fa8e0"),
    ("#aa4499", "#d982cb"),
    ("#225588", "#7fb2e8"),
    ("#882255", "#d1719f"),
    ("#117733", "#4cb573"),
    ("#332288", "#9d90e8"),
    ("#8b4513", "#cf9060"),
];

/// Rules of CSS that turn the colours of figures on a page where a reader wants it dark.
pub fn in_the_dark() -> String {
    let rule = |(light, dark): &(&str, &str)| {
        format!(
            "svg[fill=\"{light}\"], svg [fill=\"{light}\"] {{ fill: {dark}; }} svg [stroke=\"{light}\"] {{ stroke: {dark}; }}\n"
        )
    };
    let rules: String = IN_THE_DARK.iter().map(rule).collect();
    format!("@media screen and (prefers-color-scheme: dark) {{\n{rules}}}\n")
}

/// The looks of a study's optimizers, the same in all of its figures.
pub struct Looks {
    names: Vec<String>,
}

impl Looks {
    /// Those of everything that has curves or a grid.
    pub fn of(results: &Results) -> Self {
        let curves = results.curves.iter().map(|row| &row.optimizer);
        Looks { names: distinct(curves.chain(results.grid.iter().map(|row| &row.optimizer))) }
    }

    /// One optimizer's.
    pub fn style(&self, optimizer: &str) -> Style {
        let others = self.names.iter().filter(|name| KNOWN.iter().all(|(known, _)| known != name));
        of(optimizer, others.into_iter().position(|name| name == optimizer).unwrap_or(0))
    }
}

/// The looks of an optimizer; one that is not the program's own takes the `place`-th of further looks.
pub fn of(optimizer: &str, place: usize) -> Style {
    let known = KNOWN.iter().find(|(name, _)| *name == optimizer);
    known.map_or(OTHERS[place % OTHERS.len()], |(_, style)| *style)
}

impl Style {
    /// The attributes of its line.
    pub fn stroke(&self, width: f64) -> String {
        let dash = if self.dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", self.dash) };
        format!("stroke=\"{}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}", self.colour)
    }

    /// Draws its marker, filled or open.
    pub fn mark(&self, svg: &mut Svg, (x, y): (f64, f64), size: f64, filled: bool) {
        let fill = if filled { self.colour } else { "#fff" };
        let looks = format!("fill=\"{fill}\" stroke=\"{}\" stroke-width=\"1\"", self.colour);
        let r = size;
        match self.marker {
            Marker::Disc => svg.circle((x, y), r, &looks),
            Marker::Square => svg.rect([x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r], &looks),
            Marker::Up => svg.polygon(&[(x - r, y + 0.8 * r), (x + r, y + 0.8 * r), (x, y - r)], &looks),
            Marker::Down => svg.polygon(&[(x - r, y - 0.8 * r), (x + r, y - 0.8 * r), (x, y + r)], &looks),
            Marker::Diamond => svg.polygon(&[(x - r, y), (x, y - r), (x + r, y), (x, y + r)], &looks),
            Marker::Cross => {
                svg.line((x - r, y - r), (x + r, y + r), &looks);
                svg.line((x - r, y + r), (x + r, y - r), &looks);
            }
        }
    }
}
