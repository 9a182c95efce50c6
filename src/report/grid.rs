//! A study's grid of one optimizer as a table of settings: what its figures and the page's tables are made of.

use std::collections::HashMap;

use serde_json::Value;

use super::results::{GridRow, Results};
use super::statistics::mean;
use crate::study::experiment::Metric;
use crate::study::state::RunState;

/// What one setting came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The metric at the last epoch, the mean over the grid's seeds.
    Value(f64),
    /// One seed or more diverged.
    Diverged,
    /// There is no result yet, or the runs failed.
    Missing,
}

/// One setting of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The step size.
    pub learning_rate: f64,
    /// None for an optimizer without.
    pub damping: Option<f64>,
    /// The options that grid.csv has columns for, with their values.
    pub options: Vec<(String, String)>,
    /// What it came to.
    pub outcome: Outcome,
    /// From 1; none without a result.
    pub rank: Option<usize>,
    /// Whether it is the chosen one.
    pub best: bool,
    /// How many grid seeds it has.
    pub seeds: usize,
}

/// The settings of one optimizer on one problem, in the order in which they occur.
pub fn settings(results: &Results, problem: &str, optimizer: &str) -> Vec<Setting> {
    let metric = results.selection_metric();
    let (mut groups, mut places) = (Vec::<Vec<&GridRow>>::new(), HashMap::new());
    for row in results.grid.iter().filter(|row| row.problem == problem && row.optimizer == optimizer) {
        // The seeds of a setting share its rank, which tells settings apart in a file without columns for their options;
        // before there are ranks, the options do.
        let key = (row.learning_rate.to_bits(), row.damping.map(f64::to_bits), &row.options, row.rank);
        let place = *places.entry(key).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(row);
    }
    let setting = |rows: &Vec<&GridRow>| Setting {
        learning_rate: rows[0].learning_rate,
        damping: rows[0].damping,
        options: rows[0].options.clone(),
        outcome: outcome(rows, metric),
        rank: rows[0].rank,
        best: rows.iter().any(|row| row.best),
        seeds: rows.len(),
    };
    groups.iter().map(setting).collect()
}

/// The fewest and the most epochs after which the settings of a problem have their values, where these differ: halving gives
/// poor ones fewer. Runs of so many seconds are compared for the same time, however many epochs that is.
pub fn epochs_given(results: &Results, problem: &str) -> Option<[usize; 2]> {
    if results.ends_by_time(problem) {
        return None;
    }
    let rows = results.grid.iter().filter(|row| row.problem == problem && row.status != RunState::Diverged);
    let epochs: Vec<usize> = rows.filter_map(|row| row.epoch).collect();
    let (low, high) = (epochs.iter().copied().min()?, epochs.iter().copied().max()?);
    (low < high).then_some([low, high])
}

/// When the values of these problems' settings were measured, for captions.
pub fn when<'a>(results: &Results, problems: impl IntoIterator<Item = &'a str>) -> String {
    let given = problems.into_iter().filter_map(|problem| epochs_given(results, problem));
    let Some([low, high]) = given.reduce(|[a, b], [c, d]| [a.min(c), b.max(d)]) else {
        return "at the last epoch".to_owned();
    };
    match metas(results).any(|meta| meta["experiment"]["halving"].is_number()) {
        true => format!("after the epochs that halving gave each setting ({low} to {high})"),
        false => format!("after the epochs that each setting was given ({low} to {high})"),
    }
}

/// What the study, or each of those that stand side by side, says of itself.
fn metas(results: &Results) -> impl Iterator<Item = &Value> {
    std::iter::once(&results.meta).chain(results.studies.iter().map(|(_, meta)| meta))
}

/// The grid of one optimizer on one problem. Where options were gridded too, several settings share learning rate and
/// damping: the best of them stands for all.
#[derive(Clone, Debug)]
pub struct GridTable {
    /// Ascending.
    pub learning_rates: Vec<f64>,
    /// Ascending; empty without damping.
    pub dampings: Vec<f64>,
    /// One row a damping (one row without damping), in it one outcome a learning rate.
    pub outcomes: Vec<Vec<Outcome>>,
    /// The chosen setting's row and column.
    pub winner: Option<(usize, usize)>,
    /// How many grid seeds there are, at most.
    pub seeds: usize,
    /// Of how many pairs of a learning rate and a damping there are settings, with a result or still without.
    pub pairs: usize,
}

