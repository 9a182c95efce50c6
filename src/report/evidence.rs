//! How sure the differences between optimizers are: paired over seeds, with an interval and a test for each pair that
//! cannot contradict each other.

use std::collections::HashMap;

use super::results::{GridRow, Results, SeedRow, by_seed, distinct};
use super::statistics::{SignFlips, detectable_difference, holm, pairs_needed};
use super::text;
use super::text::{metric_title, number_word, p_value, plain};
use crate::error::Result;
use crate::statistics::{median, quantile, sorted};
use crate::study::experiment::Metric;
use crate::study::state::RunState;
use crate::table::{csv, known};
use crate::words::count as count_of;

/// The metrics that are compared.
pub const COMPARED: [Metric; 2] = [Metric::TestAccuracies, Metric::TestLosses];

/// The chance of one or more false finding among the pairs of a problem that is put up with.
pub const LEVEL: f64 = 0.05;

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
    /// The epoch of the values; within a limit in seconds that of the run that came furthest.
    pub epoch: usize,
    /// Seeds that both have.
    pub n: usize,
    /// The median over these seeds of the first's values and of the second's.
    pub medians: [f64; 2],
    /// The median over seeds of the first's value less the second's.
    pub difference: f64,
    /// The differences that the test does not reject at the level that Holm's correction leaves it, and what
    /// [`Comparison::tuning`] adds to them; none where so few seeds cannot reject any.
    pub interval: Option<[f64; 2]>,
    /// What 95 % of the study's further tunings of both would have changed of the difference; none where there are none.
    pub tuning: Option<[f64; 2]>,
    /// The smallest and the largest of the seeds' differences.
    pub range: [f64; 2],
    /// Two-sided p of the sign-flip permutation test.
    pub p: f64,
    /// The same after Holm's correction for all pairs of the problem on this metric.
    pub p_holm: f64,
    /// Pairs that the correction is for.
    pub pairs: usize,
    /// Seeds in which the first is better.
    pub wins: usize,
    /// Seeds in which the second is better.
    pub losses: usize,
    /// The smallest difference that these seeds would have shown in four of five cases, all pairs corrected for; none where
    /// they could not have shown any.
    pub detectable: Option<f64>,
}

/// All pairs on all problems, in the order in which the optimizers occur.
pub fn evidence(results: &Results) -> Vec<Comparison> {
    let mut all = Vec::new();
    for problem in distinct(results.seeds.iter().map(|row| &row.problem)) {
        for metric in COMPARED {
            let finals: Vec<Finals> = distinct(results.seeds_of(&problem).map(|row| &row.optimizer))
                .into_iter()
                .map(|optimizer| {
                    let values = last_values(results, &problem, &optimizer, metric);
                    (optimizer, values)
                })
                .collect();
            let epoch = last_epoch(results, &problem);
            let mut family = Vec::new();
            for (place, first) in finals.iter().enumerate() {
                for second in &finals[place + 1..] {
                    family.extend(compare(&problem, metric, epoch, first, second));
                }
            }
            family.iter_mut().for_each(|(pair, ..)| pair.tuning = tuning(results, pair));
            correct(&mut family);
            all.extend(family.into_iter().map(|(pair, ..)| pair));
        }
    }
    all
}

type Finals = (String, Vec<(u64, f64)>);
type Pair = (Comparison, SignFlips, Vec<f64>);

/// The last epoch that a seed of a problem has finished with.
pub(super) fn last_epoch(results: &Results, problem: &str) -> usize {
    results.seeds_of(problem).filter(|row| row.status == RunState::Done).map(|row| row.epoch).max().unwrap_or(0)
}

