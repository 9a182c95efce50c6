//! The evidence of a report case by case: which seeds count, which way a difference points, and what is said of it.

use std::fmt::Write;

use backpack_run::report::evidence::{Comparison, evidence, leaders, to_csv};
use backpack_run::report::results::{Results, SeedRow};
use backpack_run::study::experiment::Metric;

/// One epoch of a seed with a test accuracy and a test loss.
fn row(problem: &str, optimizer: &str, seed: u64, status: &str, epoch: usize, accuracy: f64, loss: f64) -> SeedRow {
    SeedRow {
        problem: problem.to_owned(),
        optimizer: optimizer.to_owned(),
        seed,
        status: status.to_owned(),
        epoch,
        train_loss: None,
        train_accuracy: None,
        valid_loss: None,
        valid_accuracy: None,
        test_loss: Some(loss),
        test_accuracy: Some(accuracy),
        train_seconds: None,
        eval_seconds: None,
    }
}

fn results(seeds: Vec<SeedRow>) -> Results {
    Results { seeds, ..Results::default() }
}

/// Optimizers with the accuracies of their seeds at the last epoch, 3; the losses are 1 less.
fn finished(optimizers: &[(&str, &[f64])]) -> Vec<SeedRow> {
    let mut rows = Vec::new();
    for (optimizer, accuracies) in optimizers {
        for (seed, accuracy) in accuracies.iter().enumerate() {
            for epoch in 0..=3 {
                let accuracy = if epoch == 3 { *accuracy } else { 0.1 };
                rows.push(row("p", optimizer, seed as u64, "done", epoch, accuracy, 1.0 - accuracy));
            }
        }
    }
    rows
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
}

#[test]
fn a_diverged_seed_counts_with_its_first_value_or_not_at_all() {
    let mut rows = finished(&[("A", &[0.5, 0.6, 0.7]), ("B", &[0.4, 0.4])]);
    // B's third seed broke off after an epoch; a fourth one is under way and beyond the others.
    rows.push(row("p", "B", 2, "diverged", 0, 0.2, 0.8));
    rows.push(row("p", "B", 2, "diverged", 1, 0.9, 9.0));
    rows.push(row("p", "A", 3, "running", 3, 0.9, 0.1));
    rows.push(row("p", "B", 3, "done", 3, 0.1, 0.9));
    rows.push(row("p", "B", 4, "running", 9, 0.1, 0.9));
    let mut results = results(rows);
    let pair = |results: &Results| evidence(results).remove(0);
    let filled = pair(&results);
    assert_eq!((filled.n, filled.epoch, filled.wins), (3, 3, 3));
    near(filled.difference, (0.1 + 0.2 + 0.5) / 3.0);
    results.meta["diverged"] = "drop".into();
    let dropped = pair(&results);
    assert_eq!((dropped.n, dropped.wins), (2, 2));
    near(dropped.difference, (0.1 + 0.2) / 2.0);
}

#[test]
fn of_losses_the_smaller_is_better() {
    let results = results(finished(&[("A", &[0.5, 0.6, 0.7, 0.5]), ("B", &[0.4, 0.7, 0.7, 0.4]), ("C", &[0.9; 4])]));
    let all = evidence(&results);
    let of = |metric, first: &str, second: &str| -> Comparison {
        let is_it = |pair: &&Comparison| pair.metric == metric && pair.first == first && pair.second == second;
        all.iter().find(is_it).unwrap().clone()
    };
    assert_eq!(all.len(), 6);
    // Differences .1, -.1, 0, .1: two seeds, one of the other's, and one in which neither is better.
    for metric in [Metric::TestAccuracies, Metric::TestLosses] {
        assert_eq!(of(metric, "A", "B").wins, 2, "{metric}");
        assert_eq!(of(metric, "A", "C").wins, 0, "{metric}");
        assert_eq!(of(metric, "A", "B").pairs, 3);
    }
    near(of(Metric::TestLosses, "A", "C").difference, 0.325);
    near(of(Metric::TestAccuracies, "A", "C").difference, -0.325);
    let leaders = leaders(&all);
    assert_eq!((leaders.len(), leaders[0].optimizer, leaders[0].pairs.len()), (1, "C", 2));
}

#[test]
fn a_value_that_is_not_finite_is_no_difference() {
    let mut rows = finished(&[("A", &[0.5, 0.6]), ("B", &[0.4, 0.4])]);
    for seed in 0..2 {
        rows.push(row("q", "A", seed, "done", 3, f64::INFINITY, 0.5));
        rows.push(row("q", "B", seed, "done", 3, 0.5, f64::INFINITY));
    }
    let all = evidence(&results(rows));
    assert!(all.iter().all(|pair| pair.problem == "p" && pair.difference.is_finite()), "{all:?}");
    assert_eq!(all.len(), 2);
}

