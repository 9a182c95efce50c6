//! What a report shows of grids and searches, and of optimizers and seeds that came to nothing, or not yet.

use std::path::{Path, PathBuf};

use crate::command::read;
use crate::report_support::write_study;
use backpack_run::report::figures::{Figure, figures};
use backpack_run::report::results::Results;
use backpack_run::report::{Options, Report, report};

fn replace(path: &Path, from: &str, to: &str) {
    let text = read(path);
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// Takes the lines with this text out of a file.
fn remove_lines(path: &Path, with: &str) {
    let kept: Vec<String> =
        read(path).lines().filter(|line| !line.contains(with)).map(|line| format!("{line}\n")).collect();
    std::fs::write(path, kept.concat()).unwrap();
}

#[test]
fn an_optimizer_that_came_to_nothing_is_told_of() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let absent = |made: &Report| -> Vec<String> {
        made.notes.iter().filter(|note| note.contains("has no final values")).cloned().collect()
    };
    assert!(absent(&report(&folder, &Options::default()).unwrap()).is_empty());
    for file in ["curves.csv", "final.csv"] {
        remove_lines(&folder.join(file), ",Adam,");
        remove_lines(&folder.join(file), ",Momentum,");
    }
    // All of Adam's seeds diverged and are left out; all of Momentum's settings did, so that it has no seeds.
    replace(
        &folder.join("meta.json"),
        "\"diverged\": \"fill\"",
        "\"diverged\": \"drop\", \"tuning\": [{\"problem\": \"p\", \"optimizer\": \"SGD\"}]",
    );
    for seed in 0..3 {
        replace(&folder.join("seeds.csv"), &format!("Adam,{seed},done"), &format!("Adam,{seed},diverged"));
    }
    remove_lines(&folder.join("seeds.csv"), ",Momentum,");
    for rate in ["0.01", "0.1", "1"] {
        replace(&folder.join("grid.csv"), &format!("Momentum,{rate},,0,done"), &format!("Momentum,{rate},,0,diverged"));
    }
    let made = report(&folder, &Options::default()).unwrap();
    let mut notes = absent(&made);
    notes.sort();
    let expected = [
        "Adam on p has no final values: all its seeds diverged.",
        "Momentum on p has no final values: all its settings diverged.",
        "SGD on p has no final values: it has no finished seeds yet.",
    ];
    assert_eq!(notes, expected);
    let page = read(folder.join("index.html"));
    let top = page.split_once("<main>").unwrap().0;
    assert!(top.contains("<p>4 optimizers on p; 3 seeds.</p>"), "{}", &top[top.find("<h1>").unwrap()..]);
    assert!(expected.iter().all(|note| top.contains(note)));
    // Of two seeds that have not begun nothing is known.
    for seed in 1..3 {
        remove_lines(&folder.join("seeds.csv"), &format!(",Adam,{seed},"));
    }
    let notes = absent(&report(&folder, &Options::default()).unwrap());
    assert!(notes.contains(&"Adam on p has no final values: all its seeds so far diverged.".to_owned()), "{notes:?}");
}

/// Seeds that are not finished stay at home; diverged ones come back as such, and others, of however many epochs, as done.
#[test]
fn finished_seeds_alone_go_out_to_deepobs() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let seeds = folder.join("seeds.csv");
    for (seed, state) in [(0, "running"), (1, "interrupted"), (2, "diverged")] {
        replace(&seeds, &format!("Adam,{seed},done"), &format!("Adam,{seed},{state}"));
        remove_lines(&seeds, &format!("Adam,{seed},{state},3,"));
        remove_lines(&seeds, &format!("Adam,{seed},{state},4,"));
    }
    // As where seconds are limited: one seed got no further than this.
    remove_lines(&seeds, "Momentum,1,done,4,");
    let made = report(&folder, &Options { export_deepobs: true, ..Options::default() }).unwrap();
    assert_eq!(made.exported, 7);
    let runs = |optimizer: &str| -> Vec<(u64, u64, usize)> {
        let setting = std::fs::read_dir(folder.join("deepobs/p").join(optimizer)).unwrap().next().unwrap().unwrap();
        let files = std::fs::read_dir(setting.path()).unwrap().map(|file| read(file.unwrap().path()));
        let mut runs: Vec<(u64, u64, usize)> = files
            .map(|text| {
                let run: serde_json::Value = serde_json::from_str(&text).unwrap();
                let length = run["test_losses"].as_array().unwrap().len();
                (run["random_seed"].as_u64().unwrap(), run["num_epochs"].as_u64().unwrap(), length)
            })
            .collect();
        runs.sort();
        runs
    };
    assert_eq!(runs("AdamOptimizer"), [(2, 4, 3)]);
    assert_eq!(runs("MomentumOptimizer"), [(0, 4, 5), (1, 3, 4), (2, 4, 5)]);
}

