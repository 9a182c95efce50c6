//! What a report shows of grids and searches.

use std::path::{Path, PathBuf};

use crate::command::read;
use backpack_run::report::figures::{Figure, figures};
use backpack_run::report::results::Results;
use backpack_run::report::{Options, report};

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
