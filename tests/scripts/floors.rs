//! Who may import whom: the floors of docs/architecture.md, held to the imports of the sources.

use std::path::Path;

/// What a module must not import although it stands below it, and why.
const WALLS: &[(&str, &[&str], &str)] = &[(
    "report",
    &["study::store", "study::run", "study::launch"],
    "a report reads files of results, and knows nothing of how runs are kept",
)];

/// What knows nothing of the command line, not even in messages.
const SPEECHLESS: [&str; 3] = ["backpack", "optimizers", "problems"];

/// The floors of the page, the highest first.
fn floors(page: &str) -> Vec<Vec<String>> {
    let section = page.split("\n## Which module may import which\n").nth(1).expect("the section of that name");
    let block = section.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("its floors");
    block.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The module of a source file, in parts: `src/study/store/mod.rs` is `study::store`.
pub fn module(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file.iter().skip(1).map(|part| part.to_str().unwrap().to_owned()).collect();
    let last = parts.pop().unwrap();
    match last.strip_suffix(".rs").unwrap() {
        "mod" | "lib" | "main" => {}
        name => parts.push(name.to_owned()),
    }
    parts
}

/// The modules of this crate that a line names, as paths from its root.
fn imports(line: &str, module: &[String]) -> Vec<String> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    for (place, _) in line.match_indices("crate::") {
        if line[..place].ends_with(|letter| is_part(letter) || letter == '$') {
            continue;
        }
        let rest = &line[place + "crate::".len()..];
        match rest.strip_prefix('{') {
            // `crate::{a, b::c}`: the names that nothing stands before.
            Some(group) => {
                let names = group.split('}').next().unwrap_or_default().split(',');
                found.extend(names.map(|name| name.trim().to_owned()));
            }
            None => found.push(rest.to_owned()),
        }
    }
    if let Some(place) = line.find("super::") {
        let mut rest = &line[place..];
        let mut climbed = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            (rest, climbed) = (after, climbed + 1);
        }
        // Beyond the top of the module's own folder.
        if climbed >= module.len() {
            found.push(rest.to_owned());
        }
    }
    let path = |text: String| {
        let end = text.find(|letter| !is_part(letter) && letter != ':').unwrap_or(text.len());
        text[..end].trim_end_matches(':').to_owned()
    };
    found.into_iter().map(path).filter(|path| path.starts_with(|letter: char| letter.is_lowercase())).collect()
}

/// What is wrong with the imports of one source file.
fn defects(file: &Path, text: &str, floors: &[Vec<String>]) -> Vec<String> {
    let module = module(file);
    let Some(own) = module.first() else { return Vec::new() };
    let floor = |name: &str| floors.iter().position(|floor| floor.iter().any(|known| known == name));
    let Some(at) = floor(own) else {
        return vec![format!("{}: `{own}` stands on no floor of docs/architecture.md", file.display())];
    };
    let mut defects = Vec::new();
    // In a file's tests one more `super` leads to the file itself.
    let (code, tests) = text.split_at(text.find("#[cfg(test)]").unwrap_or(text.len()));
    let nested = [module.clone(), vec!["tests".to_owned()]].concat();
    let code = code.lines().map(|line| (line, &module));
    let lines = code.chain(tests.lines().map(|line| (line, &nested)));
    for (number, (line, module)) in lines.enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        let place = format!("{}:{}", file.display(), number + 1);
        for path in imports(line, module) {
            let name = path.split("::").next().unwrap_or_default();
            match floor(name) {
                _ if name == own => {}
                // A function or a macro at the crate's root.
                None => {}
                Some(below) if below <= at => {
                    defects.push(format!("{place}: `{own}` imports `{name}`, which does not stand below it"));
                }
                Some(_) => {}
            }
            for (inside, walled, why) in WALLS.iter().filter(|(inside, ..)| inside == own) {
                let is_in = |wall: &&&str| path == **wall || path.starts_with(&format!("{wall}::"));
                if let Some(wall) = walled.iter().find(is_in) {
                    defects.push(format!("{place}: `{inside}` imports `{wall}`; {why}"));
                }
            }
        }
        let is_flag = |(at, _): (usize, &str)| line[at + 2..].starts_with(|letter: char| letter.is_ascii_lowercase());
        if SPEECHLESS.contains(&own.as_str()) && line.match_indices("--").any(is_flag) {
            defects.push(format!(
                "{place}: `{own}` names a flag; say `the option` or `the key`, and src/cli adds what to type"
            ));
        }
        if line.contains("clap") && own != "cli" {
            defects.push(format!("{place}: `{own}` speaks of clap, which src/cli alone knows"));
        }
    }
    defects
}

#[test]
fn no_module_imports_one_that_is_not_below_it() {
    let root = crate::support::repository("");
    let floors = floors(&std::fs::read_to_string(root.join("docs/architecture.md")).unwrap());
    let mut files = Vec::new();
    crate::device::sources(&root.join("src"), &mut files);
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for path in files {
        let file = path.strip_prefix(&root).unwrap();
        known.extend(module(file).into_iter().next());
        found.extend(defects(file, &std::fs::read_to_string(&path).unwrap(), &floors));
    }
    assert!(found.is_empty(), "{} imports go up:\n{}", found.len(), found.join("\n"));
    let gone: Vec<&String> = floors.iter().flatten().filter(|name| !known.contains(name)).collect();
    assert!(gone.is_empty(), "the page has floors for what is no module: {gone:?}");
}

#[test]
fn a_deliberate_climb_is_found() {
    let floors =
        floors("# P\n\n## Which module may import which\n\n```text\nstudy\nbench\nconfig\nwords  files\n```\n");
    let found = |file: &str, text: &str| defects(Path::new(file), text, &floors);
    assert_eq!(
        found(
            "src/config/item.rs",
            "use super::Item;\nuse crate::study::store::RunFolder;\nuse crate::words::count;\n"
        ),
        ["src/config/item.rs:2: `config` imports `study`, which does not stand below it"]
    );
    assert_eq!(found("src/config/item.rs", "use super::super::study::axes;\n").len(), 1);
    assert_eq!(found("src/config/item.rs", "use crate::{words, study};\n").len(), 1);
    assert_eq!(
        found("src/words.rs", "let a = crate::files::read(path);\n").len(),
        1,
        "one floor is no circle's excuse"
    );
    assert_eq!(found("src/words.rs", "#[cfg(test)]\nmod tests {\n    use super::*;\n}\n").len(), 0);
    assert_eq!(found("src/bench/run.rs", "use clap::Args;\nuse crate::words;\n").len(), 1);
    assert_eq!(found("src/attic/mod.rs", "").len(), 1, "a module without a floor");
    assert_eq!(found("src/study/mod.rs", "// crate::cli is spoken of; use crate::cli\nuse crate::Error;\n").len(), 0);
    let floors = [floors.clone(), vec![vec!["problems".to_owned()]]].concat();
    let found = |text: &str| defects(Path::new("src/problems/builder.rs"), text, &floors);
    assert_eq!(found("let text = \"take --data-dir\";\n// --data-dir is spoken of\nlet a = b - -c;\n").len(), 1);
}
