//! The grids of the damped optimizers: the selection metric over learning rate and damping, with the edge and the winner.

use super::super::axis::{Frame, LABEL_SIZE, Scale, TICK_SIZE};
use super::super::grid::{GridTable, Outcome, when};
use super::super::results::Results;
use super::super::svg::{Anchor, Svg, shortened, text_width};
use super::super::text;
use super::super::text::{capital, decades, metric_title};
use super::curves::MUCH_WIDER;
use super::plot::{Datum, Figure, WIDTH};
use crate::config::name::file_part;
use crate::digits::significant;

const PANEL: f64 = 172.0;
/// What is written on a cell keeps its colour where a page turns black and white round, so it is not quite either.
const DARK: &str = "#010101";
const LIGHT: &str = "#fefefe";
/// The size of values in cells.
const CELL_SIZE: f64 = 11.0;

/// The heat maps of a problem, one panel an optimizer with damping.
pub fn heat_maps(results: &Results, problem: &str) -> Option<Figure> {
    let metric = results.selection_metric();
    let tables: Vec<(String, GridTable)> = results
        .grid_optimizers(problem)
        .into_iter()
        .filter_map(|name| Some((name.clone(), GridTable::of(results, problem, &name)?)))
        // One setting is no grid.
        .filter(|(_, table)| !table.dampings.is_empty() && table.dampings.len() * table.learning_rates.len() > 1)
        .collect();
    let values: Vec<f64> = tables.iter().flat_map(|(_, table)| table.values()).collect();
    let seeds = tables.iter().map(|(_, table)| table.seeds).max()?;
    let colours = colours(&values, !metric.larger_is_better());
    let heights: Vec<f64> =
        tables.chunks(2).map(|row| row.iter().map(|(_, table)| height(table)).fold(0.0, f64::max)).collect();
    let body: f64 = heights.iter().map(|height| height + 68.0).sum();
    let percent = metric.larger_is_better();
    let unit = if percent { " in\u{a0}%" } else { "" };
    let beyond = match values.iter().any(|value| *value > colours.high) {
        true => " Losses beyond the range of the colours have the last one.",
        false => "",
    };
    let caption = format!(
        "{}. {}{unit} {}, n = {seeds} per setting. Star: the chosen setting. Outside the dashed line: the \
         grid's edge. Cross: diverged. Dot: no result.{beyond}",
        text::problem_title(problem),
        capital(metric_title(metric)),
        when(results, [problem])
    );
    let mut svg = Svg::new(WIDTH, body + 54.0);
    let mut y = 22.0;
    for (row, height) in tables.chunks(2).zip(&heights) {
        for (column, (name, table)) in row.iter().enumerate() {
            let corner = (52.0 + column as f64 * 226.0, y);
            // Bold letters are wider than those that widths are known of.
            let name = shortened(name, PANEL, 1.1 * LABEL_SIZE);
            let middle = (corner.0 + PANEL / 2.0, y - 6.0);
            svg.text(middle, LABEL_SIZE, Anchor::Middle, "font-weight=\"bold\"", &name);
            match table.is_scattered() {
                true => scatter(&mut svg, corner, PANEL, table, colours),
                false => panel(&mut svg, corner, table, colours, percent),
            }
        }
        y += height + 68.0;
    }
    if values.iter().any(|value| value.is_finite()) {
        let factor = if percent { 100.0 } else { 1.0 };
        let bar = Scale { low: factor * colours.low, high: factor * colours.high, ..colours };
        let log = if colours.log { " (log)" } else { "" };
        colour_bar(&mut svg, body + 6.0, bar, &format!("{}{unit}{log}", metric_title(metric)));
    }
    let title =
        format!("Grids on {}: {} over learning rate and damping", text::problem_title(problem), metric_title(metric));
    let data = tables.iter().flat_map(|(name, table)| data(name, table)).collect();
    let stem = format!("grid_{}", file_part(problem));
    let svg = svg.finish(&title, &caption);
    Some(Figure { kind: "grid", problem: Some(problem.to_owned()), stem, svg, title, caption, data })
}

/// What the colours stand for. Losses that are much worse than most have the last colour and say nothing of the range, since one
/// setting that is far off would leave all others one colour; over more than a decade colours go by the logarithm.
fn colours(values: &[f64], is_loss: bool) -> Scale {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let end = |values: &[f64]| values.last().copied().unwrap_or(f64::NAN);
    let (low, all) = (sorted.first().copied().unwrap_or(f64::NAN), end(&sorted));
    let most = end(&sorted[..(3 * sorted.len()).div_ceil(4)]);
    let is_far_off = is_loss && most > low && all - low > MUCH_WIDER * (most - low);
    let high = if is_far_off { most } else { all };
    match is_loss && low > 0.0 && high > 10.0 * low {
        true => Scale { low, high, log: true, whole: false },
        false if high > low => Scale::linear(low, high),
        // A single value has the upper end's colour.
        false => Scale::linear(low - 0.01 * low.abs().max(1e-9), low),
    }
}

