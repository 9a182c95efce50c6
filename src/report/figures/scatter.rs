//! Settings drawn from ranges, as discs over learning rate and damping: a panel of the grids' figure.

use super::super::axis::{Frame, LABEL_SIZE, Scale, TICK_SIZE};
use super::super::grid::{GridTable, Outcome};
use super::super::svg::{Anchor, Svg};
use super::colours::colour;

/// Draws a square panel of this side; `low` and `high` are the ends of the colours.
pub fn panel(svg: &mut Svg, (x, y): (f64, f64), side: f64, table: &GridTable, (low, high): (f64, f64)) {
    let scale = |values: &[f64]| Scale::of(values.iter().copied(), true);
    let (horizontal, vertical) = (scale(&table.learning_rates), scale(&table.dampings));
    let frame = Frame { x, y, width: side, height: side, horizontal, vertical };
    frame.draw_axes(svg, "", "");
    svg.text((x + side / 2.0, y + side + 33.0), LABEL_SIZE, Anchor::Middle, "", "learning rate α");
    svg.upright((x - 38.0, y + side / 2.0), LABEL_SIZE, "damping λ");
    for (line, (damping, outcomes)) in table.dampings.iter().zip(&table.outcomes).enumerate() {
        for (column, (rate, outcome)) in table.learning_rates.iter().zip(outcomes).enumerate() {
            let at = frame.at(*rate, *damping);
            let chosen = table.winner == Some((line, column));
            match outcome {
                Outcome::Value(value) => {
                    let place = if high > low { (value - low) / (high - low) } else { 1.0 };
                    let ring = if chosen {
                        "stroke=\"#d00000\" stroke-width=\"2\""
                    } else {
                        "stroke=\"#000\" stroke-width=\"0.6\""
                    };
                    svg.circle(at, if chosen { 7.5 } else { 6.0 }, &format!("fill=\"{}\" {ring}", colour(place)));
                    if chosen {
                        svg.text((at.0 + 8.5, at.1 - 4.0), TICK_SIZE, Anchor::Start, "fill=\"#d00000\"", "★");
                    }
                }
                Outcome::Diverged => {
                    svg.text((at.0, at.1 + 0.36 * TICK_SIZE), TICK_SIZE, Anchor::Middle, "", "×");
                }
                Outcome::Missing => {}
            }
        }
    }
}
