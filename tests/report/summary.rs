//! The first table's numbers one by one, worked out by hand.

use backpack_run::bench::Row;
use backpack_run::report::evidence::{Comparison, Leader};
use backpack_run::report::results::Results;
use backpack_run::report::summary::{Estimate, Reached, Standing, SummaryRow, Tuning, legend, summary};
use backpack_run::study::experiment::Metric;

fn rows<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
    csv::Reader::from_reader(text.as_bytes()).into_deserialize().map(|row| row.unwrap()).collect()
}

/// Nine seeds of KFAC with accuracies .1 to .9, three of Adam with .2, .8 and .3, two of SGD with .95, which KFAC has not;
/// of each the evaluation before training, and one epoch of `1 + seed` seconds.
fn results() -> Results {
    let mut seeds =
        "problem,optimizer,seed,status,epoch,test_loss,test_accuracy,train_seconds,eval_seconds\n".to_owned();
    let kfac: Vec<(u64, f64)> = (0..9).map(|seed| (seed, (9 - seed) as f64 / 10.0)).collect();
    let adam = vec![(0, 0.2), (1, 0.8), (2, 0.3)];
    let sgd = vec![(20, 0.95), (21, 0.95)];
    for (optimizer, values) in [("KFAC", kfac), ("Adam", adam), ("SGD", sgd)] {
        for (seed, accuracy) in values {
            seeds += &format!("p,{optimizer},{seed},done,0,9,0.05,500,1\n");
            seeds += &format!("p,{optimizer},{seed},done,1,{},{accuracy},{},1\n", 1.0 - accuracy, 1 + seed);
        }
    }
    let head = "problem,optimizer,learning_rate,damping,edge,metric,median,lower_quartile,upper_quartile,mean,std,n,diverged,\
                target_steps,target_epochs,target_seconds,target_reached";
    let finals = format!(
        "{head}\n\
         p,KFAC,0.1,1,interior,test_accuracies,0.5,0,0,0,0,9,2,30,1.5,7,4\n\
         p,Adam,0.1,,interior,test_accuracies,0.3,0,0,0,0,3,0,,,,1\n\
         p,Adam,0.1,,interior,test_losses,0.7,0,0,0,0,3,0,,,,1\n\
         p,Lost,0.1,,interior,test_losses,0.25,0,0,0,0,3,0,,,,\n"
    );
    let grid = "problem,optimizer,learning_rate,damping,seed,status,epoch,rank,best\n\
                p,KFAC,0.1,10,0,done,4,1,true\n\
                p,KFAC,0.1,10,1,done,4,1,true\n\
                p,KFAC,0.3,2,0,done,4,2,false\n\
                p,KFAC,0.3,2,1,diverged,1,2,false\n\
                p,KFAC,0.2,5,0,done,4,3,false\n\
                p,KFAC,0.2,5,1,done,4,3,false\n\
                p,Adam,0.1,,0,done,4,1,true\n\
                p,SGD,0.1,,0,done,4,1,true\n\
                p,SGD,1,,0,done,4,2,false\n";
    Results { seeds: rows(&seeds), finals: rows(&finals), grid: rows(grid), ..Results::default() }
}

fn bench(figure: &str, problem: &str, quantity: &str, ratio: f64, peak_bytes: u64) -> Row {
    Row {
        figure: figure.to_owned(),
        problem: problem.to_owned(),
        quantity: quantity.to_owned(),
        batch_size: 64,
        threads: 1,
        rounds: 3,
        gradient_seconds: 1.0,
        seconds: ratio,
        ratio,
        ratio_low: ratio,
        ratio_high: ratio,
        peak_bytes: Some(peak_bytes),
    }
}

/// KFAC leads, clearly before Adam.
fn leader() -> Leader {
    let pair = Comparison {
        problem: "p".to_owned(),
        metric: Metric::TestAccuracies,
        first: "KFAC".to_owned(),
        second: "Adam".to_owned(),
        epoch: 1,
        n: 3,
        medians: [0.8, 0.3],
        difference: 0.5,
        interval: Some([0.1, 0.9]),
        tuning: None,
        range: [0.1, 0.9],
        p: 0.01,
        p_holm: 0.02,
        pairs: 3,
        wins: 3,
        losses: 0,
        detectable: None,
    };
    Leader {
        problem: "p".to_owned(),
        metric: Metric::TestAccuracies,
        optimizer: "KFAC".to_owned(),
        median: 0.8,
        pairs: vec![pair],
    }
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
}

fn estimates(found: Option<&Estimate>, [median, low, high]: [f64; 3], interval: Option<[f64; 2]>) {
    let found = found.unwrap();
    near(found.median, median);
    near(found.range[0], low);
    near(found.range[1], high);
    assert_eq!(found.interval.is_some(), interval.is_some());
    for (found, expected) in found.interval.into_iter().flatten().zip(interval.into_iter().flatten()) {
        near(found, expected);
    }
}

