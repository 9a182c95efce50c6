//! Performance profiles: the share of runs on all problems that reached their target within so many times what the fastest
//! optimizer took.

use super::super::axis::Scale;
use super::super::problem;
use super::super::profile::{Cost, LARGEST_RATIO, Profile, profiled, profiles};
use super::super::results::Results;
use super::super::style::Looks;
use super::figure::Figure;
use super::plot::{Line, Point};
use super::single::Single;

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
    let left_out: Vec<&str> = left_out.iter().map(|problem| problem::title(problem)).collect();
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
