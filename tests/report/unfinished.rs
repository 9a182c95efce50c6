//! What a report says and writes of optimizers and seeds that came to nothing, or not yet.

use std::path::Path;

use crate::command::read;
use crate::report_support::write_study;
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