#[test]
fn a_study_that_cannot_be_reported_stops_no_other() {
    let root = crate::support::temporary_folder();
    for name in ["bad", "worse", "good"] {
        std::fs::rename(write_study(root.path()), root.path().join(name)).unwrap();
        replace(&root.path().join(name).join("meta.json"), "\"small\"", &format!("\"{name}\""));
    }
    replace(&root.path().join("bad/seeds.csv"), ",done,1,", ",done,x,");
    replace(&root.path().join("worse/grid.csv"), "p,KFAC,0.1,", "p,KFAC,y,");
    let run = |arguments: &[&str]| {
        let mut command = crate::support::program();
        let output = command.arg("report").args(arguments).env("BACKPACK_RUN_RESULTS", root.path()).assert().code(3);
        let output = output.get_output();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let (said, errors) = run(&[]);
    assert!(said.starts_with("good: ") && root.path().join("good/index.html").is_file(), "{said}{errors}");
    let last = errors.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains("bad/seeds.csv"), "{errors}");
    assert!(errors.contains("worse: no report of this study") && errors.contains("worse/grid.csv"), "{errors}");
    // No comparison goes without one of its studies, and nothing at all says nothing.
    run(&["good", "bad", "--side-by-side", "both"]);
    assert!(!root.path().join("both").exists());
    assert_eq!(run(&["bad", "--format", "json"]).0, "");
}

/// A folder with a study of which there is nothing but its grid.
fn write_grid(root: &Path, grid: &str) -> PathBuf {
    let folder = root.join("tuned");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("grid.csv"), grid).unwrap();
    folder
}

fn figure(folder: &Path, stem: &str) -> Option<Figure> {
    figures(&Results::read(folder).unwrap(), None).into_iter().find(|figure| figure.stem == stem)
}

#[test]
fn the_budget_is_in_settings_also_where_options_are_gridded() {
    let mut grid =
        "problem,optimizer,learning_rate,damping,momentum,seed,status,epoch,valid_accuracy,rank,best\n".to_owned();
    for (rate, accuracies) in [(0.1, [0.1, 0.2, 0.9]), (0.2, [0.1, 0.2, 0.8])] {
        for (momentum, accuracy) in [0.0, 0.5, 0.9].iter().zip(accuracies) {
            grid += &format!("p,Momentum,{rate},,{momentum},0,done,4,{accuracy},,false\n");
        }
    }
    let root = crate::support::temporary_folder();
    let budget = figure(&write_grid(root.path(), &grid), "budget_p").unwrap();
    let values: Vec<f64> = budget.data.iter().map(|datum| datum.value).collect();
    assert_eq!(values.len(), 6);
    // One setting is worth the mean, (.1 + .2 + .9 + .1 + .2 + .8) / 6; all of them the best.
    assert!((values[0] - 2.3 / 6.0).abs() < 1e-12 && (values[5] - 0.9).abs() < 1e-12, "{values:?}");
    // Of two of six settings, the best is .9 in 5 of 15 pairs, .8 in 4, .2 in 5 and .1 in 1.
    assert!((values[1] - (5.0 * 0.9 + 4.0 * 0.8 + 5.0 * 0.2 + 0.1) / 15.0).abs() < 1e-12, "{values:?}");
    assert!(budget.caption.contains("n = 1 per setting"), "{}", budget.caption);
}