impl GridTable {
    /// The grid; none where there are no rows.
    pub fn of(results: &Results, problem: &str, optimizer: &str) -> Option<Self> {
        let metric = results.selection_metric();
        let settings = settings(results, problem, optimizer);
        let learning_rates = ascending(settings.iter().map(|setting| setting.learning_rate));
        let dampings = ascending(settings.iter().filter_map(|setting| setting.damping));
        if learning_rates.is_empty() {
            return None;
        }
        let levels: Vec<Option<f64>> =
            if dampings.is_empty() { vec![None] } else { dampings.iter().copied().map(Some).collect() };
        let place = |damping: Option<f64>, rate: f64| (damping.map(f64::to_bits), rate.to_bits());
        let mut places: HashMap<_, Vec<&Setting>> = HashMap::new();
        for setting in &settings {
            places.entry(place(setting.damping, setting.learning_rate)).or_default().push(setting);
        }
        let seeds = settings.iter().map(|setting| setting.seeds).max().unwrap_or(0);
        let pairs = places.len();
        let mut table = GridTable { learning_rates, dampings, outcomes: Vec::new(), winner: None, seeds, pairs };
        for (line, &damping) in levels.iter().enumerate() {
            let mut outcomes = Vec::new();
            for (column, &rate) in table.learning_rates.iter().enumerate() {
                let here = places.get(&place(damping, rate)).map_or(&[][..], Vec::as_slice);
                if here.iter().any(|setting| setting.best) {
                    table.winner = Some((line, column));
                }
                let all = here.iter().map(|setting| setting.outcome);
                outcomes.push(all.reduce(|one, other| better(one, other, metric)).unwrap_or(Outcome::Missing));
            }
            table.outcomes.push(outcomes);
        }
        Some(table)
    }

    /// Whether a setting lies on the grid's edge, along an axis that has more than one value.
    pub fn is_edge(&self, line: usize, column: usize) -> bool {
        let on = |place: usize, length: usize| length > 1 && (place == 0 || place + 1 == length);
        on(column, self.learning_rates.len()) || on(line, self.dampings.len())
    }

    /// Whether the settings are drawn from ranges, so that most pairs of a learning rate and a damping are never tried.
    pub fn is_scattered(&self) -> bool {
        // Settings that are still to be tried belong to a grid as much as the others do.
        let (rates, dampings) = (self.learning_rates.len(), self.dampings.len());
        rates > 2 && dampings > 2 && 2 * self.pairs < rates * dampings
    }

    /// The values there are.
    pub fn values(&self) -> Vec<f64> {
        let value = |outcome: &Outcome| match outcome {
            Outcome::Value(value) => Some(*value),
            _ => None,
        };
        self.outcomes.iter().flatten().filter_map(value).collect()
    }
}

fn outcome(rows: &[&GridRow], metric: Metric) -> Outcome {
    if rows.iter().any(|row| row.status == RunState::Diverged) {
        return Outcome::Diverged;
    }
    let values: Vec<f64> = rows.iter().filter_map(|row| row.get(metric)).collect();
    if values.is_empty() { Outcome::Missing } else { Outcome::Value(mean(&values)) }
}

/// The better of two settings; any value is better than none.
fn better(one: Outcome, other: Outcome, metric: Metric) -> Outcome {
    match (one, other) {
        (Outcome::Value(a), Outcome::Value(b)) => {
            Outcome::Value(if metric.larger_is_better() { a.max(b) } else { a.min(b) })
        }
        (value @ Outcome::Value(_), _) | (_, value @ Outcome::Value(_)) => value,
        (Outcome::Diverged, _) | (_, Outcome::Diverged) => Outcome::Diverged,
        _ => Outcome::Missing,
    }
}

