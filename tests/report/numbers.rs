//! The numbers of a report against hand-computed ones: evidence, agreement, and the first table's one by one.

use std::path::Path;

use crate::command::read;
use crate::report_support::write_study;
use backpack_run::bench::Row;
use backpack_run::report::agreement::{EpochAgreement, Reference, Within, agreement};
use backpack_run::report::evidence::{Comparison, Leader};
use backpack_run::report::results::Results;
use backpack_run::report::summary::{Estimate, Reached, Standing, SummaryRow, Tuning, legend, summary};
use backpack_run::report::{Options, report};
use backpack_run::study::experiment::Metric;

#[test]
fn evidence_is_what_one_computes_by_hand() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let pairs = report(&folder, &Options::default()).unwrap().evidence;
    let of = |first: &str, second: &str| {
        let is_it = |p: &&_| -> bool {
            let p: &backpack_run::report::evidence::Comparison = p;
            p.metric == Metric::TestAccuracies && p.first == first && p.second == second
        };
        pairs.iter().find(is_it).unwrap()
    };
    assert_eq!(pairs.len(), 6); // three pairs, two metrics
    // Differences .01 .02 .03: of eight assignments of signs two are as large; Holm: 3 * .25.
    let pair = of("KFAC", "Momentum");
    assert_eq!((pair.n, pair.epoch, pair.wins, pair.pairs), (3, 4, 3, 3));
    assert!((pair.difference - 0.02).abs() < 1e-12);
    assert!((pair.p - 0.25).abs() < 1e-12 && (pair.p_holm - 0.75).abs() < 1e-12);
    // Three seeds decide nothing, so there is no interval.
    assert_eq!((pair.interval, pair.detectable), (None, None));
    assert!((pair.range[0] - 0.01).abs() < 1e-12 && (pair.range[1] - 0.03).abs() < 1e-12);
    // Differences .01 -.01 .01: the sums are +-.01 (six times) and +-.03 (twice), all as large as .01.
    let pair = of("KFAC", "Adam");
    assert!((pair.difference - 0.01).abs() < 1e-12 && pair.p == 1.0 && pair.p_holm == 1.0);
    assert!(
        pair.sentence().starts_with("KFAC better than Adam on test accuracy in two of three seeds"),
        "{}",
        pair.sentence()
    );
    let csv = read(folder.join("evidence.csv"));
    assert_eq!(csv.lines().count(), 7);
    assert!(csv.starts_with(
        "problem,metric,first,second,epoch,n,difference,lower,upper,p,p_holm,pairs,wins,sentence,losses,"
    ));
}

#[test]
fn a_clear_difference_is_said_in_plain_words() {
    let root = crate::support::temporary_folder();
    let folder = root.path().join("clear");
    std::fs::create_dir(&folder).unwrap();
    let mut text = "problem,optimizer,seed,status,epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,test_loss,\
                    test_accuracy,train_seconds,eval_seconds\n"
        .to_owned();
    for seed in 0..10 {
        for (name, accuracy) in [("KFAC", 0.93), ("Momentum", 0.92 + 0.0001 * f64::from(seed))] {
            text.push_str(&format!("p,{name},{seed},done,1,1,0.9,1,0.9,1,{accuracy},1,1\n"));
        }
    }
    std::fs::write(folder.join("seeds.csv"), text).unwrap();
    let report = report(&folder, &Options::default()).unwrap();
    let sentence = report.evidence[0].sentence();
    assert!(sentence.starts_with("KFAC above Momentum on test accuracy by 0.00955"), "{sentence}");
    assert!(sentence.contains("ten seeds, interval 0.00932 to 0.00978, corrected p = 0.002"), "{sentence}");
    // Equal losses: no difference, p 1.
    assert_eq!((report.evidence[1].difference, report.evidence[1].p), (0.0, 1.0));
}

