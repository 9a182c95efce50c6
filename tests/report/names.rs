//! `report` and names: files, panels and texts of each name are its own, whatever it is made of; folders that lead in
//! circles and files that are none.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::report_support::{HOSTILE, add_study, write_study, write_study_of};
use backpack_run::report::agreement::Reference;
use backpack_run::report::{Options, Report, report};

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// The files below a folder with their content.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => drop(all.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    all
}

/// The content of the page's script element with the curves' data.
fn panels(folder: &Path) -> serde_json::Value {
    let page = read(folder.join("index.html"));
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"curves\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// Three problems whose names differ in a dot, in a `_`, and in nothing but their case.
const ALIKE: [&str; 3] = ["net.v1", "net_v1", "NET_V1"];

fn report_of_names_alike(root: &Path, options: &Options) -> (PathBuf, Report) {
    let folder = write_study_of(root, ALIKE[0], |name| name.to_owned());
    for (place, problem) in ALIKE.iter().enumerate().skip(1) {
        // Other values, so that what belongs to one of them can be told.
        let lower = |value: f64| value - 0.1 * place as f64;
        add_study(&folder, problem, lower);
    }
    let made = report(&folder, options).unwrap();
    (folder, made)
}

#[test]
fn problems_whose_names_look_alike_have_figures_of_their_own() {
    let root = crate::support::temporary_folder();
    let (folder, made) = report_of_names_alike(root.path(), &Options::default());
    let figures = files(&folder.join("figures"));
    assert_eq!(figures.len(), 3 * made.figures.len());
    // Five of each problem, and the ranks.
    assert_eq!(made.figures.len(), 3 * 5 + 1);
    let folded: BTreeSet<String> = figures.keys().map(|path| path.display().to_string().to_lowercase()).collect();
    assert_eq!(folded.len(), figures.len(), "a system that takes no notice of case has fewer files: {folded:?}");
    // A plain name keeps its files' names.
    for kind in ["curves_net_v1_epochs", "curves_net_v1_seconds", "grid_net_v1", "sensitivity_net_v1", "budget_net_v1"]
    {
        let figure = read(folder.join("figures").join(format!("{kind}.svg")));
        assert!(
            figure.contains("net_v1</title>") || figure.contains("net_v1 over") || figure.contains("net_v1:"),
            "{kind}"
        );
    }
    let page = read(folder.join("index.html"));
    let ids: Vec<&str> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{ids:?}");
}

#[test]
fn each_panel_has_its_own_problems_values() {
    let root = crate::support::temporary_folder();
    let (folder, _) = report_of_names_alike(root.path(), &Options::default());
    let panels = panels(&folder);
    assert_eq!(panels.as_object().unwrap().len(), 3 * 8);
    let last = |panel: &str| {
        let lines = panels[format!("{panel}-epochs")]["lines"].as_array().unwrap();
        let line = lines.iter().find(|line| line["name"] == "KFAC").unwrap();
        line["points"].as_array().unwrap().last().unwrap()[1].as_f64().unwrap()
    };
    for (panel, value) in [("net=2ev1", 0.92), ("net_v1", 0.82), ("NET_V1", 0.72)] {
        assert!((last(&format!("{panel}-test_accuracies")) - value).abs() < 1e-9, "{panel}");
    }
}

#[test]
fn exported_runs_of_names_alike_are_all_there_and_stay_in_their_folder() {
    let root = crate::support::temporary_folder();
    let (folder, made) = report_of_names_alike(root.path(), &Options { export_deepobs: true, ..Options::default() });
    let exported = files(&folder.join("deepobs"));
    assert_eq!((exported.len(), made.exported), (27, 27));
    let folded: BTreeSet<String> = exported.keys().map(|path| path.display().to_string().to_lowercase()).collect();
    assert_eq!(folded.len(), 27);

    let root = crate::support::temporary_folder();
    let evil = |name: &str| if name == "KFAC" { "../../../of optimizers".to_owned() } else { name.to_owned() };
    let folder = write_study_of(&root.path().join("a/b"), "../../of problems", evil);
    let before: BTreeSet<PathBuf> = files(root.path()).into_keys().filter(|path| !path.starts_with(&folder)).collect();
    assert_eq!(report_with(&folder, &[]).exported, 9);
    let after: BTreeSet<PathBuf> = files(root.path()).into_keys().filter(|path| !path.starts_with(&folder)).collect();
    assert_eq!(before, after);
    assert_eq!(files(&folder.join("deepobs")).len(), 9);
}

#[test]
fn a_report_takes_any_names() {
    for name in HOSTILE {
        let root = crate::support::temporary_folder();
        let folder =
            write_study_of(
                root.path(),
                name,
                |optimizer| if optimizer == "KFAC" { name.to_owned() } else { optimizer.to_owned() },
            );
        let reference = Some(Reference::open(folder.join("curves.csv").to_str().unwrap()).unwrap());
        let made = report(&folder, &Options { reference, export_deepobs: true, ..Options::default() });
        let made = made.unwrap_or_else(|error| panic!("{name:?}: {error}"));
        assert_eq!((made.figures.len(), made.exported, made.agreements.len()), (5, 9, 18), "{name:?}");
        assert_eq!(files(&folder.join("figures")).len(), 15, "{name:?}");
        for (path, content) in files(&folder.join("figures")) {
            if path.extension().is_some_and(|ending| ending == "svg") {
                let text = String::from_utf8(content).unwrap();
                let tree =
                    roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{name:?} {path:?}: {error}"));
                assert_eq!(tree.root_element().attribute("width"), Some("460"), "{name:?} {path:?}");
            }
        }
        // CSV gives the very name back.
        for (file, column) in
            [("evidence.csv", "problem"), ("agreement.csv", "problem"), ("agreement_epochs.csv", "problem")]
        {
            let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_path(folder.join(file)).unwrap();
            let place = reader.headers().unwrap().iter().position(|header| header == column).unwrap();
            let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
            assert!(!rows.is_empty() && rows.iter().all(|row| &row[place] == name), "{name:?} {file}");
            assert!(rows.iter().any(|row| row.iter().skip(1).any(|cell| cell == name)), "{name:?} {file}");
        }
        // One row per line, of as many cells as the header has.
        let table = read(folder.join("tables/final.md"));
        let cells = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(rows.len(), 2 + 3, "{name:?}: {table}");
        assert!(rows.iter().all(|row| cells(row) == 9), "{name:?}: {table}");
        let table = read(folder.join("tables/final.tex"));
        let rows: Vec<&str> = table.lines().filter(|line| line.ends_with("\\\\")).collect();
        assert_eq!(rows.len(), 1 + 3, "{name:?}: {table}");
        for row in rows {
            let plain = row.replace("\\textbackslash", "").replace("\\&", "").replace("\\%", "");
            assert_eq!((plain.matches('&').count(), plain.matches('%').count()), (7, 0), "{name:?}: {row}");
            assert!(!row.starts_with('[') && !row.starts_with('*'), "{name:?}: {row}");
        }
        assert_eq!(panels(&folder).as_object().unwrap().len(), 8, "{name:?}");
    }
}

#[test]
fn a_terminal_is_told_names_and_nothing_else() {
    let root = crate::support::temporary_folder();
    let name = "KFAC\u{1b}]0;title\u{7}\u{202e}\nnote: all is well";
    let folder = write_study_of(root.path(), "p\u{1b}[2J", |optimizer| optimizer.replace("KFAC", name));
    let output = crate::support::program().arg("report").arg(&folder).assert().success();
    let said = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(
        said.contains("p\\u{1b}[2J: KFAC\\u{1b}]0;title\\u{7}\\u{202e}\\nnote: all is well has the highest"),
        "{said}"
    );
    assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}']) && !said.contains("\nnote: all"), "{said}");
}