/// Each finished seed's value at the problem's last epoch; within a limit in seconds each ends at one of its own. Of a diverged one
/// it is that before training where such runs are filled; what a last step spoiled, with a value that is not finite, counts as
/// diverged too.
pub(super) fn last_values(results: &Results, problem: &str, optimizer: &str, metric: Metric) -> Vec<(u64, f64)> {
    let fill = results.meta["diverged"].as_str() != Some("drop");
    let epoch = if results.ends_by_time(problem) { None } else { Some(last_epoch(results, problem)) };
    let own = results.seeds_of(problem).filter(|row| row.optimizer == optimizer && row.status.is_final());
    let value = |row: &SeedRow| row.get(metric).filter(|value| value.is_finite());
    let of_seed = |rows: Vec<&SeedRow>| {
        let last = rows.last()?;
        let is_done = last.status == RunState::Done;
        // A seed that lacks the last epoch is one whose rows are still being written, or of a shorter study.
        if is_done && epoch.is_some_and(|epoch| last.epoch != epoch) {
            return None;
        }
        let end = is_done.then_some(last);
        let before = || rows.iter().find(|row| fill && row.epoch == 0).and_then(|row| value(row));
        Some((rows[0].seed, end.and_then(|row| value(row)).or_else(before)?))
    };
    by_seed(own).into_iter().filter_map(of_seed).collect()
}

/// What is said of seeds that trained to their end and have a loss there that is not finite.
pub(super) fn spoiled(results: &Results) -> Vec<String> {
    // An empty cell is no number either, and where test losses are measured at all there is one before training.
    let is_lost = |rows: &Vec<&SeedRow>| {
        rows.iter().any(|row| row.test_loss.is_some())
            && rows.last().is_some_and(|row| row.epoch > 0 && !row.test_loss.is_some_and(f64::is_finite))
    };
    let mut notes = Vec::new();
    for problem in distinct(results.seeds.iter().map(|row| &row.problem)) {
        for optimizer in distinct(results.seeds_of(&problem).map(|row| &row.optimizer)) {
            let own = |row: &&SeedRow| row.optimizer == optimizer && row.status == RunState::Done;
            let count = by_seed(results.seeds_of(&problem).filter(own)).iter().filter(|rows| is_lost(rows)).count();
            if count > 0 {
                notes.push(format!(
                    "{}: {} of {optimizer} ended with a loss that is not finite and {} as diverged.",
                    text::problem_title(&problem),
                    count_of(count, "seed"),
                    if count == 1 { "counts" } else { "count" }
                ));
            }
        }
    }
    notes
}

fn compare(problem: &str, metric: Metric, epoch: usize, first: &Finals, second: &Finals) -> Option<Pair> {
    let partners: HashMap<u64, f64> = second.1.iter().rev().copied().collect();
    let both = first.1.iter().filter_map(|(seed, value)| Some((*value, *partners.get(seed)?)));
    let both: Vec<(f64, f64)> = both.filter(|(a, b)| (a - b).is_finite()).collect();
    if both.is_empty() {
        return None;
    }
    let differences: Vec<f64> = both.iter().map(|(a, b)| a - b).collect();
    // Any fixed number would do; it is the same for every pair, so a pair's numbers do not depend on the others.
    let flips = SignFlips::of(&differences, 0);
    let sign = if metric.larger_is_better() { 1.0 } else { -1.0 };
    let ahead = |side: f64| differences.iter().filter(|d| side * sign * **d > 0.0).count();
    let comparison = Comparison {
        problem: problem.to_owned(),
        metric,
        first: first.0.clone(),
        second: second.0.clone(),
        epoch,
        n: differences.len(),
        medians: [
            median(&both.iter().map(|(a, _)| *a).collect::<Vec<_>>()),
            median(&both.iter().map(|(_, b)| *b).collect::<Vec<_>>()),
        ],
        difference: median(&differences),
        interval: None,
        tuning: None,
        range: [
            differences.iter().copied().fold(f64::INFINITY, f64::min),
            differences.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ],
        p: flips.p(),
        p_holm: 1.0,
        pairs: 1,
        wins: ahead(1.0),
        losses: ahead(-1.0),
        detectable: None,
    };
    Some((comparison, flips, differences))
}