#[test]
fn names_with_commas_and_quotes_keep_to_their_column() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    for file in ["seeds.csv", "curves.csv", "final.csv", "grid.csv"] {
        let text = read(folder.join(file)).replace(",KFAC,", ",\"KFAC, \"\"mine\"\"\",");
        std::fs::write(folder.join(file), text).unwrap();
    }
    let reference = folder.join("curves.csv");
    let reference = Some(Reference::open(reference.to_str().unwrap()).unwrap());
    report(&folder, &Options { reference, ..Options::default() }).unwrap();
    for (file, column) in
        [("evidence.csv", "first"), ("agreement.csv", "optimizer"), ("agreement_epochs.csv", "optimizer")]
    {
        let mut reader = csv::Reader::from_path(folder.join(file)).unwrap();
        let place = reader.headers().unwrap().iter().position(|name| name == column).unwrap();
        let names: Vec<String> = reader.records().map(|row| row.unwrap()[place].to_owned()).collect();
        assert_eq!(names[0], "KFAC, \"mine\"", "{file}");
    }
}

#[test]
fn the_best_is_found_wherever_it_stands_and_its_lead_is_positive() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    // Momentum comes second in the files and is now the best.
    let text = read(folder.join("seeds.csv")).replace(",Momentum,", ",X,").replace(",KFAC,", ",Momentum,");
    std::fs::write(folder.join("seeds.csv"), text.replace(",X,", ",KFAC,")).unwrap();
    let swapped = std::fs::read_to_string(folder.join("seeds.csv")).unwrap();
    let (head, rows) = swapped.split_once('\n').unwrap();
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_by_key(|row| !row.contains("KFAC"));
    std::fs::write(folder.join("seeds.csv"), format!("{head}\n{}\n", rows.join("\n"))).unwrap();
    let pairs = report(&folder, &Options::default()).unwrap().evidence;
    let results = Results::read(&folder).unwrap();
    let leaders = backpack_run::report::evidence::leaders(&results, &pairs);
    assert_eq!(leaders.len(), 1);
    assert_eq!(
        (leaders[0].problem.as_str(), leaders[0].optimizer.as_str(), leaders[0].pairs.len()),
        ("p", "Momentum", 2)
    );
    let over_kfac = leaders[0].pairs.iter().find(|pair| pair.second == "KFAC").unwrap();
    assert!(over_kfac.difference > 0.0);
    let sentence = over_kfac.sentence();
    assert!(sentence.contains("Momentum better than KFAC on test accuracy in three of three seeds"), "{sentence}");
    assert!(sentence.contains("+0.01"), "{sentence}");
}

/// Our medians of KFAC are .1 + .82 e / 4: .305, .51, .715, .92.
const REFERENCE: [(i32, f64, f64, f64); 6] = [
    (0, 0.9, 0.9, 0.9),      // epoch 0 does not count
    (1, 0.30, 0.295, 0.300), // up to .305: once
    (2, 0.50, 0.495, 0.500), // up to .505, .51: twice
    (3, 0.73, 0.710, 0.730), // inside
    (4, 0.93, 0.925, 0.928), // from .922, .92: twice
    (9, 0.9, 0.9, 0.9),      // we have no such epoch
];

/// The report of a small study beside the reference with a further column.
fn beside_reference(folder: &Path, header: &str, end: impl Fn(i32) -> String) -> backpack_run::report::Report {
    let file = folder.join("paper.csv");
    let mut text = format!("problem,optimizer,metric,epoch,median,lower_quartile,upper_quartile{header}\n");
    for (epoch, median, lower, upper) in REFERENCE {
        text += &format!("p,KFAC,test_accuracies,{epoch},{median},{lower},{upper}{}\n", end(epoch));
    }
    std::fs::write(&file, text).unwrap();
    let reference = Some(Reference::open(file.to_str().unwrap()).unwrap());
    report(folder, &Options { reference, ..Options::default() }).unwrap()
}

