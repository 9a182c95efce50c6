//! Optimizers that a study tried and that have no final values, and why: nobody should have to notice that one is missing.

use std::collections::HashSet;

use super::results::{Results, by_seed, distinct};
use super::text;
use crate::study::state::RunState;

/// What a study tried, as problem and optimizer, by its tuning, its grids and its seeds.
fn tried(results: &Results) -> Vec<(&str, &str)> {
    let told = results.meta["tuning"].as_array().into_iter().flatten();
    let told = told.filter_map(|tuning| Some((tuning["problem"].as_str()?, tuning["optimizer"].as_str()?)));
    let grids = results.grid.iter().map(|row| (row.problem.as_str(), row.optimizer.as_str()));
    let seeds = results.seeds.iter().map(|row| (row.problem.as_str(), row.optimizer.as_str()));
    let pairs: Vec<(&str, &str)> = told.chain(grids).chain(seeds).collect();
    distinct(pairs.iter())
}

/// How many optimizers a study has, those without any values included.
pub fn count(results: &Results) -> usize {
    let tried = tried(results);
    let curves = results.curves.iter().map(|row| row.optimizer.as_str());
    let finals = results.finals.iter().map(|row| row.optimizer.as_str());
    curves.chain(finals).chain(tried.iter().map(|(_, optimizer)| *optimizer)).collect::<HashSet<_>>().len()
}

/// A sentence for each optimizer on a problem that has no final values.
pub fn notes(results: &Results) -> Vec<String> {
    let note = |(problem, optimizer)| {
        let reason = reason(results, problem, optimizer)?;
        Some(format!("{optimizer} on {} has no final values: {reason}.", text::problem_title(problem)))
    };
    tried(results).into_iter().filter_map(note).collect()
}

/// Why there are no final values; nothing where there are some.
fn reason(results: &Results, problem: &str, optimizer: &str) -> Option<&'static str> {
    if results.finals_of(problem).any(|row| row.optimizer == optimizer) {
        return None;
    }
    let seeds = by_seed(results.seeds_of(problem).filter(|row| row.optimizer == optimizer));
    let in_state = |state: RunState| seeds.iter().filter(|rows| rows[0].status == state).count();
    let diverged = in_state(RunState::Diverged);
    let is_filled = results.meta["diverged"].as_str() != Some("drop");
    // Values that final.csv lacks, as that of a study that has not written it, the page takes from seeds or curves.
    let has_values = in_state(RunState::Done) > 0 || (is_filled && diverged > 0);
    if has_values || (seeds.is_empty() && results.optimizers(problem).iter().any(|name| name == optimizer)) {
        return None;
    }
    if diverged > 0 && diverged == seeds.len() {
        // Seeds that have not begun have no rows.
        let planned = results.meta["seeds"].as_array().map_or(0, Vec::len);
        return Some(if diverged < planned { "all its seeds so far diverged" } else { "all its seeds diverged" });
    }
    let mut settings =
        results.grid.iter().filter(|row| row.problem == problem && row.optimizer == optimizer).peekable();
    let all_diverged = settings.peek().is_some() && settings.all(|row| row.status == RunState::Diverged);
    Some(if all_diverged { "all its settings diverged" } else { "it has no finished seeds yet" })
}
