//! Writes SVG: shapes, and text in a font that every part of the report has and whose widths are known. No layout; see
//! axis.rs and figures/.

use std::fmt::Write;
use std::sync::LazyLock;

use ttf_parser::Face;

use super::escape::{markup, visible};

/// The font of figures; others stand in where a browser lacks it.
pub const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

/// A figure under construction; lengths are CSS pixels.
#[derive(Debug)]
pub struct Svg {
    /// The width.
    pub width: f64,
    /// The height.
    pub height: f64,
    body: String,
    clips: usize,
}

/// Where a text's point lies in it.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// At its left.
    Start,
    /// In its middle.
    Middle,
    /// At its right.
    End,
}

impl Svg {
    /// An empty figure.
    pub fn new(width: f64, height: f64) -> Self {
        Svg { width, height, body: String::new(), clips: 0 }
    }

    /// Opens a group with attributes as they stand in the file.
    pub fn open(&mut self, attributes: &str) {
        let _ = writeln!(self.body, "<g {attributes}>");
    }

    /// Closes the group opened last.
    pub fn close(&mut self) {
        self.body.push_str("</g>\n");
    }

    /// Opens a group of which only what lies in the rectangle is seen; `id` must be the page's own.
    pub fn open_clipped(&mut self, id: &str, [x, y, width, height]: [f64; 4]) {
        self.clips += 1;
        let id = format!("{id}-{}", self.clips);
        let _ = write!(
            self.body,
            "<clipPath id=\"{id}\"><rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\"/></clipPath>\
             <g clip-path=\"url(#{id})\">"
        );
    }

    /// A rectangle; none where it has no area.
    pub fn rect(&mut self, [x, y, width, height]: [f64; 4], style: &str) {
        if ![x, y, width, height].iter().all(|length| length.is_finite()) || width < 0.005 || height < 0.005 {
            return;
        }
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" {style}/>"
        );
    }

    /// A straight line; none where it has no length, as a stroke of no length cannot be drawn.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(|place| format!("{place:.2}"));
        if [from, to].into_iter().all(is_place) && (&x1, &y1) != (&x2, &y2) {
            let _ = writeln!(self.body, "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" {style}/>");
        }
    }

    /// A line through points; none where they are all the same.
    pub fn polyline(&mut self, points: &[(f64, f64)], style: &str) {
        let places = points.iter().filter(|point| is_place(**point));
        let mut points: Vec<String> = places.map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
        points.dedup();
        if points.len() < 2 {
            return;
        }
        let _ = writeln!(self.body, "<polyline points=\"{}\" fill=\"none\" {style}/>", points.join(" "));
    }

    /// A filled area between points, three or more.
    pub fn polygon(&mut self, points: &[(f64, f64)], style: &str) {
        if points.len() < 3 || !points.iter().all(|point| is_place(*point)) {
            return;
        }
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
        let _ = writeln!(self.body, "<polygon points=\"{}\" {style}/>", points.join(" "));
    }

    /// A circle.
    pub fn circle(&mut self, (x, y): (f64, f64), radius: f64, style: &str) {
        let _ = writeln!(self.body, "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius:.2}\" {style}/>");
    }

    /// A text on the line through `(x, y)`, which is its baseline.
    pub fn text(&mut self, (x, y): (f64, f64), size: f64, anchor: Anchor, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.2}\" y=\"{y:.2}\" font-size=\"{size}\" text-anchor=\"{anchor}\" {style}>{}</text>",
            markup(text)
        );
    }

    /// A text that runs upwards, its middle at `(x, y)`.
    pub fn upright(&mut self, (x, y): (f64, f64), size: f64, text: &str) {
        self.text((x, y), size, Anchor::Middle, &format!("transform=\"rotate(-90 {x:.2} {y:.2})\""), text);
    }

    /// The file's text. `title` and `description` are for readers who hear the figure.
    pub fn finish(self, title: &str, description: &str) -> String {
        let Svg { width, height, body, .. } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\" font-family=\"{FONT}\" fill=\"#000\">\n<title>{}</title>\n\
             <desc>{}</desc>\n<rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#fff\"/>\n{body}</svg>\n",
            markup(title),
            markup(description)
        )
    }
}

fn is_place((x, y): (f64, f64)) -> bool {
    x.is_finite() && y.is_finite()
}

/// A name as it is seen, no wider than `width`: of a longer one the beginning and the end.
pub fn shortened(name: &str, width: f64, size: f64) -> String {
    let name = visible(name);
    if text_width(&name, size) <= width {
        return name;
    }
    let letters: Vec<char> = name.chars().collect();
    let cut = |kept: usize| -> String {
        let (first, last) = (kept.div_ceil(2), kept / 2);
        letters[..first].iter().chain(&['…']).chain(&letters[letters.len() - last..]).collect()
    };
    (0..letters.len()).rev().map(cut).find(|cut| text_width(cut, size) <= width).unwrap_or_default()
}

// How wide a text is in the report's font, by the font's own metrics.

static FACE: LazyLock<Face<'static>> =
    LazyLock::new(|| Face::parse(dejavu::sans::regular(), 0).expect("the font that is built in is well-formed"));

/// The width of a text of this size, in the size's unit.
pub fn text_width(text: &str, size: f64) -> f64 {
    // A letter that the font lacks is drawn as a box, which is its first glyph.
    let advance = |letter| FACE.glyph_hor_advance(FACE.glyph_index(letter).unwrap_or_default()).unwrap_or(0);
    let units: f64 = text.chars().map(|letter| f64::from(advance(letter))).sum();
    units * size / f64::from(FACE.units_per_em())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_extent_is_not_drawn() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.line((1.0, 2.0), (1.001, 2.0), "");
        svg.line((1.0, f64::NAN), (3.0, 2.0), "");
        svg.polyline(&[(1.0, 2.0), (1.0, 2.0)], "");
        svg.polyline(&[(1.0, 2.0)], "");
        svg.polygon(&[(1.0, 2.0), (3.0, f64::INFINITY), (1.0, 3.0)], "");
        svg.rect([0.0, 0.0, 0.0, 4.0], "");
        assert_eq!(svg.body, "");
        svg.line((1.0, 2.0), (1.0, 3.0), "");
        svg.polyline(&[(1.0, 2.0), (1.0, 2.0), (4.0, f64::NAN), (5.0, 2.0)], "");
        assert_eq!(svg.body.lines().count(), 2);
        assert!(svg.body.contains("points=\"1.00,2.00 5.00,2.00\""), "{}", svg.body);
    }

    /// Advances of DejaVu Sans: W 2025, i 569, of 2048.
    #[test]
    fn widths_are_the_fonts_own() {
        assert!((text_width("W", 2048.0) - 2025.0).abs() < 1e-9);
        assert!((text_width("ii", 2048.0) - 1138.0).abs() < 1e-9);
        assert!(text_width("\u{7db2}", 12.0) > 0.0);
        assert_eq!(text_width("", 12.0), 0.0);
    }
}
