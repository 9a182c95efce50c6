//! What holds for the whole checkout: the documentation's links lead somewhere, and the commands that it names first are
//! there; the shell scripts pass shellcheck, and each says in its first lines what it does; every fuzz target has seeds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// Every Markdown file at the top and in docs/.
fn pages() -> Vec<PathBuf> {
    let folders = [".", "docs", "docs/reference"].map(crate::support::repository);
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut checked = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("https://") || target.starts_with("http://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: {target} leads nowhere", page.display());
            if !heading.is_empty() && !heading.eq_ignore_ascii_case("unreleased") {
                let text = std::fs::read_to_string(&file).unwrap();
                let found = text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{}: {target} has no such heading", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} links were found");
}

#[cfg(unix)]
#[test]
fn the_two_commands_come_first_and_ci_runs_one_of_them() {
    use std::os::unix::fs::PermissionsExt;
    let readme = std::fs::read_to_string(crate::support::repository("README.md")).unwrap();
    let first_block = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let commands: Vec<_> = first_block.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(commands, ["scripts/quickstart.sh", "scripts/test.sh"]);
    for command in commands.into_iter().chain([".ci/run"]) {
        let mode = std::fs::metadata(crate::support::repository(command)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{command} is executable");
    }
    let ci = std::fs::read_to_string(crate::support::repository(".ci/run")).unwrap();
    assert!(ci.lines().any(|line| line == "exec scripts/test.sh"));
    assert!(ci.contains("export REQUIRE_ALL=1"));
}

/// The site's own check: every page in the navigation, every link between pages. Its warnings are errors.
#[test]
fn the_site_builds() {
    let mkdocs = |arguments: &[&str]| {
        std::process::Command::new("mkdocs").args(arguments).current_dir(crate::support::repository(".")).output()
    };
    if mkdocs(&["--version"]).is_err() {
        crate::support::skip!("the_site_builds", "mkdocs is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    let built = mkdocs(&["build", "--site-dir", site.to_str().unwrap()]).unwrap();
    let told = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{told}");
    // Pages of the repository outside docs/ are no part of the site.
    let warnings = told.lines().filter(|line| line.contains("WARNING") && !line.contains("'../"));
    assert_eq!(warnings.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(std::fs::read_to_string(site.join("search/search_index.json")).unwrap().contains("batch_grad"));
    // A block of code that the site does not see, as with two words behind its ```, is a paragraph there, and takes the
    // headings behind it along.
    for page in pages().into_iter().filter(|page| page.parent().is_some_and(|folder| folder.ends_with("docs"))) {
        let name = page.file_stem().unwrap().to_str().unwrap();
        let place = if name == "index" { site.join("index.html") } else { site.join(name).join("index.html") };
        let shown = std::fs::read_to_string(place).unwrap();
        assert!(!shown.contains("```"), "{name}: a block of code is not seen");
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(shown.contains(&format!("id=\"{target}\"")), "{name}: no heading {target}");
        }
    }
}

/// The pages that are made from what the program says of itself; `scripts/make_reference.py` writes them anew.
#[test]
fn the_reference_is_what_the_program_says() {
    let folder = tempfile::tempdir().unwrap();
    let script = crate::support::repository("scripts/make_reference.py");
    let program = crate::support::program_path();
    let made = std::process::Command::new("python3").arg(script).arg(program).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut pages = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let committed = crate::support::repository("docs/reference").join(path.file_name().unwrap());
        let (now, before) = (std::fs::read_to_string(&path).unwrap(), std::fs::read_to_string(&committed).unwrap());
        let first = now.lines().zip(before.lines()).find(|(now, before)| now != before);
        let how = "run scripts/make_reference.py target/release/backpack-run docs/reference";
        assert!(now == before, "{} is not what the program says now ({first:?}); {how}", committed.display());
        pages += 1;
    }
    assert_eq!(pages, 5);
}

/// Every shell script of the repository.
fn scripts() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(crate::support::repository("scripts")).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    let mut scripts: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "sh")).collect();
    scripts.push(crate::support::repository(".ci/run"));
    scripts
}

#[test]
fn scripts_pass_shellcheck() {
    if std::process::Command::new("shellcheck").arg("--version").output().is_err() {
        crate::support::skip!("scripts_pass_shellcheck", "shellcheck is not installed");
    }
    Command::new("shellcheck").args(scripts()).assert().success().stdout("");
}

#[test]
fn scripts_say_what_they_do() {
    for path in scripts() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#!/usr/bin/env bash"), "{}", path.display());
        assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{}", path.display());
        assert!(text.contains("set -euo pipefail"), "{}", path.display());
    }
}

/// They are not stored: a script makes them before fuzzing.
#[test]
fn every_fuzz_target_has_seeds() {
    let folder = crate::support::temporary_folder();
    let script = crate::support::repository("fuzz/make_seeds.py");
    Command::new("python3").arg(script).arg(folder.path()).assert().success().stdout("").stderr("");
    let names = |folder: &Path| -> BTreeSet<String> {
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(folder.path()), names(&crate::support::repository("fuzz/fuzz_targets")));
}