#[test]
fn problems_have_leaders_of_their_own() {
    let mut rows = finished(&[("A", &[0.5, 0.6]), ("B", &[0.4, 0.4])]);
    for (optimizer, accuracy) in [("A", 0.1), ("B", 0.3), ("C", 0.2)] {
        rows.extend((0..2).map(|seed| row("q", optimizer, seed, "done", 1, accuracy, 0.5)));
    }
    // Equal ones: the first stays.
    for optimizer in ["D", "E"] {
        rows.extend((0..2).map(|seed| row("r", optimizer, seed, "done", 1, 0.4, 0.5)));
    }
    let all = evidence(&results(rows));
    let found: Vec<_> =
        leaders(&all).iter().map(|leader| (leader.problem, leader.optimizer, leader.pairs.len())).collect();
    assert_eq!(found, [("p", "A", 1), ("q", "B", 2), ("r", "D", 1)]);
    assert!(all.iter().filter(|pair| pair.problem == "q").all(|pair| (pair.epoch, pair.pairs) == (1, 3)));
}

/// A comparison of which each number can be told in the sentence.
fn comparison(n: usize, p_holm: f64, difference: f64) -> Comparison {
    Comparison {
        problem: "p".to_owned(),
        metric: Metric::TestAccuracies,
        first: "A".to_owned(),
        second: "B".to_owned(),
        epoch: 3,
        n,
        difference,
        lower: difference - 0.125,
        upper: difference + 0.25,
        p: 0.03,
        p_holm,
        pairs: 2,
        wins: 1,
    }
}

#[test]
fn sentences_tell_size_side_and_certainty() {
    let mut said = String::new();
    let below = Comparison { metric: Metric::TestLosses, pairs: 1, ..comparison(10, 0.05, -0.5) };
    for (pair, side) in [
        (&comparison(10, 0.05, 0.5), "A"),
        (&comparison(10, 0.05, 0.5), "B"),
        (&below, "A"),
        (&comparison(10, 0.0501, 0.5), "A"),
        (&comparison(10, 0.9, 0.0), "B"),
        (&comparison(6, 0.9, -0.5), "A"),
        // 2 pairs of 6 seeds can come to 2 / 64 * 2, above 0.05; of 7 seeds to half of it.
        (&comparison(7, 0.9, -0.5), "B"),
        (&comparison(2, 0.9, -0.5), "A"),
        (&comparison(1, 1.0, 0.5), "A"),
        (&comparison(1, 1.0, 0.5), "B"),
        (&comparison(1, 1.0, 0.0), "A"),
    ] {
        writeln!(said, "{}", pair.sentence_from(side)).unwrap();
    }
    let interval = |ends: &str| format!("95 % interval {ends}, p = 0.03, after Holm's correction for two pairs");
    let expected = [
        format!("A above B on test accuracy by 0.5000: ten seeds, {} = 0.05.", interval("0.3750 to 0.7500")),
        format!("B below A on test accuracy by 0.5000: ten seeds, {} = 0.05.", interval("-0.7500 to -0.3750")),
        format!("A below B on test loss by 0.5000: ten seeds, {} = 0.05.", interval("-0.6250 to -0.2500"))
            .replace("two pairs", "one pair"),
        format!(
            "No clear difference between A and B on test accuracy (+0.5000): ten seeds, {} = 0.05.",
            interval("0.3750 to 0.7500")
        ),
        format!(
            "No clear difference between B and A on test accuracy (0): ten seeds, {} = 0.9.",
            interval("-0.2500 to 0.1250")
        ),
        format!(
            "No clear difference between A and B on test accuracy (-0.5000): six seeds, {} = 0.9. So few seeds cannot give a \
             clear one.",
            interval("-0.6250 to -0.2500")
        ),
        format!(
            "No clear difference between B and A on test accuracy (+0.5000): seven seeds, {} = 0.9.",
            interval("0.2500 to 0.6250")
        ),
        format!(
            "No clear difference between A and B on test accuracy (-0.5000): two seeds, {} = 0.9. So few seeds cannot give a \
             clear one.",
            interval("-0.6250 to -0.2500")
        ),
        "A above B on test accuracy by 0.5000 with one seed, which is no evidence.".to_owned(),
        "B below A on test accuracy by 0.5000 with one seed, which is no evidence.".to_owned(),
        "A above B on test accuracy by 0 with one seed, which is no evidence.".to_owned(),
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_table_holds_every_number() {
    let csv = to_csv(&[comparison(10, 0.25, 0.5)]).unwrap();
    let line = csv.lines().nth(1).unwrap();
    assert!(line.starts_with("p,test_accuracies,A,B,3,10,0.5,0.375,0.75,0.03,0.25,2,1,"), "{line}");
    assert_eq!(csv.lines().count(), 2);
}
