//! Names of lines: beside their ends, where there is room for them, or in a legend.

use super::plot::Line;
use crate::config::name::file_part;
use crate::report::axis::{Frame, LABEL_SIZE};
use crate::report::escape::visible;
use crate::report::style::Style;
use crate::report::svg::{Anchor, Svg, shortened, text_width};

// Names of lines beside their ends, which spare the reader a legend where there is room for them.

/// From one name to the next, at least.
const ROW: f64 = LABEL_SIZE + 0.5;
/// The piece of line before a name.
const SAMPLE: f64 = 16.0;
/// What a name takes beside its letters.
const BESIDE: f64 = 10.0 + SAMPLE + 5.0 + 4.0;
/// The widest names for which there is room.
const WIDEST: f64 = 104.0;

/// The room that the names take to the right of a frame of this height; none where they do not fit.
pub fn labels_width(lines: &[Line], height: f64) -> Option<f64> {
    let widest = lines.iter().map(|line| text_width(&visible(&line.name), LABEL_SIZE)).fold(0.0, f64::max);
    (lines.len() as f64 * ROW <= height + ROW && widest <= WIDEST).then_some(widest + BESIDE)
}

/// Draws each line's name beside its last point within the frame, in the order of these points.
pub fn draw_labels(svg: &mut Svg, frame: &Frame, lines: &[Line]) {
    let end = |line: &Line| {
        let last = line.points.iter().rev().find(|point| point.x.is_finite() && point.y.is_finite())?;
        let (x, y) = frame.at(last.x, last.y);
        Some((x.min(frame.x + frame.width), y.clamp(frame.y, frame.y + frame.height)))
    };
    let mut ends: Vec<(&Line, (f64, f64))> = lines.iter().filter_map(|line| Some((line, end(line)?))).collect();
    ends.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
    let places = spread(&ends.iter().map(|(_, (_, y))| *y).collect::<Vec<_>>(), frame);
    let right = frame.x + frame.width;
    for ((line, (x, y)), place) in ends.into_iter().zip(places) {
        svg.open(&format!("class=\"series\" data-optimizer=\"{}\"", file_part(&line.name)));
        let start = right + 10.0;
        if (x - right).abs() < 0.1 * frame.width {
            svg.line((right + 1.0, y), (start, place), "stroke=\"#999\" stroke-width=\"0.7\"");
        }
        svg.line((start, place), (start + SAMPLE, place), &line.style.stroke(1.8));
        line.style.mark(svg, (start + SAMPLE / 2.0, place), 2.8, true);
        let text = (start + SAMPLE + 5.0, place + 0.36 * LABEL_SIZE);
        svg.text(text, LABEL_SIZE, Anchor::Start, "", &line.name);
        svg.close();
    }
}

/// Heights, ascending, moved apart by [`ROW`] and kept within the frame.
fn spread(heights: &[f64], frame: &Frame) -> Vec<f64> {
    let mut places = heights.to_vec();
    let bottom = frame.y + frame.height + 0.3 * ROW;
    for i in 1..places.len() {
        places[i] = places[i].max(places[i - 1] + ROW);
    }
    let mut limit = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - ROW;
    }
    places
}

// What the lines of a figure stand for.

const LEGEND_SAMPLE: f64 = 28.0;
const LEGEND_ROW: f64 = 18.0;
/// What an entry takes beside its name.
const LEGEND_BESIDE: f64 = LEGEND_SAMPLE + 6.0 + 12.0;

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
    LEGEND_BESIDE + text_width(name, LABEL_SIZE)
}

/// A name as there is room for it.
fn shown(name: &str, width: f64) -> String {
    shortened(name, width - LEGEND_BESIDE, LABEL_SIZE)
}

/// The height of a legend.
pub fn legend_height(names: &[&str], width: f64) -> f64 {
    rows(names, width).len() as f64 * LEGEND_ROW + 4.0
}

/// Draws the legend from `(x, y)` down.
pub fn draw_legend(svg: &mut Svg, (x, y): (f64, f64), width: f64, entries: &[(&str, Style)]) {
    let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
    let mut row_y = y + LEGEND_ROW / 2.0;
    for row in rows(&names, width) {
        let mut left = x;
        for i in row {
            let (name, style) = (shown(entries[i].0, width), entries[i].1);
            svg.line((left, row_y), (left + LEGEND_SAMPLE, row_y), &style.stroke(1.8));
            style.mark(svg, (left + LEGEND_SAMPLE / 2.0, row_y), 3.0, true);
            svg.text((left + LEGEND_SAMPLE + 6.0, row_y + 4.0), LABEL_SIZE, Anchor::Start, "", &name);
            left += entry_width(&name);
        }
        row_y += LEGEND_ROW;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::axis::Scale;

    #[test]
    fn names_keep_apart_and_near_their_ends() {
        let unit = Scale::linear(0.0, 1.0);
        let frame = Frame { x: 0.0, y: 0.0, width: 100.0, height: 100.0, horizontal: unit, vertical: unit };
        assert_eq!(spread(&[10.0, 50.0, 90.0], &frame), [10.0, 50.0, 90.0]);
        let crowded = spread(&[50.0, 51.0, 100.0, 100.0], &frame);
        assert!(crowded.windows(2).all(|pair| pair[1] - pair[0] >= ROW - 1e-9), "{crowded:?}");
        assert!(crowded[3] <= 100.0 + 0.3 * ROW + 1e-9 && crowded[0] == 50.0, "{crowded:?}");
    }
}
