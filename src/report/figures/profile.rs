//! Several problems in one figure: performance profiles, and ranks.

use super::super::axis::{Frame, LABEL_SIZE, Scale, TICK_SIZE};
use super::super::profile::{Cost, LARGEST_RATIO, Profile, Ranks, profiled, profiles, ranks as ranks_of};
use super::super::results::Results;
use super::super::style::Looks;
use super::super::svg::{Anchor, Svg, shortened, text_width};
use super::super::text;
use super::frames::Single;
use super::plot::{Datum, Figure, Line, Point, WIDTH};

/// The profile of steps or seconds; none without a target, or of one problem alone.
pub fn profile(results: &Results, cost: Cost) -> Option<Figure> {
    let profiles = profiles(results, cost);
    let looks = Looks::of(results);
    let line = |profile: &Profile| {
        let (name, style) = (profile.optimizer.clone(), looks.style(&profile.optimizer));
        Line { style, name, points: steps(profile), reference: Vec::new(), mark_all: false }
    };
    let lines: Vec<Line> = profiles.iter().map(line).collect();
    if lines.is_empty() {
        return None;
    }
    let (word, what) = match cost {
        Cost::Steps => ("steps", "steps relative to the fastest optimizer"),
        Cost::Seconds => ("seconds", "training time relative to the fastest optimizer"),
    };
    let [used, left_out] = profiled(results, cost);
    let left_out: Vec<&str> = left_out.iter().map(|problem| text::problem_title(problem)).collect();
    let left_out = match left_out.is_empty() {
        true => String::new(),
        false => format!(
            " Without {}, where the target was reached by half of no optimizer's seeds, or before training.",
            left_out.join(", ")
        ),
    };
    let means: Vec<String> = {
        let mut sorted: Vec<&Profile> = profiles.iter().collect();
        sorted.sort_by(|a, b| a.geometric_mean().total_cmp(&b.geometric_mean()));
        sorted.iter().map(|profile| format!("{} {:.2}", profile.optimizer, profile.geometric_mean())).collect()
    };
    let caption = format!(
        "Share of runs (each seed on each of {} problems) that reached the target within this multiple of the \
         {word} of the fastest optimizer, by its median on the problem. Geometric means, with a run beyond {LARGEST_RATIO} or \
         one that never got there counted as {LARGEST_RATIO}: {}.{left_out}",
        used.len(),
        means.join(", ")
    );
    Some(
        Single {
            kind: "profile",
            problem: None,
            stem: format!("profile_{word}"),
            title: format!("Performance profile of {word} to the target"),
            caption,
            lines,
            x: (Scale::linear(1.0, LARGEST_RATIO), what),
            y: (Scale::linear(0.0, 1.02), "share of runs".to_owned()),
            x_ticks: Vec::new(),
        }
        .draw(),
    )
}

/// The profile as a staircase.
fn steps(profile: &Profile) -> Vec<Point> {
    let mut points = Vec::new();
    let mut share = profile.share(1.0);
    points.push(Point::bare(1.0, share));
    for &ratio in profile.ratios.iter().filter(|ratio| (1.0..=LARGEST_RATIO).contains(*ratio)) {
        points.push(Point::bare(ratio, share));
        share = profile.share(ratio);
        points.push(Point::bare(ratio, share));
    }
    points.push(Point::bare(LARGEST_RATIO, share));
    points
}

// Ranks over several problems: a mark for each problem, a bar for the mean.

const ROW: f64 = 20.0;

/// The figure; none for fewer than two problems.
pub fn ranks(results: &Results) -> Option<Figure> {
    let ranks = ranks_of(results);
    let problems: Vec<&str> = ranks.first()?.ranks.iter().map(|(name, _)| text::problem_title(name)).collect();
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