#[test]
fn agreement_counts_the_epochs_within_the_widened_quartiles() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let report = beside_reference(&folder, "", |_| String::new());
    assert_eq!(report.agreements.len(), 1);
    let agreement = &report.agreements[0];
    let holds: Vec<(usize, bool)> = agreement.epochs.iter().map(|e| (e.epoch, e.is_within(1.0))).collect();
    assert_eq!(holds, [(1, true), (2, false), (3, true), (4, false)]);
    assert_eq!((agreement.counts(), agreement.share()), (Within { inside: 1, once: 2, twice: 4 }, 0.5));
    let distances: Vec<f64> = agreement.epochs.iter().map(|e| (1e6 * e.distance()).round() / 1e6).collect();
    assert_eq!(distances, [1.0, 2.0, 0.0, 1.666667]);
    let table = read(folder.join("agreement.csv"));
    let (header, row) = table.trim_end().split_once('\n').unwrap();
    let cells: std::collections::HashMap<&str, &str> = header.split(',').zip(row.split(',')).collect();
    let first = ["problem", "optimizer", "metric", "epochs", "within", "share", "inside", "within_twice"];
    assert!(header.starts_with(&first.join(",")), "{header}");
    assert_eq!(first.map(|name| cells[name]), ["p", "KFAC", "test_accuracies", "4", "2", "0.5", "1", "4"]);
    let unknown = ["expected_inside", "expected_within", "expected_within_twice", "reference_n", "difference_lower"];
    assert_eq!(unknown.map(|name| cells[name]), [""; 5]);
    assert_eq!(["last_epoch", "n"].map(|name| cells[name]), ["4", "3"]);
    assert_eq!(read(folder.join("agreement_epochs.csv")).lines().count(), 5);
    assert!(read(folder.join("tables/agreement.md")).contains("| test accuracy | 3, - | 4 | 1 | 2 | 4 |"));
}

/// Expected numbers and intervals of three seeds beside ten: shares of 54.9, 93.5 and 98.7 % and 1.665 widths, of four million
/// draws by NumPy.
#[test]
fn agreement_says_what_is_to_be_expected_of_so_many_seeds() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let report = beside_reference(&folder, ",n", |_| ",10".to_owned());
    let agreement = &report.agreements[0];
    let (expected, end) = (agreement.expected.unwrap(), &agreement.end);
    for (found, share) in [(expected.inside, 0.549), (expected.once, 0.935), (expected.twice, 0.987)] {
        assert!((found / 4.0 - share).abs() < 0.004, "{found}: {share}");
    }
    assert_eq!((end.epoch, end.seeds), (4, [Some(3), Some(10)]));
    assert!((end.difference + 0.01).abs() < 1e-9);
    assert!((end.bound.unwrap() / 0.003 - 1.665).abs() < 0.02);
    assert!(read(folder.join("tables/agreement.md")).contains("| 3, 10 | 4 | 1 (2) | 2 (4) | 4 (4) |"));
    let json: serde_json::Value = serde_json::from_str(&read(folder.join("report.json"))).unwrap();
    let said = &json["agreement"][0];
    assert_eq!(said["expected"]["within"].as_f64(), Some(expected.once));
    assert_eq!((&said["farthest"]["epoch"], &said["end"]["reference_n"]), (&2.into(), &10.into()));
    assert!(said["end"]["interval"][1].as_f64().unwrap() < 0.0);

    // Each epoch counts with its own number of seeds; one of which it is not known leaves nothing to expect.
    let mixed = beside_reference(&folder, ",n", |epoch| if epoch < 3 { ",10" } else { ",1000" }.to_owned());
    assert!(mixed.agreements[0].expected.unwrap().inside != expected.inside);
    for unknown in ["", "0", "1", "1000000000000"] {
        let end = |epoch| if epoch == 2 { format!(",{unknown}") } else { ",10".to_owned() };
        let made = beside_reference(&folder, ",n", end);
        assert_eq!((made.agreements[0].expected, made.agreements[0].end.bound), (None, None), "{unknown}");
    }

    // Of a diverged seed, the curves hold a value that it did not train to.
    let finals = read(folder.join("final.csv")).replace("3,0\n", "3,1\n");
    std::fs::write(folder.join("final.csv"), finals).unwrap();
    assert_eq!(beside_reference(&folder, ",n", |_| ",10".to_owned()).agreements[0].expected, None);
}