#[test]
fn drawn_settings_are_a_list_and_not_a_table_of_gaps() {
    let mut grid =
        "problem,optimizer,learning_rate,damping,kfac_approx,seed,status,epoch,valid_accuracy,rank,best\n".to_owned();
    for (place, (accuracy, rank)) in [(0.5, 3), (0.7, 2), (0.4, 4), (0.9, 1)].into_iter().enumerate() {
        let (rate, damping, best) = (0.1 + place as f64, 9.5 - place as f64, rank == 1);
        let approximation = if place < 2 { "expand" } else { "reduce" };
        grid += &format!("p,KFAC,{rate},{damping},{approximation},0,done,4,{accuracy},{rank},{best}\n");
    }
    grid += "p,KFAC,5.5,4.5,expand,0,diverged,1,,5,false\np,KFAC,6.5,3.5,expand,0,waiting,,,,false\n";
    let root = crate::support::temporary_folder();
    let folder = write_grid(root.path(), &grid);
    report(&folder, &Options::default()).unwrap();
    let page = read(folder.join("index.html"));
    let list = page.split_once("id=\"grids\"").unwrap().1.split_once("</details>").unwrap().0;
    let texts = |row: &str| -> Vec<String> {
        let parts = row.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text.trim());
        parts.filter(|text| !text.is_empty()).map(str::to_owned).collect()
    };
    let rows: Vec<Vec<String>> = list.split("<tr>").skip(1).map(texts).collect();
    let expected = [
        vec!["learning rate", "damping", "kfac approx", "validation accuracy"],
        vec!["3.1", "6.5", "reduce", "★", "0.9000"],
        vec!["1.1", "8.5", "expand", "0.7000"],
        vec!["0.1", "9.5", "expand", "0.5000"],
        vec!["2.1", "7.5", "reduce", "0.4000"],
        vec!["5.5", "4.5", "expand", "diverged"],
        vec!["6.5", "3.5", "expand", "-"],
    ];
    assert_eq!(rows, expected);
    // A grid of which little is done yet is none of drawn settings.
    let mut grid = "problem,optimizer,learning_rate,damping,seed,status,epoch,valid_accuracy,rank,best\n".to_owned();
    for rate in 1..=3 {
        for damping in 1..=3 {
            let state = if rate == 1 && damping == 1 { "done,4,0.5" } else { "waiting,," };
            grid += &format!("p,KFAC,{rate},{damping},0,{state},,false\n");
        }
    }
    let folder = write_grid(root.path(), &grid);
    report(&folder, &Options::default()).unwrap();
    assert!(read(folder.join("index.html")).contains(">damping 3</th>"));
}

#[test]
fn captions_tell_what_epochs_halving_gave() {
    let mut grid = "problem,optimizer,learning_rate,damping,seed,status,epoch,valid_accuracy,rank,best\n".to_owned();
    for (rate, state) in ["done,1,0.2,4", "done,4,0.6,1", "done,2,0.4,2", "diverged,0,,5"].iter().enumerate() {
        grid += &format!("p,KFAC,{},1,0,{state},false\np,KFAC,{},2,0,{state},false\n", rate + 1, rate + 1);
    }
    let root = crate::support::temporary_folder();
    let folder = write_grid(root.path(), &grid);
    let captions = |meta: &str| {
        std::fs::write(folder.join("meta.json"), meta).unwrap();
        report(&folder, &Options::default()).unwrap();
        (read(folder.join("captions.md")), read(folder.join("index.html")))
    };
    let (figures, page) = captions(r#"{"experiment": {"halving": 2}}"#);
    let told = "after the epochs that halving gave each setting (1 to 4)";
    assert_eq!((figures.matches(told).count(), page.matches(&format!("{told}. Dashed")).count()), (2, 1), "{figures}");
    assert!(!figures.contains("at the last epoch") && figure(&folder, "budget_p").is_none(), "{figures}");
    // Limits in seconds give all settings the same time.
    let (figures, _) = captions(r#"{"length": {"seconds": 60}}"#);
    assert_eq!(figures.matches("at the last epoch").count(), 3, "{figures}");
}
