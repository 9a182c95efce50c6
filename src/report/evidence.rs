//! How sure the differences between optimizers are: paired over seeds, with an interval and a test for each pair.

use super::results::{Results, SeedRow, distinct};
use super::statistics::{bootstrap_interval, holm, mean, sign_flip_test};
use super::text::{number_word, p_value, plain};
use crate::error::Result;
use crate::study::experiment::Metric;
use crate::table::csv;

/// The metrics that are compared.
pub const COMPARED: [Metric; 2] = [Metric::TestAccuracies, Metric::TestLosses];

/// The share of cases that an interval is made to cover.
const LEVEL: f64 = 0.95;

/// One pair of optimizers on one metric at the last epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The problem's name.
    pub problem: String,
    /// What is compared.
    pub metric: Metric,
    /// The optimizer whose values are taken.
    pub first: String,
    /// The optimizer whose values are subtracted.
    pub second: String,
    /// The epoch of the values.
    pub epoch: usize,
    /// Seeds that both have.
    pub n: usize,
    /// The mean over seeds of the first's value less the second's.
    pub difference: f64,
    /// The lower end of its 95 % bootstrap interval.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
    /// Two-sided p of the sign-flip permutation test.
    pub p: f64,
    /// The same after Holm's correction for all pairs of the problem on this metric.
    pub p_holm: f64,
    /// Pairs that the correction is for.
    pub pairs: usize,
    /// Seeds in which the first is better.
    pub wins: usize,
}

/// All pairs on all problems, in the order in which the optimizers occur.
pub fn evidence(results: &Results) -> Vec<Comparison> {
    let fill = results.meta["diverged"].as_str() != Some("drop");
    let mut all = Vec::new();
    for problem in distinct(results.seeds.iter().map(|row| &row.problem)) {
        let rows: Vec<&SeedRow> = results.seeds.iter().filter(|row| row.problem == problem).collect();
        let epoch = rows.iter().filter(|row| row.status == "done").map(|row| row.epoch).max().unwrap_or(0);
        for metric in COMPARED {
            let finals: Vec<(String, Vec<(u64, f64)>)> = distinct(rows.iter().map(|row| &row.optimizer))
                .into_iter()
                .map(|optimizer| {
                    let values = last_values(&rows, &optimizer, metric, epoch, fill);
                    (optimizer, values)
                })
                .collect();
            let mut family = Vec::new();
            for (place, first) in finals.iter().enumerate() {
                for second in &finals[place + 1..] {
                    family.extend(compare(&problem, metric, epoch, first, second));
                }
            }
            let corrected = holm(&family.iter().map(|pair| pair.p).collect::<Vec<_>>());
            let pairs = family.len();
            for (pair, p_holm) in family.iter_mut().zip(corrected) {
                (pair.p_holm, pair.pairs) = (p_holm, pairs);
            }
            all.extend(family);
        }
    }
    all
}

/// Each finished seed's value at `epoch`; of a diverged one, that before training where such runs are filled.
fn last_values(rows: &[&SeedRow], optimizer: &str, metric: Metric, epoch: usize, fill: bool) -> Vec<(u64, f64)> {
    let wanted = |row: &&&SeedRow| {
        row.optimizer == optimizer
            && match row.status.as_str() {
                "done" => row.epoch == epoch,
                "diverged" => fill && row.epoch == 0,
                _ => false,
            }
    };
    rows.iter().filter(wanted).filter_map(|row| Some((row.seed, row.get(metric)?))).collect()
}

type Finals = (String, Vec<(u64, f64)>);

fn compare(problem: &str, metric: Metric, epoch: usize, first: &Finals, second: &Finals) -> Option<Comparison> {
    let partner = |seed: u64| second.1.iter().find(|(other, _)| *other == seed).map(|(_, value)| *value);
    let differences: Vec<f64> =
        first.1.iter().filter_map(|(seed, value)| Some(value - partner(*seed)?)).filter(|d| d.is_finite()).collect();
    if differences.is_empty() {
        return None;
    }
    // Any fixed number would do; it is the same for every pair, so a pair's interval does not depend on the others.
    let seed = 0;
    let (lower, upper) = bootstrap_interval(&differences, LEVEL, seed);
    let better = |d: &&f64| if metric.larger_is_better() { **d > 0.0 } else { **d < 0.0 };
    Some(Comparison {
        problem: problem.to_owned(),
        metric,
        first: first.0.clone(),
        second: second.0.clone(),
        epoch,
        n: differences.len(),
        difference: mean(&differences),
        lower,
        upper,
        p: sign_flip_test(&differences, seed),
        p_holm: 1.0,
        pairs: 1,
        wins: differences.iter().filter(better).count(),
    })
}

impl Comparison {
    /// Whether an optimizer is one of the two.
    fn is_of(&self, optimizer: &str) -> bool {
        self.first == optimizer || self.second == optimizer
    }