fn link(target: &Path, path: &Path) {
    std::os::unix::fs::symlink(target, path).unwrap();
}

fn pipe(path: &Path) {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the text ends with a zero and lives until the call is over.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn folders_that_lead_in_circles_are_gone_through_once() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    assert_eq!(report_with(&folder, &[]).exported, 9);
    let runs = root.path().join("runs");
    std::fs::rename(folder.join("deepobs"), &runs).unwrap();
    // Each of these doubles the paths that there are.
    for name in ["a", "b", "c"] {
        link(&runs, &runs.join("p").join(name));
        link(Path::new("."), &runs.join(name));
    }
    link(Path::new("nowhere"), &runs.join("gone"));
    let mut command = crate::support::program();
    command.arg("report").arg(&folder).arg("--deepobs").arg(&runs).timeout(Duration::from_secs(60));
    command.assert().success();
    let rows = report_with(&folder, &[runs]).evidence;
    let own = rows.iter().find(|pair| pair.first == "KFAC" && pair.second == "KFAC (DeepOBS)").unwrap();
    assert_eq!((own.n, own.difference), (3, 0.0));
}

fn report_with(folder: &Path, deepobs: &[PathBuf]) -> Report {
    let options = Options { deepobs: deepobs.to_vec(), export_deepobs: deepobs.is_empty(), ..Options::default() };
    report(folder, &options).unwrap()
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let runs = root.path().join("runs");
    std::fs::create_dir(&runs).unwrap();
    pipe(&runs.join("random_seed__0__1970-01-01-00-00-00.json"));
    let refused = |arguments: &[&Path], file: &str| {
        let mut command = crate::support::program();
        command.arg("report").arg(&folder).args(arguments).timeout(Duration::from_secs(60));
        let output = command.assert().code(3);
        let said = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(said.contains(file) && said.contains("regular file"), "{said}");
    };
    refused(&[Path::new("--deepobs"), &runs], "random_seed__0__");
    for file in ["curves.csv", "meta.json"] {
        std::fs::remove_file(folder.join(file)).unwrap();
        pipe(&folder.join(file));
        refused(&[], file);
        std::fs::remove_file(folder.join(file)).unwrap();
    }
}
