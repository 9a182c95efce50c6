//! The documentation's links lead somewhere, and the commands that it names first are there.

use std::path::PathBuf;

/// Every Markdown file at the top and in docs/.
fn pages() -> Vec<PathBuf> {
    let folders = [crate::support::repository("."), crate::support::repository("docs")];
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