/// What further tunings of the two would have changed: the quantiles of it that leave out [`LEVEL`] of them. All of it is
/// measured with the grid's seed.
fn tuning(results: &Results, pair: &Comparison) -> Option<[f64; 2]> {
    // By how much each tuning's choice differs from the one that was taken, in their order.
    let changes = |optimizer: &str| -> Option<Vec<(usize, f64)>> {
        let is_taken = |row: &&GridRow| row.best && row.problem == pair.problem && row.optimizer == optimizer;
        let taken = results.grid.iter().find(is_taken).and_then(|row| row.get(pair.metric));
        let own = results.tunings.iter().filter(|row| row.problem == pair.problem && row.optimizer == optimizer);
        let values: Vec<(usize, f64)> = own.filter_map(|row| Some((row.repeat, row.get(pair.metric)?))).collect();
        // An optimizer of one setting has nothing to tune.
        match (values.is_empty(), taken) {
            (true, _) => Some(Vec::new()),
            (false, Some(taken)) => Some(values.iter().map(|(repeat, value)| (*repeat, value - taken)).collect()),
            (false, None) => None,
        }
    };
    let (first, second) = (changes(&pair.first)?, changes(&pair.second)?);
    let repeats = distinct(first.iter().chain(&second).map(|(repeat, _)| repeat));
    let of = |changes: &[(usize, f64)], repeat: usize| match changes.is_empty() {
        true => Some(0.0),
        false => changes.iter().find(|(own, _)| *own == repeat).map(|(_, change)| *change),
    };
    let changes = repeats.iter().filter_map(|repeat| Some(of(&first, *repeat)? - of(&second, *repeat)?));
    let changes = sorted(&changes.collect::<Vec<f64>>());
    (!changes.is_empty()).then(|| [quantile(&changes, LEVEL / 2.0), quantile(&changes, 1.0 - LEVEL / 2.0)])
}

/// What depends on how many pairs there are.
fn correct(family: &mut [Pair]) {
    let corrected = holm(&family.iter().map(|(pair, ..)| pair.p).collect::<Vec<_>>(), LEVEL);
    let pairs = family.len();
    for ((pair, flips, differences), (p_holm, level)) in family.iter_mut().zip(corrected) {
        (pair.p_holm, pair.pairs) = (p_holm, pairs);
        if pair.n < pairs_needed(pairs, LEVEL) {
            continue;
        }
        // The test is one of the mean. Where the median lies elsewhere, the interval reaches to it.
        let with_median = |(low, high): (f64, f64)| (low.min(pair.difference), high.max(pair.difference));
        let [down, up] = pair.tuning.unwrap_or_default();
        let with_tuning = |(low, high): (f64, f64)| [low + down.min(0.0), high + up.max(0.0)];
        pair.interval = flips.interval(level).map(with_median).map(with_tuning);
        pair.detectable = detectable_difference(differences, LEVEL / pairs as f64);
    }
}

impl Comparison {
    /// Whether an optimizer is one of the two.
    pub fn is_of(&self, optimizer: &str) -> bool {
        self.first == optimizer || self.second == optimizer
    }

    /// Whether the two can be told apart: the interval leaves out 0, and so the corrected p is at most [`LEVEL`].
    pub fn is_clear(&self) -> bool {
        self.p_holm <= LEVEL && self.interval.is_some_and(|[low, high]| low > 0.0 || high < 0.0)
    }

    /// The same comparison with this one of the two as the first.
    pub fn from(&self, optimizer: &str) -> Comparison {
        if self.first == optimizer {
            return self.clone();
        }
        // A zero has no sign.
        let turned = |[low, high]: [f64; 2]| [0.0 - high, 0.0 - low];
        Comparison {
            first: self.second.clone(),
            second: self.first.clone(),
            medians: [self.medians[1], self.medians[0]],
            difference: 0.0 - self.difference,
            interval: self.interval.map(turned),
            tuning: self.tuning.map(turned),
            range: turned(self.range),
            wins: self.losses,
            losses: self.wins,
            ..self.clone()
        }
    }

    /// By how much the first is better than the second: positive where it is, of losses too.
    pub fn lead(&self) -> f64 {
        if self.metric.larger_is_better() { self.difference } else { 0.0 - self.difference }
    }