/// A panel for each optimizer, a line for each damping.
fn data(name: &str, table: &GridTable) -> Vec<Datum> {
    let rows = table.dampings.iter().zip(&table.outcomes);
    let cells =
        rows.flat_map(|(damping, row)| table.learning_rates.iter().zip(row).map(move |(rate, at)| (damping, rate, at)));
    cells
        .filter_map(|(damping, rate, outcome)| match outcome {
            Outcome::Value(value) => Some(Datum {
                panel: name.to_owned(),
                line: format!("damping {damping}"),
                x: *rate,
                value: *value,
                lower: *value,
                upper: *value,
            }),
            _ => None,
        })
        .collect()
}

/// What each colour stands for.
fn colour_bar(svg: &mut Svg, y: f64, scale: Scale, title: &str) {
    const STEPS: usize = 64;
    let (left, width, height) = (130.0, WIDTH - 260.0, 10.0);
    for step in 0..STEPS {
        let place = step as f64 / STEPS as f64;
        // A little wider than its share, so that no gap is seen between two of them.
        let rect = [left + place * width, y, width / STEPS as f64 + 0.4, height];
        svg.rect(rect, &format!("fill=\"{}\"", colour((step as f64 + 0.5) / STEPS as f64)));
    }
    svg.rect([left, y, width, height], "fill=\"none\" stroke=\"#000\" stroke-width=\"0.8\"");
    for (value, text) in scale.ticks(4) {
        let x = left + width * scale.place(value);
        svg.line((x, y + height), (x, y + height + 3.0), "stroke=\"#000\" stroke-width=\"0.8\"");
        svg.text((x, y + height + 4.0 + TICK_SIZE), TICK_SIZE, Anchor::Middle, "", &text);
    }
    svg.text((left + width / 2.0, y + height + 7.0 + TICK_SIZE + LABEL_SIZE), LABEL_SIZE, Anchor::Middle, "", title);
}

/// The height of a panel.
fn height(table: &GridTable) -> f64 {
    if table.is_scattered() { PANEL } else { cell(table).1 * rows(table) }
}

fn rows(table: &GridTable) -> f64 {
    table.outcomes.len() as f64
}

/// The width and height of a cell.
fn cell(table: &GridTable) -> (f64, f64) {
    let width = PANEL / table.learning_rates.len() as f64;
    (width, width.min(24.0).max(PANEL / 2.0 / rows(table)).min(PANEL / rows(table)))
}

fn panel(svg: &mut Svg, (x, y): (f64, f64), table: &GridTable, colours: Scale, percent: bool) {
    let (width, height) = cell(table);
    let (columns, lines) = (table.learning_rates.len(), table.outcomes.len());
    let bottom = y + height * lines as f64;
    // Low damping below, as on a diagram's axis.
    let corner = |line: usize, column: usize| (x + width * column as f64, bottom - height * (line + 1) as f64);
    for (line, outcomes) in table.outcomes.iter().enumerate() {
        for (column, outcome) in outcomes.iter().enumerate() {
            let (left, top) = corner(line, column);
            let middle = (left + width / 2.0, top + height / 2.0 + 4.0);
            let chosen = table.winner == Some((line, column));
            let (fill, ink, text) = match outcome {
                Outcome::Value(value) => {
                    let place = colours.place(*value);
                    let shown = if percent { format!("{:.1}", value * 100.0) } else { significant(*value, 3) };
                    (colour(place), if place > 0.55 { DARK } else { LIGHT }, shown)
                }
                Outcome::Diverged => ("#e4e4e4".to_owned(), "#000", "×".to_owned()),
                Outcome::Missing => ("#fff".to_owned(), "#000", "·".to_owned()),
            };
            svg.rect([left, top, width, height], &format!("fill=\"{fill}\" stroke=\"#fff\" stroke-width=\"0.6\""));
            let ink = format!("fill=\"{ink}\"");
            let fits = text_width(&text, CELL_SIZE) + 2.0 < width && height > CELL_SIZE;
            if chosen {
                // Beside a value there is room in the corner alone.
                let (place, size) = if fits { ((left + 6.0, top + 8.5), 8.0) } else { (middle, CELL_SIZE) };
                svg.text(place, size, Anchor::Middle, &ink, "★");
            }
            if fits {
                let lower = if chosen { 2.5 } else { 0.0 };
                svg.text((middle.0, middle.1 + lower), CELL_SIZE, Anchor::Middle, &ink, &text);
            }
        }
    }
    inner_border(svg, table, (x, bottom), (width, height));
    if let Some((line, column)) = table.winner {
        let (left, top) = corner(line, column);
        svg.rect([left, top, width, height], "fill=\"none\" stroke=\"#fff\" stroke-width=\"3.6\"");
        svg.rect([left, top, width, height], "fill=\"none\" stroke=\"#d00000\" stroke-width=\"1.8\"");
    }
    let stride = |count: usize, room: f64| (count as f64 * room / PANEL).ceil().max(1.0) as usize;
    let rates = labels(&table.learning_rates).into_iter().enumerate();
    for (column, text) in rates.step_by(stride(columns, 34.0)) {
        let middle = x + width * (column as f64 + 0.5);
        svg.text((middle, bottom + 3.0 + TICK_SIZE), TICK_SIZE, Anchor::Middle, "", &text);
    }
    let dampings = labels(&table.dampings).into_iter().enumerate();
    for (line, text) in dampings.step_by((TICK_SIZE / height).ceil().max(1.0) as usize) {
        let middle = bottom - height * (line as f64 + 0.5) + 4.2;
        svg.text((x - 4.0, middle), TICK_SIZE, Anchor::End, "", &text);
    }
    svg.text((x + PANEL / 2.0, bottom + 33.0), LABEL_SIZE, Anchor::Middle, "", "learning rate α");
    svg.upright((x - 38.0, y + height * lines as f64 / 2.0), LABEL_SIZE, "damping λ");
}

