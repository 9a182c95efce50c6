//! What a problem's pairs come to in words: who leads, by how much, and what these seeds could have shown.

use super::evidence::{Comparison, LEVEL, Leader, signed};
use super::statistics::pairs_needed;
use super::text;
use super::text::{capital, cell, metric_title, number_word, p_value, plain};
use crate::statistics::median;

/// More undecided pairs than are told of one by one; the page's matrix and evidence.csv have them all.
const MANY: usize = 3;

/// "A", "A and B", "A, B and C".
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// What is said of the leader, a sentence each.
pub fn sentences(leader: &Leader) -> Vec<String> {
    let Leader { problem, metric, optimizer, median: value, pairs } = leader;
    let best = if metric.larger_is_better() { "highest" } else { "lowest" };
    let mut sentences = vec![format!(
        "{}: {optimizer} has the {best} median {}, {}.",
        text::problem_title(problem),
        metric_title(*metric),
        cell(*value)
    )];
    let clear: Vec<&Comparison> = pairs.iter().filter(|pair| pair.is_clear()).collect();
    let undecided: Vec<&Comparison> = pairs.iter().filter(|pair| !pair.is_clear()).collect();
    let names = |pairs: &[&Comparison]| listed(&pairs.iter().map(|pair| pair.second.as_str()).collect::<Vec<_>>());
    if let Some(nearest) = clear.iter().min_by(|a, b| a.lead().total_cmp(&b.lead())) {
        let of = if clear.len() > 1 {
            format!("; the smallest lead is {} over {}", lead(nearest), nearest.second)
        } else {
            format!(", by {}", lead(nearest))
        };
        sentences.push(format!("It is clearly better than {}{of}.", names(&clear)));
    }
    let seeds = pairs.iter().map(|pair| pair.n).min().unwrap_or(0);
    let needed = pairs.iter().map(|pair| pairs_needed(pair.pairs, LEVEL)).max().unwrap_or(0);
    let decidable = pairs.iter().all(|pair| pair.interval.is_some());
    if !undecided.is_empty() && decidable {
        sentences.push(format!("These seeds do not tell it from {}.", names(&undecided)));
    }
    if !decidable {
        sentences.push(match undecided.len() {
            0..=MANY => {
                let each: Vec<String> = undecided.iter().map(|pair| ahead(pair)).collect();
                format!("It was ahead {}.", each.join("; "))
            }
            many => format!("It was ahead of each of the {} others {}.", number_word(many), in_how_many(&undecided)),
        });
        sentences.push(format!(
            "{} {} cannot decide between this many optimizers, whatever the difference; that takes {}.",
            capital(&number_word(seeds)),
            if seeds == 1 { "seed" } else { "seeds" },
            number_word(needed)
        ));
    }
    sentences
}

/// "in two to five of five seeds", for pairs of equally many seeds.
fn in_how_many(pairs: &[&Comparison]) -> String {
    let wins = || pairs.iter().map(|pair| pair.wins);
    let (least, most) = (wins().min().unwrap_or(0), wins().max().unwrap_or(0));
    let seeds = pairs.iter().map(|pair| pair.n).max().unwrap_or(0);
    let wins =
        if least == most { number_word(most) } else { format!("{} to {}", number_word(least), number_word(most)) };
    format!("in {wins} of {} {}", number_word(seeds), if seeds == 1 { "seed" } else { "seeds" })
}

/// "0.0018 (interval 0.0014 to 0.0021, corrected p = 0.041)".
fn lead(pair: &Comparison) -> String {
    let interval = pair.interval.map_or_else(String::new, |[low, high]| {
        let ends = if pair.metric.larger_is_better() { [low, high] } else { [0.0 - high, 0.0 - low] };
        format!("interval {} to {}, ", plain(ends[0]), plain(ends[1]))
    });
    format!("{} ({interval}corrected p {})", plain(pair.lead()), p_value(pair.p_holm))
}

/// "of Adam in two of three seeds, by -0.01 to 0.02".
fn ahead(pair: &Comparison) -> String {
    let sign = if pair.metric.larger_is_better() { 1.0 } else { -1.0 };
    let [low, high] = pair.range.map(|end| sign * end + 0.0);
    let (low, high) = (low.min(high), low.max(high));
    format!(
        "of {} in {} of {} {}, by {} to {}",
        pair.second,
        number_word(pair.wins),
        number_word(pair.n),
        if pair.n == 1 { "seed" } else { "seeds" },
        signed(low),
        signed(high)
    )
}

/// The smallest difference that a problem's seeds would have shown in four of five cases, the median over its pairs on
/// this leader's metric; nothing where they could not have shown any.
pub fn detectable(comparisons: &[Comparison], leader: &Leader) -> Option<String> {
    let here = comparisons.iter().filter(|pair| pair.problem == leader.problem && pair.metric == leader.metric);
    let values: Vec<f64> = here.filter_map(|pair| pair.detectable).collect();
    let value = median(&values);
    value.is_finite().then(|| {
        format!(
            "These seeds would detect a difference in {} of {} or more four times out of five (median over pairs).",
            metric_title(leader.metric),
            plain(value)
        )
    })
}