    /// By how much an optimizer of the two is better than the other.
    fn lead(&self, optimizer: &str) -> f64 {
        let of_first = if self.metric.larger_is_better() { self.difference } else { -self.difference };
        if self.first == optimizer { of_first } else { -of_first }
    }

    /// The comparison in plain words.
    pub fn sentence(&self) -> String {
        self.sentence_from(&self.first)
    }

    /// The same, told from the side of one of the two.
    pub fn sentence_from(&self, optimizer: &str) -> String {
        if self.first == optimizer {
            return self.words((&self.first, &self.second), self.difference, (self.lower, self.upper));
        }
        self.words((&self.second, &self.first), -self.difference, (-self.upper, -self.lower))
    }

    fn words(&self, (first, second): (&str, &str), difference: f64, (lower, upper): (f64, f64)) -> String {
        let metric = match self.metric {
            Metric::TestAccuracies => "test accuracy",
            _ => "test loss",
        };
        let seeds = format!("{} {}", number_word(self.n), if self.n == 1 { "seed" } else { "seeds" });
        let size = plain(difference.abs());
        if self.n < 2 {
            let side = if difference >= 0.0 { "above" } else { "below" };
            return format!("{first} {side} {second} on {metric} by {size} with one seed, which is no evidence.");
        }
        let interval = format!("95 % interval {} to {}", plain(lower), plain(upper));
        let test = format!(
            "p {}, after Holm's correction for {} {} {}",
            p_value(self.p),
            number_word(self.pairs),
            if self.pairs == 1 { "pair" } else { "pairs" },
            p_value(self.p_holm)
        );
        if self.p_holm <= 0.05 {
            let side = if difference > 0.0 { "above" } else { "below" };
            return format!("{first} {side} {second} on {metric} by {size}: {seeds}, {interval}, {test}.");
        }
        let mut text = format!(
            "No clear difference between {first} and {second} on {metric} ({}): {seeds}, {interval}, {test}.",
            signed(difference)
        );
        let smallest = (2.0 / 2f64.powi(self.n.min(1000) as i32) * self.pairs as f64).min(1.0);
        if smallest > 0.05 {
            text.push_str(" So few seeds cannot give a clear one.");
        }
        text
    }
}

/// What a problem's pairs come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Leader<'a> {
    /// The problem's name.
    pub problem: &'a str,
    /// The optimizer with the highest mean test accuracy at the last epoch: the largest mean lead over the others.
    pub optimizer: &'a str,
    /// Its comparison with each of them on test accuracy.
    pub pairs: Vec<&'a Comparison>,
}

/// The best optimizer of each problem by test accuracy at the last epoch, and how sure that is.
pub fn leaders(comparisons: &[Comparison]) -> Vec<Leader<'_>> {
    let accuracies = || comparisons.iter().filter(|pair| pair.metric == Metric::TestAccuracies);
    let mut leaders: Vec<Leader> = Vec::new();
    for Comparison { problem, .. } in accuracies() {
        if leaders.iter().any(|leader| leader.problem == problem) {
            continue;
        }
        let of = |optimizer: &str| -> Vec<&Comparison> {
            accuracies().filter(|pair| pair.problem == *problem && pair.is_of(optimizer)).collect()
        };
        let lead = |optimizer: &str| mean(&of(optimizer).iter().map(|pair| pair.lead(optimizer)).collect::<Vec<_>>());
        let here = accuracies().filter(|pair| pair.problem == *problem);
        let names = here.flat_map(|pair| [pair.first.as_str(), pair.second.as_str()]);
        // Of equal ones the first stays.
        let best = names.reduce(|best, other| if lead(other) > lead(best) { other } else { best });
        leaders.extend(best.map(|optimizer| Leader { problem, optimizer, pairs: of(optimizer) }));
    }
    leaders
}

fn signed(value: f64) -> String {
    if value > 0.0 { format!("+{}", plain(value)) } else { plain(value) }
}

/// evidence.csv: one row a pair and metric.
///
/// # Errors
/// None that input can reach.
pub fn to_csv(comparisons: &[Comparison]) -> Result<String> {
    let header = [
        "problem",
        "metric",
        "first",
        "second",
        "epoch",
        "n",
        "difference",
        "lower",
        "upper",
        "p",
        "p_holm",
        "pairs",
        "wins",
        "sentence",
    ];
    let record = |c: &Comparison| {
        let names = [c.problem.clone(), c.metric.to_string(), c.first.clone(), c.second.clone()];
        let counts = [c.epoch, c.n].map(|count| count.to_string());
        let values = [c.difference, c.lower, c.upper, c.p, c.p_holm].map(|value| value.to_string());
        let rest = [c.pairs.to_string(), c.wins.to_string(), c.sentence()];
        names.into_iter().chain(counts).chain(values).chain(rest).collect()
    };
    csv(&header, comparisons.iter().map(record))
}
