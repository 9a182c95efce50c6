//! The evidence of a report case by case: which seeds count, which way a difference points, and what is said of it.

use std::fmt::Write;

use backpack_run::report::evidence::{Comparison, Leader, evidence, leaders, to_csv};
use backpack_run::report::results::{GridRow, Results, SeedRow, TuningRow};
use backpack_run::report::verdict::{detectable, sentences};
use backpack_run::study::experiment::Metric;
use backpack_run::study::state::RunState;

/// One epoch of a seed with a test accuracy and a test loss.
fn row(problem: &str, optimizer: &str, seed: u64, status: RunState, epoch: usize, accuracy: f64, loss: f64) -> SeedRow {
    SeedRow {
        problem: problem.to_owned(),
        optimizer: optimizer.to_owned(),
        seed,
        status,
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
                rows.push(row("p", optimizer, seed as u64, RunState::Done, epoch, accuracy, 1.0 - accuracy));
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
    rows.push(row("p", "B", 2, RunState::Diverged, 0, 0.2, 0.8));
    rows.push(row("p", "B", 2, RunState::Diverged, 1, 0.9, 9.0));
    rows.push(row("p", "A", 3, RunState::Running, 3, 0.9, 0.1));
    rows.push(row("p", "B", 3, RunState::Done, 3, 0.1, 0.9));
    rows.push(row("p", "B", 4, RunState::Running, 9, 0.1, 0.9));
    let mut results = results(rows);
    let pair = |results: &Results| evidence(results).remove(0);
    let filled = pair(&results);
    assert_eq!((filled.n, filled.epoch, filled.wins), (3, 3, 3));
    near(filled.difference, 0.2);
    results.meta["diverged"] = "drop".into();
    let dropped = pair(&results);
    assert_eq!((dropped.n, dropped.wins), (2, 2));
    near(dropped.difference, 0.15);
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
    // Differences of A and C: .4, .3, .2, .4.
    near(of(Metric::TestLosses, "A", "C").difference, 0.35);
    near(of(Metric::TestAccuracies, "A", "C").difference, -0.35);
    for (end, value) in of(Metric::TestAccuracies, "A", "C").range.into_iter().zip([-0.4, -0.2]) {
        near(end, value);
    }
    let leaders = leaders(&results, &all);
    assert_eq!((leaders.len(), leaders[0].optimizer.as_str(), leaders[0].pairs.len()), (1, "C", 2));
}

#[test]
fn a_value_that_is_not_finite_is_no_difference() {
    let mut rows = finished(&[("A", &[0.5, 0.6]), ("B", &[0.4, 0.4])]);
    for seed in 0..2 {
        rows.push(row("q", "A", seed, RunState::Done, 3, f64::INFINITY, 0.5));
        rows.push(row("q", "B", seed, RunState::Done, 3, 0.5, f64::INFINITY));
    }
    let all = evidence(&results(rows));
    assert!(all.iter().all(|pair| pair.problem == "p" && pair.difference.is_finite()), "{all:?}");
    assert_eq!(all.len(), 2);
}

/// Within a limit in seconds each run ends at an epoch of its own.
#[test]
fn seeds_count_with_their_own_last_epoch() {
    let mut rows = Vec::new();
    for (optimizer, ends) in [("A", [(5, 0.5), (4, 0.6), (6, 0.7)]), ("B", [(1, 0.4), (2, 0.4), (1, 0.4)])] {
        for (seed, (last, accuracy)) in ends.into_iter().enumerate() {
            for epoch in 0..=last {
                let accuracy = if epoch == last { accuracy } else { 0.1 };
                rows.push(row("p", optimizer, seed as u64, RunState::Done, epoch, accuracy, 0.5));
            }
        }
    }
    let mut results = results(rows);
    // Among runs of epochs, those that lack the last one are not done being written.
    assert!(evidence(&results).is_empty());
    results.meta["lengths"]["p"]["seconds"] = 0.5.into();
    let pair = evidence(&results).remove(0);
    assert_eq!((pair.n, pair.epoch, pair.medians), (3, 6, [0.6, 0.4]));
}

/// What a run's last step spoils is seen at its last evaluation alone.
#[test]
fn a_seed_that_ends_with_what_is_no_number_counts_as_diverged() {
    let mut rows = finished(&[("A", &[0.5, 0.6, 0.7]), ("B", &[0.4, 0.4, f64::NAN])]);
    rows.iter_mut().filter(|row| row.test_accuracy.is_some_and(f64::is_nan)).for_each(|row| row.test_loss = None);
    let mut results = results(rows);
    let filled = evidence(&results).remove(0);
    assert_eq!((filled.n, filled.range[1]), (3, 0.7 - 0.1));
    results.meta["diverged"] = "drop".into();
    assert_eq!(evidence(&results).remove(0).n, 2);
}

/// Where seeds are still missing, pairs are over fewer of them than an optimizer has.
#[test]
fn the_leader_is_the_best_over_its_own_seeds() {
    let results = results(finished(&[
        ("Adam", &[0.9, 0.9, 0.9, 0.7, 0.7, 0.7, 0.7, 0.7]),
        ("SGD", &[0.5; 3]),
        ("Momentum", &[0.8; 8]),
    ]));
    let found = leaders(&results, &evidence(&results));
    assert_eq!((found[0].optimizer.as_str(), found[0].median, found[0].pairs.len()), ("Momentum", 0.8, 2));
    assert_eq!(sentences(&found[0])[0], "p: Momentum has the highest median test accuracy, 0.8000.");
}

#[test]
fn problems_have_leaders_of_their_own() {
    let mut rows = finished(&[("A", &[0.5, 0.6]), ("B", &[0.4, 0.4])]);
    for (optimizer, accuracy) in [("A", 0.1), ("B", 0.3), ("C", 0.2)] {
        rows.extend((0..2).map(|seed| row("q", optimizer, seed, RunState::Done, 1, accuracy, 0.5)));
    }
    // Equal ones: the first stays.
    for optimizer in ["D", "E"] {
        rows.extend((0..2).map(|seed| row("r", optimizer, seed, RunState::Done, 1, 0.4, 0.5)));
    }
    let results = results(rows);
    let all = evidence(&results);
    let found: Vec<_> = leaders(&results, &all)
        .into_iter()
        .map(|leader| (leader.problem, leader.optimizer, leader.pairs.len()))
        .collect();
    let expected = [("p", "A", 1), ("q", "B", 2), ("r", "D", 1)].map(|(p, o, n)| (p.to_owned(), o.to_owned(), n));
    assert_eq!(found, expected);
    assert!(all.iter().filter(|pair| pair.problem == "q").all(|pair| (pair.epoch, pair.pairs) == (1, 3)));
}

#[test]
fn of_equal_losses_the_first_leads_where_there_is_no_accuracy() {
    let mut rows = Vec::new();
    for (optimizer, loss) in [("A", 0.5), ("B", 0.25), ("C", 0.25)] {
        let unknown =
            |seed| SeedRow { test_accuracy: None, ..row("p", optimizer, seed, RunState::Done, 1, f64::NAN, loss) };
        rows.extend((0..2).map(unknown));
    }
    let results = results(rows);
    let found = leaders(&results, &evidence(&results));
    let [leader] = &found[..] else { panic!("{found:?}") };
    assert_eq!((leader.metric, leader.optimizer.as_str()), (Metric::TestLosses, "B"));
    assert_eq!(leader.pairs.iter().map(Comparison::lead).collect::<Vec<_>>(), [0.25, 0.0]);
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
        medians: [0.75 + difference, 0.75],
        difference,
        interval: (n >= 7).then_some([difference - 0.125, difference + 0.25]),
        tuning: None,
        range: [difference - 0.25, difference + 0.5],
        p: 0.03,
        p_holm,
        pairs: 2,
        wins: 2,
        losses: 1,
        detectable: None,
    }
}

