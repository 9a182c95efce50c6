//! What the lines of a figure stand for.

use super::super::axis::LABEL_SIZE;
use super::super::font::text_width;
use super::super::style::Style;
use super::super::svg::{Anchor, Svg, shortened};

const SAMPLE: f64 = 28.0;
const ROW: f64 = 18.0;
/// What an entry takes beside its name.
const BESIDE: f64 = SAMPLE + 6.0 + 12.0;

/// The rows into which entries fall, as the places of their entries.
fn rows(names: &[&str], width: f64) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = vec![Vec::new()];
    let mut used = 0.0;
    for (i, name) in names.iter().enumerate() {
        let own = entry_width(&shown(name, width));
        if used + own > width && !rows.last().is_some_and(Vec::is_empty) {
            rows.push(Vec::new());
            used = 0.0;
        }
        used += own;
        if let Some(row) = rows.last_mut() {
            row.push(i);
        }
    }
    rows
}

fn entry_width(name: &str) -> f64 {
    BESIDE + text_width(name, LABEL_SIZE)
}

/// A name as there is room for it.
fn shown(name: &str, width: f64) -> String {
    shortened(name, width - BESIDE, LABEL_SIZE)
}

/// The height of a legend.
pub fn height(names: &[&str], width: f64) -> f64 {
    rows(names, width).len() as f64 * ROW + 4.0
}

/// Draws the legend from `(x, y)` down.
pub fn draw(svg: &mut Svg, (x, y): (f64, f64), width: f64, entries: &[(&str, Style)]) {
    let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
    let mut row_y = y + ROW / 2.0;
    for row in rows(&names, width) {
        let mut left = x;
        for i in row {
            let (name, style) = (shown(entries[i].0, width), entries[i].1);
            svg.line((left, row_y), (left + SAMPLE, row_y), &style.stroke(1.8));
            style.mark(svg, (left + SAMPLE / 2.0, row_y), 3.0, true);
            svg.text((left + SAMPLE + 6.0, row_y + 4.0), LABEL_SIZE, Anchor::Start, "", &name);
            left += entry_width(&name);
        }
        row_y += ROW;
    }
}
