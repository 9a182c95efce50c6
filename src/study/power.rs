//! How many seeds it takes for a difference between optimizers to be told: of n pairs the sign-flip test's least p is
//! 2 / 2^n, and Holm's correction multiplies the least of m by m.

use super::experiment::Experiment;
use crate::words::count;

/// Differences of which chance explains at most this share are told.
pub const SIGNIFICANT: f64 = 0.05;

/// The least p that so many seeds can give, corrected for so many pairs of optimizers.
pub fn least_p(seeds: usize, pairs: usize) -> f64 {
    2f64.powi(1 - seeds.min(1000) as i32) * pairs as f64
}

/// How many seeds can give a p below [`SIGNIFICANT`], corrected for so many pairs.
pub fn seeds_needed(pairs: usize) -> usize {
    (1..).find(|seeds| least_p(*seeds, pairs) < SIGNIFICANT).unwrap_or(usize::MAX)
}

/// What to know before a study with too few seeds is run; nothing where they suffice, or there is nothing to compare.
pub fn too_few_seeds(experiment: &Experiment) -> Option<String> {
    let optimizers = |problem: &str| experiment.optimizers.iter().filter(|grid| grid.is_for(problem)).count();
    let most = experiment.problems.iter().map(|problem| optimizers(&problem.name)).max().unwrap_or(0);
    let (seeds, pairs) = (experiment.seeds.len(), most * most.saturating_sub(1) / 2);
    if seeds == 0 || pairs == 0 {
        return None;
    }
    let (alone, corrected) = (seeds_needed(1), seeds_needed(pairs));
    let given = count(seeds, "seed");
    let after = format!("after the correction for {}", count(pairs, "pair"));
    if seeds < alone {
        let more = if corrected > alone { format!(", {corrected} {after}") } else { String::new() };
        return Some(format!("{given} cannot give p < {SIGNIFICANT}; {alone} could{more}"));
    }
    (seeds < corrected).then(|| format!("{given} cannot give p < {SIGNIFICANT} {after}; {corrected} could"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_seeds_can_tell_one_pair_and_eight_six() {
        assert_eq!((least_p(3, 1), least_p(10, 1)), (0.25, 2.0 / 1024.0));
        assert_eq!((seeds_needed(1), seeds_needed(6), seeds_needed(45)), (6, 8, 11));
    }
}