#[test]
fn distances_of_quartiles_that_measure_nothing_are_infinite() {
    let at = |median, lower_quartile, upper_quartile| EpochAgreement {
        epoch: 1,
        median,
        reference: 0.5,
        lower_quartile,
        upper_quartile,
    };
    let infinite = f64::INFINITY;
    assert_eq!(at(0.5, 0.5, 0.5).distance(), 0.0);
    assert_eq!(at(infinite, infinite, infinite).distance(), 0.0);
    assert_eq!(at(0.5, 0.4, infinite).distance(), 0.0);
    for outside in [at(0.6, 0.5, 0.5), at(0.3, 0.4, infinite), at(f64::NAN, 0.4, 0.6), at(0.5, f64::NAN, 0.6)] {
        assert_eq!((outside.distance(), outside.is_within(2.0)), (infinite, false), "{outside:?}");
    }
}

#[test]
fn a_metric_that_one_optimizer_alone_has_is_compared() {
    let root = crate::support::temporary_folder();
    let curves = "problem,optimizer,metric,epoch,median,lower_quartile,upper_quartile\n\
                  p,A,test_losses,1,0.5,0.4,0.6\np,B,test_accuracies,1,0.5,0.4,0.6\nq,A,train_losses,1,0.5,0.4,0.6\n";
    std::fs::write(root.path().join("curves.csv"), curves).unwrap();
    let reference = Reference::open(root.path().join("curves.csv").to_str().unwrap()).unwrap();
    let agreements = agreement(&Results::read(root.path()).unwrap(), &reference);
    let found: Vec<_> = agreements.iter().map(|a| (a.problem.as_str(), a.optimizer.as_str(), a.metric)).collect();
    let expected =
        [("p", "A", Metric::TestLosses), ("p", "B", Metric::TestAccuracies), ("q", "A", Metric::TrainLosses)];
    assert_eq!(found, expected);
}

#[test]
fn the_published_curves_agree_with_themselves() {
    let reference = Reference::open("published").unwrap();
    let value = |problem: &str, optimizer: &str, metric, epoch| {
        let is_it = |r: &&backpack_run::report::results::CurveRow| {
            r.problem == problem && r.optimizer == optimizer && r.metric == metric && r.epoch == epoch
        };
        reference.rows.iter().find(is_it).unwrap().median
    };
    // From the paper's appendix: Figures 10 and 7.
    assert_eq!(value("mnist_logreg", "DiagGGN", Metric::TestLosses, 1), 0.42546);
    assert_eq!(value("cifar10_3c3d", "KFAC", Metric::TestAccuracies, 20), 0.81701);
    let root = crate::support::temporary_folder();
    let folder = root.path().join("published");
    std::fs::create_dir(&folder).unwrap();
    let table = read(crate::support::repository("assets/published_curves.csv"));
    let table: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).collect();
    std::fs::write(folder.join("curves.csv"), table.join("\n") + "\n").unwrap();
    let report = report(&folder, &Options { reference: Some(reference), ..Options::default() }).unwrap();
    assert_eq!(report.agreements.len(), 92); // 7 + 6 + 6 + 4 optimizers, four metrics
    assert!(report.agreements.iter().all(|a| a.share() == 1.0));
    assert!(Reference::open("no/such/file.csv").is_err());
}

#[test]
fn a_reference_without_a_curve_of_the_study_is_told() {
    let root = crate::support::temporary_folder();
    let file = root.path().join("mine.csv");
    let notes = |problem: &str| {
        let folder = crate::report_support::write_study(root.path());
        let header = "problem,optimizer,metric,epoch,median,lower_quartile,upper_quartile";
        std::fs::write(&file, format!("{header}\n{problem},KFAC,test_losses,1,0.5,0.4,0.6\n")).unwrap();
        let reference = Some(Reference::open(file.to_str().unwrap()).unwrap());
        report(&folder, &Options { reference, ..Options::default() }).unwrap().notes
    };
    let is_told = |notes: &[String]| notes.iter().any(|note| note.contains("The reference mine has no curve"));
    assert!(is_told(&notes("another_problem")));
    assert!(!is_told(&notes("p")));
}

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