/// The dashed border between the settings on the edge and those inside.
fn inner_border(svg: &mut Svg, table: &GridTable, (x, bottom): (f64, f64), (width, height): (f64, f64)) {
    let (columns, lines) = (table.learning_rates.len(), table.outcomes.len());
    let inner = |count: usize| if count > 1 { (1, count.saturating_sub(2)) } else { (0, count) };
    let ((first_column, wide), (first_line, tall)) = (inner(columns), inner(lines));
    if wide == 0 || tall == 0 {
        return;
    }
    let top = bottom - height * (first_line + tall) as f64;
    let border = [x + width * first_column as f64, top, width * wide as f64, height * tall as f64];
    svg.rect(border, "fill=\"none\" stroke=\"#fff\" stroke-width=\"2.2\"");
    svg.rect(border, "fill=\"none\" stroke=\"#000\" stroke-width=\"1.1\" stroke-dasharray=\"4 2.5\"");
}

/// What is written at an axis: powers of ten in one form, other values short.
fn labels(values: &[f64]) -> Vec<String> {
    let short = |value: &f64| {
        let text = significant(*value, 2);
        if text.len() > 5 { format!("{value:.0e}") } else { text }
    };
    decades(values).unwrap_or_else(|| values.iter().map(short).collect())
}

/// Draws settings that were drawn from ranges, as discs over learning rate and damping: a square panel of this side.
fn scatter(svg: &mut Svg, (x, y): (f64, f64), side: f64, table: &GridTable, colours: Scale) {
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
                    let place = colours.place(*value);
                    let ring = if chosen {
                        "stroke=\"#d00000\" stroke-width=\"2\""
                    } else {
                        "stroke=\"#000\" stroke-width=\"0.6\""
                    };
                    svg.circle(at, if chosen { 7.5 } else { 6.0 }, &format!("fill=\"{}\" {ring}", colour(place)));
                    if chosen {
                        // Within the frame, beyond which the next one's axis is written.
                        let is_at_the_end = at.0 + 8.5 + TICK_SIZE > x + side;
                        let (away, anchor) = if is_at_the_end { (-8.5, Anchor::End) } else { (8.5, Anchor::Start) };
                        svg.text((at.0 + away, at.1 - 4.0), TICK_SIZE, anchor, "fill=\"#d00000\"", "★");
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

/// Colours from low to high, from cividis (Nunez, Anderton, Renslow 2018), which colour-blind readers see alike.
const COLOURS: [[f64; 3]; 6] = [
    [0.0, 34.0, 78.0],
    [53.0, 69.0, 108.0],
    [102.0, 105.0, 112.0],
    [148.0, 142.0, 119.0],
    [200.0, 184.0, 102.0],
    [254.0, 232.0, 56.0],
];

/// The colour of a place from 0 to 1.
fn colour(place: f64) -> String {
    let place = place.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f64;
    let below = (place.floor() as usize).min(COLOURS.len() - 2);
    let part = place - below as f64;
    let mixed = |i: usize| (COLOURS[below][i] + (COLOURS[below + 1][i] - COLOURS[below][i]) * part).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mixed(0), mixed(1), mixed(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_setting_that_is_far_off_leaves_the_others_their_colours() {
        let far_off = colours(&[0.3, 20_000.0, 0.6, 1.2], true);
        assert!(!far_off.log && far_off.high == 1.2 && colour(far_off.place(20_000.0)) == colour(1.0));
        let decades = colours(&[0.3, 4.0, 30.0, 50.0], true);
        assert!(decades.log && decades.high == 50.0 && (decades.place(15f64.sqrt()) - 0.5).abs() < 1e-12);
        let close = colours(&[0.3, 0.6, 1.2], true);
        assert!(!close.log && (close.place(0.75) - 0.5).abs() < 1e-12);
        let accuracies = colours(&[0.9, 0.01, 0.9, 0.9], false);
        assert!(!accuracies.log && accuracies.low == 0.01 && !colours(&[0.0, 5.0], true).log);
        let single = colours(&[0.5, 0.5], false);
        assert!((single.place(0.5) - 1.0).abs() < 1e-9 && single.low > 0.49);
        let infinite = colours(&[0.3, f64::INFINITY, 0.6], true);
        assert_eq!((infinite.low, infinite.high), (0.3, 0.6));
    }
}