    /// The comparison in plain words, told from the side of the first.
    pub fn sentence(&self) -> String {
        let Comparison { first, second, n, difference, .. } = self;
        let metric = metric_title(self.metric);
        let seeds = format!("{} {}", number_word(*n), if *n == 1 { "seed" } else { "seeds" });
        let size = plain(difference.abs());
        let side = if *difference >= 0.0 { "above" } else { "below" };
        if *n < 2 {
            return format!("{first} {side} {second} on {metric} by {size} with one seed, which is no evidence.");
        }
        let Some([low, high]) = self.interval else {
            let [low, high] = self.range.map(signed);
            let needed = pairs_needed(self.pairs, LEVEL);
            let pairs =
                if self.pairs == 1 { "one pair".to_owned() } else { format!("{} pairs", number_word(self.pairs)) };
            return format!(
                "{first} better than {second} on {metric} in {} of {seeds}, difference {low} to {high}, median {}: too few \
                 seeds to decide {pairs}; that takes {}.",
                number_word(self.wins),
                signed(*difference),
                number_word(needed)
            );
        };
        let test = format!("{seeds}, interval {} to {}, corrected p {}", plain(low), plain(high), p_value(self.p_holm));
        if self.is_clear() {
            return format!("{first} {side} {second} on {metric} by {size} ({test}).");
        }
        format!("{first} and {second} cannot be told apart on {metric}: {} ({test}).", signed(*difference))
    }
}

/// The best optimizer of a problem and its pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Leader {
    /// The problem's name.
    pub problem: String,
    /// What it leads on: test accuracy, or test loss where there is no accuracy.
    pub metric: Metric,
    /// The optimizer with the best median at the last epoch.
    pub optimizer: String,
    /// That median, over its own seeds.
    pub median: f64,
    /// Its comparison with each other one, told from its side.
    pub pairs: Vec<Comparison>,
}

impl Leader {
    /// Whether another optimizer is clearly worse; nothing where the two share no seed.
    pub fn is_ahead_of(&self, optimizer: &str) -> Option<bool> {
        self.pairs.iter().find(|pair| pair.second == optimizer).map(Comparison::is_clear)
    }
}

/// The best optimizer of each problem by the median over its own seeds, and how sure that is.
pub fn leaders(results: &Results, comparisons: &[Comparison]) -> Vec<Leader> {
    let mut leaders: Vec<Leader> = Vec::new();
    for problem in distinct(comparisons.iter().map(|pair| &pair.problem)) {
        for metric in COMPARED {
            let here = || comparisons.iter().filter(|pair| pair.problem == problem && pair.metric == metric);
            let names = distinct(here().flat_map(|pair| [&pair.first, &pair.second]));
            let of = |optimizer: String| {
                let values = last_values(results, &problem, &optimizer, metric);
                let median = median(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>());
                (optimizer, median)
            };
            let better = |a: f64, b: f64| if metric.larger_is_better() { a > b } else { a < b };
            // Of equal ones the first stays.
            let best =
                names.into_iter().map(of).reduce(|best, other| if better(other.1, best.1) { other } else { best });
            if let Some((optimizer, median)) = best.filter(|_| leaders.iter().all(|leader| leader.problem != problem)) {
                let pairs = here().filter(|pair| pair.is_of(&optimizer)).map(|pair| pair.from(&optimizer)).collect();
                leaders.push(Leader { problem: problem.clone(), metric, optimizer, median, pairs });
            }
        }
    }
    leaders
}

/// A difference with its sign.
pub(super) fn signed(value: f64) -> String {
    if value > 0.0 { format!("+{}", plain(value)) } else { plain(value) }
}

/// evidence.csv: one row a pair and metric. What there is none of is empty.
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
        "losses",
        "smallest",
        "largest",
        "detectable",
        "tuning_lower",
        "tuning_upper",
    ];
    let record = |c: &Comparison| {
        let names = [c.problem.clone(), c.metric.to_string(), c.first.clone(), c.second.clone()];
        let counts = [c.epoch, c.n].map(|count| count.to_string());
        let ends = [0, 1].map(|end| known(c.interval.map(|interval| interval[end])));
        let p = [c.p, c.p_holm].map(|value| value.to_string());
        let rest = [c.pairs.to_string(), c.wins.to_string(), c.sentence(), c.losses.to_string()];
        let range = c.range.map(|value| value.to_string());
        let head = names.into_iter().chain(counts).chain([c.difference.to_string()]).chain(ends).chain(p);
        let tuning = [0, 1].map(|end| known(c.tuning.map(|tuning| tuning[end])));
        head.chain(rest).chain(range).chain([known(c.detectable)]).chain(tuning).collect()
    };
    csv(&header, comparisons.iter().map(record))
}
