//! Ranks over several problems: a mark for each problem, a bar for the mean.

use super::super::axis::{Frame, LABEL_SIZE, Scale, TICK_SIZE};
use super::super::font::text_width;
use super::super::problem;
use super::super::profile::{Ranks, ranks as ranks_of};
use super::super::results::Results;
use super::super::style::Looks;
use super::super::svg::{Anchor, Svg, shortened};
use super::figure::{Datum, Figure, WIDTH};

const ROW: f64 = 20.0;

/// The figure; none for fewer than two problems.
pub fn ranks(results: &Results) -> Option<Figure> {
    let ranks = ranks_of(results);
    let problems: Vec<&str> = ranks.first()?.ranks.iter().map(|(name, _)| problem::title(name)).collect();
    let name = |ranks: &Ranks| shortened(&ranks.optimizer, WIDTH / 3.0, LABEL_SIZE);
    let left = 16.0 + ranks.iter().map(|ranks| text_width(&name(ranks), LABEL_SIZE)).fold(40.0, f64::max);
    let height = ROW * ranks.len() as f64;
    let horizontal = Scale::linear(0.6, ranks.len() as f64 + 0.4).whole();
    let vertical = Scale::linear(0.0, 1.0);
    let frame = Frame { x: left, y: 8.0, width: WIDTH - left - 52.0, height, horizontal, vertical };
    let mut svg = Svg::new(WIDTH, height + 50.0);
    for (value, text) in frame.horizontal_ticks() {
        let (x, _) = frame.at(value, 0.0);
        svg.line((x, frame.y), (x, frame.y + height), "stroke=\"#e4e4e4\" stroke-width=\"0.7\"");
        svg.text((x, frame.y + height + 4.0 + TICK_SIZE), TICK_SIZE, Anchor::Middle, "", &text);
    }
    svg.rect(frame.rectangle(), "fill=\"none\" stroke=\"#000\" stroke-width=\"0.8\"");
    let looks = Looks::of(results);
    for (place, own) in ranks.iter().enumerate() {
        let y = frame.y + ROW * (place as f64 + 0.5);
        svg.text((left - 6.0, y + 0.36 * LABEL_SIZE), LABEL_SIZE, Anchor::End, "", &name(own));
        let x = |rank: f64| frame.at(rank, 0.0).0;
        let all = || own.ranks.iter().map(|(_, rank)| x(*rank));
        let ends = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        svg.line((ends.0, y), (ends.1, y), "stroke=\"#999\" stroke-width=\"1\"");
        let style = looks.style(&own.optimizer);
        for (_, rank) in &own.ranks {
            style.mark(&mut svg, (x(*rank), y), 3.4, false);
        }
        let mean = x(own.mean());
        svg.line((mean, y - 7.0), (mean, y + 7.0), &format!("stroke=\"{}\" stroke-width=\"3\"", style.colour));
        let text = (frame.x + frame.width + 6.0, y + 0.36 * TICK_SIZE);
        svg.text(text, TICK_SIZE, Anchor::Start, "", &format!("{:.2}", own.mean()));
    }
    let middle = frame.x + frame.width / 2.0;
    svg.text((middle, frame.y + height + 36.0), LABEL_SIZE, Anchor::Middle, "", "rank (1 is best)");
    let caption = format!(
        "Ranks by median test accuracy over seeds at the last epoch (test loss where there is no accuracy). Marks: \
         {}. Bar and number: the mean rank.",
        problems.join("; ")
    );
    let title = format!("Ranks over {} problems", problems.len());
    let datum = |own: &Ranks, (name, rank): &(String, f64)| Datum {
        panel: name.clone(),
        line: own.optimizer.clone(),
        x: *rank,
        value: own.mean(),
        lower: *rank,
        upper: *rank,
    };
    let data = ranks.iter().flat_map(|own| own.ranks.iter().map(move |rank| datum(own, rank))).collect();
    let svg = svg.finish(&title, &caption);
    Some(Figure { kind: "ranks", problem: None, stem: "ranks".to_owned(), title, caption, svg, data })
}