#[test]
fn every_number_of_a_row_is_that_by_hand() {
    let bench = [
        bench("6", "p", "kfac", 9.0, 9),
        bench("steps", "q", "kfac", 8.0, 8),
        bench("steps", "p", "adam", f64::NAN, 7),
        bench("steps", "p", "kfac", 3.5, 4096),
    ];
    let mut results = results();
    let found = summary(&results, &[leader()], &bench);
    let names: Vec<(&str, Standing)> = found.iter().map(|row| (row.optimizer.as_str(), row.standing)).collect();
    // The leader first, whatever those have that share no seed with it; what is not known last.
    let expected = [("KFAC", Standing::Best), ("Adam", Standing::Behind), ("Lost", Standing::Unknown)];
    assert_eq!(names, expected);
    let [kfac, adam, lost] = &found[..] else { panic!("{names:?}") };
    // Of nine values the second and the eighth: 2 P(B <= 1) = 20 / 512.
    estimates(kfac.accuracy.as_ref(), [0.5, 0.1, 0.9], Some([0.2, 0.8]));
    estimates(adam.accuracy.as_ref(), [0.3, 0.2, 0.8], None);
    estimates(adam.loss.as_ref(), [0.7, 0.2, 0.8], None);
    // Without seeds a row has what final.csv says.
    assert_eq!((lost.loss.as_ref().unwrap().median, &lost.accuracy), (0.25, &None));
    assert!(lost.loss.as_ref().unwrap().range[0].is_nan() && lost.loss.as_ref().unwrap().interval.is_none());
    assert_eq!([kfac, adam, lost].map(|row| row.epoch_seconds), [Some(5.0), Some(2.0), None]);
    assert_eq!([kfac, adam, lost].map(|row| row.step_cost), [Some(3.5), None, None]);
    assert_eq!([kfac, adam, lost].map(|row| row.peak_bytes), [Some(4096), Some(7), None]);
    assert_eq!([kfac, adam, lost].map(|row| row.baseline), [false, true, false]);
    assert_eq!([kfac, adam, lost].map(|row| (row.n, row.diverged)), [(9, 2), (3, 0), (3, 0)]);
    let reached = |steps, epochs, seconds, seeds| Some(Reached { steps, epochs, seconds, seeds });
    assert_eq!(kfac.reached, reached(Some(30.0), Some(1.5), Some(7.0), 4));
    assert_eq!(adam.reached, reached(None, None, None, 1));
    assert_eq!(lost.reached, None);
    let three = Tuning { settings: 3, epochs: 21, learning_rates: [0.1, 0.3], dampings: Some([2.0, 10.0]) };
    assert_eq!([&kfac.tuning, &adam.tuning, &lost.tuning], [&Some(three.clone()), &None, &None]);
    // What the study says of its tuning counts.
    results.meta["tuning"] = serde_json::json!([
        { "problem": "q", "optimizer": "KFAC", "budget": 90, "epochs": 91 },
        { "problem": "p", "optimizer": "Adam", "budget": 1, "epochs": 93 },
        { "problem": "p", "optimizer": "KFAC", "budget": 12, "epochs": 40 },
    ]);
    let told = summary(&results, &[leader()], &bench);
    assert_eq!(told[0].tuning, Some(Tuning { settings: 12, epochs: 40, ..three }));
}

#[test]
fn without_a_leader_the_highest_median_is_first() {
    let mut results = results();
    results.finals.clear();
    let metrics = "problem,optimizer,metric,epoch,median,lower_quartile,upper_quartile\n\
                   p,Adam,test_accuracies,1,0.3,0,0\np,KFAC,test_accuracies,1,0.5,0,0\np,SGD,test_accuracies,1,0.95,0,0\n";
    results.curves = rows(metrics);
    let found = summary(&results, &[], &[]);
    let order: Vec<(&str, usize)> = found.iter().map(|row| (row.optimizer.as_str(), row.n)).collect();
    assert_eq!(order, [("SGD", 2), ("KFAC", 9), ("Adam", 3)]);
    assert!(found.iter().all(|row| row.standing == Standing::Unknown && row.diverged == 0));
    let two: Vec<Option<&Tuning>> = found.iter().map(|row: &SummaryRow| row.tuning.as_ref()).collect();
    assert_eq!(two[0].unwrap(), &Tuning { settings: 2, epochs: 8, learning_rates: [0.1, 1.0], dampings: None });
}

#[test]
fn the_legend_tells_of_every_bracket_and_mark() {
    let row = |problem: &str, standing: Standing, interval: Option<[f64; 2]>| SummaryRow {
        problem: problem.to_owned(),
        standing,
        accuracy: Some(Estimate { median: 0.5, interval, range: [0.1, 0.9] }),
        loss: None,
        ..summary(&results(), &[], &[]).remove(0)
    };
    let (many, few) = (Some([0.2, 0.8]), None);
    let (interval, range) = ("95\u{a0}% interval of the median", "smallest and largest values");
    let text = legend(&[row("p", Standing::Best, many), row("p", Standing::Level, few)]);
    assert!(text.contains(interval) && text.contains(range) && !text.contains('?'), "{text}");
    let text = legend(&[row("p", Standing::Best, many), row("p", Standing::Unknown, many)]);
    assert!(text.contains(interval) && !text.contains(range), "{text}");
    assert!(text.contains("; ?: it shares no finished seed with the best."), "{text}");
    let alone = row("q", Standing::Unknown, few);
    let text = legend(std::slice::from_ref(&alone));
    assert!(!text.contains(interval) && text.contains(range), "{text}");
    assert!(text.contains("; ?: no other optimizer shares a finished seed with it."), "{text}");
    let text = legend(&[row("p", Standing::Best, many), row("p", Standing::Unknown, few), alone]);
    assert!(text.contains("; ?: it shares no finished seed with the best, or with any other."), "{text}");
}