#[test]
fn a_comparison_turned_round_has_the_medians_of_the_other() {
    let turned = comparison(10, 0.05, 0.5).from("B");
    assert_eq!((turned.first.as_str(), turned.second.as_str(), turned.medians), ("B", "A", [0.75, 1.25]));
    assert_eq!((turned.difference, turned.range, turned.wins, turned.losses), (-0.5, [-1.0, -0.25], 1, 2));
}

#[test]
fn sentences_tell_size_side_and_certainty() {
    let mut said = String::new();
    let below = Comparison { metric: Metric::TestLosses, pairs: 1, ..comparison(10, 0.05, -0.5) };
    for pair in [
        comparison(10, 0.05, 0.5),
        comparison(10, 0.05, 0.5).from("B"),
        below,
        comparison(10, 0.9, 0.0).from("B"),
        comparison(6, 0.9, 0.125).from("B"),
        Comparison { pairs: 1, ..comparison(3, 0.9, 0.125) },
        comparison(1, 1.0, 0.5),
        comparison(1, 1.0, 0.5).from("B"),
        comparison(1, 1.0, 0.0),
    ] {
        writeln!(said, "{}", pair.sentence()).unwrap();
    }
    let expected = [
        "A above B on test accuracy by 0.5000 (ten seeds, interval 0.3750 to 0.7500, corrected p = 0.05).",
        "B below A on test accuracy by 0.5000 (ten seeds, interval -0.7500 to -0.3750, corrected p = 0.05).",
        "A below B on test loss by 0.5000 (ten seeds, interval -0.6250 to -0.2500, corrected p = 0.05).",
        "B and A cannot be told apart on test accuracy: 0 (ten seeds, interval -0.2500 to 0.1250, corrected p = 0.9).",
        "B better than A on test accuracy in one of six seeds, difference -0.6250 to +0.1250, median -0.1250: too few seeds to \
         decide two pairs; that takes seven.",
        "A better than B on test accuracy in two of three seeds, difference -0.1250 to +0.6250, median +0.1250: too few seeds \
         to decide one pair; that takes six.",
        "A above B on test accuracy by 0.5000 with one seed, which is no evidence.",
        "B below A on test accuracy by 0.5000 with one seed, which is no evidence.",
        "A above B on test accuracy by 0 with one seed, which is no evidence.",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

/// Whatever the values, what is said to be clear has an interval on one side of 0 with the median in it, and the other
/// way round.
#[test]
fn no_sentence_contradicts_its_interval() {
    let (mut clear, mut undecided, mut without) = (0, 0, 0);
    for (n, shift) in [(2, 0.5), (3, 0.5), (6, 0.5), (7, 0.3), (8, 0.3), (10, 0.2), (10, 0.05), (10, 0.0), (16, 0.05)] {
        let values = |optimizer: u64| -> Vec<f64> {
            // Scattered, and the same on every call.
            let noise = |seed: u64| ((seed * 7919 + optimizer * 104_729) % 97) as f64 / 970.0;
            (0..n).map(|seed| 0.2 + shift * optimizer as f64 / 2.0 + noise(seed)).collect()
        };
        let values: Vec<Vec<f64>> = (0..3).map(values).collect();
        let all = evidence(&results(finished(&[("A", &values[0]), ("B", &values[1]), ("C", &values[2])])));
        for pair in &all {
            let sentence = pair.sentence();
            match pair.interval {
                None => {
                    assert!(pair.p_holm > 0.05 && sentence.contains("too few seeds"), "{sentence}");
                    without += 1;
                }
                Some([low, high]) => {
                    assert!((low..=high).contains(&pair.difference), "{pair:?}");
                    assert_eq!(low > 0.0 || high < 0.0, pair.p_holm <= 0.05, "{pair:?}");
                    assert_eq!(sentence.contains("cannot be told apart"), !pair.is_clear(), "{sentence}");
                    *(if pair.is_clear() { &mut clear } else { &mut undecided }) += 1;
                }
            }
        }
    }
    assert!(clear > 9 && undecided > 9 && without > 9, "{clear} {undecided} {without}");
}

/// Five tunings of A would have lost 0, .1, .2, .3 or .4, those of B nothing: a clear lead of .25 is none any more.
#[test]
fn tuning_is_part_of_the_noise() {
    let accuracies: Vec<f64> = (0..8).map(|seed| 0.5 + 0.001 * f64::from(seed)).collect();
    let better: Vec<f64> = accuracies.iter().map(|value| value + 0.25).collect();
    let mut results = results(finished(&[("A", &better), ("B", &accuracies)]));
    let pair = |results: &Results| evidence(results).remove(0);
    let plain = pair(&results);
    assert!(plain.is_clear() && plain.tuning.is_none());
    for (optimizer, taken) in [("A", 0.75), ("B", 0.5)] {
        let grid = format!(
            "problem,optimizer,learning_rate,damping,test_loss,test_accuracy,best\np,{optimizer},1,,1,{taken},true\n"
        );
        results
            .grid
            .extend(csv::Reader::from_reader(grid.as_bytes()).into_deserialize::<GridRow>().map(Result::unwrap));
        for repeat in 0..5 {
            let lost = if optimizer == "A" { 0.1 * repeat as f64 } else { 0.0 };
            results.tunings.push(TuningRow {
                problem: "p".to_owned(),
                optimizer: optimizer.to_owned(),
                repeat: repeat + 1,
                test_accuracy: Some(taken - lost),
                ..TuningRow::default()
            });
        }
    }
    let tuned = pair(&results);
    // Quantiles .025 and .975 of -.4, -.3, -.2, -.1, 0.
    let [down, up] = tuned.tuning.unwrap();
    near(down, -0.39);
    near(up, -0.01);
    let ([low, high], [before, after]) = (tuned.interval.unwrap(), plain.interval.unwrap());
    near(low, before - 0.39);
    near(high, after);
    assert_eq!((tuned.p_holm, tuned.is_clear()), (plain.p_holm, false));
    assert!(tuned.sentence().contains("cannot be told apart"), "{}", tuned.sentence());
}

#[test]
fn the_verdict_names_what_the_leader_is_ahead_of() {
    let pair = |second: &str, n, p_holm, difference| Comparison {
        second: second.to_owned(),
        detectable: (n > 6).then_some(0.25),
        ..comparison(n, p_holm, difference)
    };
    let leader = |pairs: Vec<Comparison>| Leader {
        problem: "p".to_owned(),
        metric: Metric::TestAccuracies,
        optimizer: "A".to_owned(),
        median: pairs[0].medians[0],
        pairs,
    };
    let sure = leader(vec![pair("B", 10, 0.04, 0.5), pair("C", 10, 0.03, 0.75), pair("D", 10, 0.9, 0.0625)]);
    assert_eq!(
        sentences(&sure),
        [
            "p: A has the highest median test accuracy, 1.2500.",
            "It is clearly better than B and C; the smallest lead is 0.5000 (interval 0.3750 to 0.7500, corrected p = 0.04) over B.",
            "These seeds do not tell it from D.",
        ]
    );
    let shown = detectable(&sure.pairs, &sure).unwrap();
    assert!(shown.contains("a difference in test accuracy of 0.2500 or more"), "{shown}");
    let unsure = leader(vec![pair("B", 3, 0.9, 0.5), pair("C", 3, 0.9, 0.125)]);
    assert_eq!(
        sentences(&unsure)[1..],
        [
            "It was ahead of B in two of three seeds, by +0.2500 to +1.00; of C in two of three seeds, by -0.1250 to +0.6250.",
            "Three seeds cannot decide between this many optimizers, whatever the difference; that takes seven.",
        ]
    );
    assert_eq!(detectable(&unsure.pairs, &unsure), None);
    // Of many others it is not told one by one.
    let others: Vec<Comparison> =
        (0..12).map(|number| Comparison { wins: 1 + number % 3, ..pair("B", 3, 0.9, 0.5) }).collect();
    assert_eq!(
        sentences(&leader(others))[1],
        "It was ahead of each of the twelve others in one to three of three seeds."
    );
}

/// Of losses the smaller is better, so a lead's interval is that of the difference turned round.
#[test]
fn a_verdict_on_losses_tells_how_much_smaller_they_are() {
    let leader = |n, p_holm| Leader {
        problem: "p".to_owned(),
        metric: Metric::TestLosses,
        optimizer: "A".to_owned(),
        median: 0.25,
        pairs: vec![Comparison { metric: Metric::TestLosses, ..comparison(n, p_holm, -0.5) }],
    };
    assert_eq!(
        sentences(&leader(10, 0.04)),
        [
            "p: A has the lowest median test loss, 0.2500.",
            "It is clearly better than B, by 0.5000 (interval 0.2500 to 0.6250, corrected p = 0.04).",
        ]
    );
    assert_eq!(sentences(&leader(3, 0.9))[1], "It was ahead of B in two of three seeds, by 0 to +0.7500.");
}

#[test]
fn the_table_holds_every_number() {
    let csv = to_csv(&[comparison(10, 0.25, 0.5), comparison(3, 1.0, 0.5)]).unwrap();
    let line = csv.lines().nth(1).unwrap();
    assert!(line.starts_with("p,test_accuracies,A,B,3,10,0.5,0.375,0.75,0.03,0.25,2,2,"), "{line}");
    assert!(line.ends_with(",1,0.25,1,,,"), "{line}");
    // What there is none of is empty.
    assert!(csv.lines().nth(2).unwrap().starts_with("p,test_accuracies,A,B,3,3,0.5,,,0.03,1,2,2,"), "{csv}");
    assert_eq!(csv.lines().count(), 3);
    let tuned = to_csv(&[Comparison { tuning: Some([-0.25, 0.5]), ..comparison(10, 0.25, 0.5) }]).unwrap();
    assert!(tuned.lines().nth(1).unwrap().ends_with(",1,0.25,1,,-0.25,0.5"), "{tuned}");
}