fn ascending(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use csv::Reader;

    /// Two seeds a setting; where options were gridded, several settings of one learning rate and damping.
    fn results() -> Results {
        let rows = "\
problem,optimizer,learning_rate,damping,seed,status,valid_loss,valid_accuracy,rank,best
p,A,1,0.1,0,done,3,0.5,3,false
p,A,1,0.1,1,done,5,0.7,3,false
p,A,2,0.1,0,done,1,0.9,4,false
p,A,2,0.1,1,diverged,1,0.9,4,false
p,A,1,0.01,0,done,8,0.2,2,false
p,A,1,0.01,1,done,4,0.4,2,false
p,A,1,0.01,0,done,7,0.8,1,true
p,A,1,0.01,1,done,9,0.6,1,true
p,B,5,,0,done,7,0.8,1,true
q,A,7,3,0,done,7,0.8,1,true
";
        let grid = Reader::from_reader(rows.as_bytes()).into_deserialize().map(Result::unwrap).collect();
        Results { grid, ..Results::default() }
    }

    #[test]
    fn the_best_of_several_settings_of_one_place_stands_for_all() {
        let table = GridTable::of(&results(), "p", "A").unwrap();
        assert_eq!((&table.learning_rates[..], &table.dampings[..]), (&[1.0, 2.0][..], &[0.01, 0.1][..]));
        let value = |a: f64, b: f64| Outcome::Value((a + b) / 2.0);
        let expected = [[value(0.8, 0.6), Outcome::Missing], [value(0.5, 0.7), Outcome::Diverged]];
        assert_eq!(table.outcomes, expected);
        assert_eq!((table.winner, table.seeds), (Some((0, 0)), 2));
        assert_eq!(table.values(), [(0.8 + 0.6) / 2.0, (0.5 + 0.7) / 2.0]);
        // Of losses the smaller is better.
        let mut by_loss = results();
        by_loss.meta["select"]["metric"] = "valid_losses".into();
        let table = GridTable::of(&by_loss, "p", "A").unwrap();
        assert_eq!(table.outcomes, [[value(8.0, 4.0), Outcome::Missing], [value(3.0, 5.0), Outcome::Diverged]]);
        // Without damping there is one row.
        let plain = GridTable::of(&results(), "p", "B").unwrap();
        assert_eq!((plain.outcomes, plain.dampings.len()), (vec![vec![Outcome::Value(0.8)]], 0));
        assert!(GridTable::of(&results(), "q", "B").is_none());
    }

    #[test]
    fn any_value_is_better_than_none() {
        let (value, metric) = (Outcome::Value(0.5), Metric::ValidAccuracies);
        for other in [Outcome::Diverged, Outcome::Missing] {
            assert_eq!([better(value, other, metric), better(other, value, metric)], [value; 2]);
        }
        for (one, other) in [(Outcome::Diverged, Outcome::Missing), (Outcome::Missing, Outcome::Diverged)] {
            assert_eq!(better(one, other, metric), Outcome::Diverged);
        }
        assert_eq!(better(Outcome::Missing, Outcome::Missing, metric), Outcome::Missing);
    }

    /// So many learning rates and dampings, of which so many pairs are settings, none of them with a value.
    fn table(rates: usize, dampings: usize, tried: usize) -> GridTable {
        let values = |count: usize| (0..count).map(|value| value as f64).collect();
        let outcomes = vec![Outcome::Missing; rates * dampings.max(1)];
        GridTable {
            learning_rates: values(rates),
            dampings: values(dampings),
            outcomes: outcomes.chunks(rates).map(<[Outcome]>::to_vec).collect(),
            winner: None,
            seeds: 1,
            pairs: tried,
        }
    }

    /// Three values of an option for each of two learning rates, nothing of which is finished.
    #[test]
    fn settings_that_wait_are_told_apart_by_their_options() {
        let mut rows = "problem,optimizer,learning_rate,damping,momentum,seed,status,rank,best\n".to_owned();
        for rate in [0.1, 0.2] {
            for momentum in [0.0, 0.5, 0.9] {
                rows += &format!("p,M,{rate},,{momentum},0,waiting,,false\np,M,{rate},,{momentum},1,waiting,,false\n");
            }
        }
        let grid = Reader::from_reader(rows.as_bytes()).into_deserialize().map(Result::unwrap).collect();
        let results = Results { grid, ..Results::default() };
        assert_eq!(GridTable::of(&results, "p", "M").unwrap().seeds, 2);
        let settings = settings(&results, "p", "M");
        assert_eq!(settings.len(), 6);
        assert!(settings.iter().all(|setting| setting.seeds == 2 && setting.outcome == Outcome::Missing));
        assert_eq!(
            (settings[4].learning_rate, &settings[4].options[..]),
            (0.2, &[("momentum".to_owned(), "0.5".to_owned())][..])
        );
    }

    #[test]
    fn an_axis_of_one_value_has_no_edge() {
        let row = table(3, 0, 3);
        assert_eq!([0, 1, 2].map(|column| row.is_edge(0, column)), [true, false, true]);
        let column = table(1, 3, 3);
        assert_eq!([0, 1, 2].map(|line| column.is_edge(line, 0)), [true, false, true]);
        assert!(table(2, 3, 6).is_edge(1, 1) && table(3, 2, 6).is_edge(1, 1) && !table(1, 1, 1).is_edge(0, 0));
    }

    #[test]
    fn a_grid_of_which_less_than_half_is_to_be_tried_is_scattered() {
        let scattered = [(3, 3, 4), (3, 3, 5), (4, 3, 5), (4, 3, 6), (2, 9, 2), (9, 2, 2), (9, 0, 1)];
        let scattered = scattered.map(|(rates, dampings, tried)| table(rates, dampings, tried).is_scattered());
        assert_eq!(scattered, [true, false, true, false, false, false, false]);
    }
}
