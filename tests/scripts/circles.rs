//! Circles between the files of `src`: no file may need what needs it, by way of others or at once.
//!
//! A name is followed through `pub use` to the file that defines it, so that a folder's `mod.rs` may list what its files
//! offer; tests within a file do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::floors::module;

/// A file's names: what it defines, and what it calls by another module's path.
#[derive(Default)]
struct Module {
    file: PathBuf,
    defined: BTreeSet<String>,
    aliases: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// Paths in the code, as written.
    paths: BTreeSet<Vec<String>>,
}

/// Identifiers and marks, without comments, strings, lifetimes and what `#[cfg(test)]` stands before.
fn tokens(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| letters.get(at + i) == Some(&c));
    let after = |from: usize, what: &str| {
        (from..letters.len()).find(|&at| starts(at, what)).map_or(letters.len(), |at| at + what.len())
    };
    let (mut found, mut at) = (Vec::new(), 0);
    while at < letters.len() {
        let letter = letters[at];
        let hashes = letters[at..].iter().skip(1).take_while(|&&letter| letter == '#').count();
        if starts(at, "//") {
            at = after(at, "\n");
        } else if letter == 'r' && letters.get(at + 1 + hashes) == Some(&'"') {
            at = after(at + 2 + hashes, &format!("\"{}", "#".repeat(hashes)));
        } else if letter == '"' || (letter == '\'' && (starts(at + 1, "\\") || starts(at + 2, "'"))) {
            at += 1;
            while at < letters.len() && letters[at] != letter {
                at += 1 + usize::from(letters[at] == '\\');
            }
            at += 1;
        } else if is_part(letter) || letter == '\'' {
            let end = (at + 1..letters.len()).find(|&end| !is_part(letters[end])).unwrap_or(letters.len());
            if letter != '\'' {
                found.push(letters[at..end].iter().collect());
            }
            at = end;
        } else {
            let mark = if starts(at, "::") { "::".to_owned() } else { letter.to_string() };
            at += mark.chars().count();
            if !mark.trim().is_empty() {
                found.push(mark);
            }
        }
    }
    let test = ["#", "[", "cfg", "(", "test", ")", "]"];
    while let Some(start) = found.windows(test.len()).position(|window| window.iter().zip(test).all(|(a, b)| a == b)) {
        let mut depth = 0;
        let is_end = |token: &String| {
            depth += i32::from(token == "{") - i32::from(token == "}");
            depth == 0 && (token == ";" || token == "}")
        };
        let length = found[start..].iter().position(is_end).map_or(found.len() - start, |length| length + 1);
        found.drain(start..start + length);
    }
    found
}

/// The paths of a tree of names after `use`, each with the name it goes by here (`*` for all of them).
fn tree(tokens: &[String], at: &mut usize, before: &[String], found: &mut Vec<(String, Vec<String>)>) {
    let mut path = before.to_vec();
    loop {
        match tokens.get(*at).map_or(";", String::as_str) {
            ";" | "," | "}" => break,
            "{" => {
                while !matches!(tokens.get(*at).map_or(";", String::as_str), "}" | ";") {
                    *at += 1;
                    tree(tokens, at, &path, found);
                }
                *at += 1;
                return;
            }
            "::" => {}
            "as" => {
                *at += 1;
                found.push((tokens[*at].clone(), path.clone()));
                *at += 1;
                return;
            }
            "*" => {
                found.push(("*".to_owned(), path.clone()));
                *at += 1;
                return;
            }
            "self" if !path.is_empty() => {}
            name => path.push(name.to_owned()),
        }
        *at += 1;
    }
    if path.len() > before.len() || !before.is_empty() && tokens[*at - 1] == "self" {
        found.push((path.last().unwrap().clone(), path));
    }
}

fn read(file: &Path, text: &str) -> Module {
    let tokens = tokens(text);
    let mut module = Module { file: file.to_owned(), ..Module::default() };
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    let (mut at, mut depth) = (0, 0);
    while at < tokens.len() {
        let last = at.checked_sub(1).map_or("", token);
        let is_name = token(at).starts_with(|letter: char| letter.is_alphabetic() || letter == '_');
        match token(at) {
            "{" => depth += 1,
            "}" => depth -= 1,
            "use" => {
                let is_private = !matches!(last, "pub" | ")");
                let mut found = Vec::new();
                at += 1;
                tree(&tokens, &mut at, &[], &mut found);
                for (name, path) in found {
                    if is_private && name != "*" {
                        module.paths.insert(path.clone());
                    }
                    match name.as_str() {
                        "*" => module.globs.push(path),
                        _ => drop(module.aliases.insert(name, path)),
                    }
                }
            }
            "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" if depth == 0 => {
                at += usize::from(token(at + 1) == "mut") + 1;
                if token(at) == "fn" {
                    continue;
                }
                module.defined.insert(token(at).to_owned());
            }
            "macro_rules" => {
                at += 2;
                module.defined.insert(token(at).to_owned());
            }
            "mod" => at += 1,
            _ if is_name && last != "." => {
                let mut path = vec![token(at).to_owned()];
                while token(at + 1) == "::"
                    && token(at + 2).starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
                {
                    path.push(token(at + 2).to_owned());
                    at += 2;
                }
                module.paths.insert(path);
            }
            _ => {}
        }
        at += 1;
    }
    module
}

/// Of each module that another needs, the names that it needs.
type Needs = BTreeMap<Vec<String>, BTreeSet<String>>;

/// All modules, by their paths.
struct Sources(BTreeMap<Vec<String>, Module>);

impl Sources {
    /// The module that defines what `path` names where it is written in `within`.
    fn find(&self, within: &[String], path: &[String], steps: usize) -> Option<Vec<String>> {
        let (name, rest) = path.split_first()?;
        if steps == 0 {
            return None;
        }
        let here = self.0.get(within)?;
        let child = [within, std::slice::from_ref(name)].concat();
        match name.as_str() {
            "crate" => return self.find(&[], rest, steps - 1),
            "self" => return self.find(within, rest, steps - 1),
            "super" => return self.find(&within[..within.len().checked_sub(1)?], rest, steps - 1),
            _ => {}
        }
        let is_module = self.0.contains_key(&child);
        if here.defined.contains(name) && (rest.is_empty() || !is_module) {
            return Some(within.to_vec());
        }
        if is_module {
            return self.find(&child, rest, steps - 1);
        }
        if let Some(alias) = here.aliases.get(name) {
            if alias[0] == *name {
                return None;
            }
            return self.find(within, &[alias.as_slice(), rest].concat(), steps - 1);
        }
        here.globs.iter().find_map(|glob| self.find(within, &[glob.as_slice(), path].concat(), steps - 1))
    }

    /// What each module needs.
    fn needs(&self) -> BTreeMap<&[String], Needs> {
        let needs = |(at, module): (&Vec<String>, &Module)| {
            let mut needs = Needs::new();
            for path in &module.paths {
                if let Some(target) = self.find(at, path, 16).filter(|target| target != at) {
                    needs.entry(target).or_default().insert(path.join("::"));
                }
            }
            needs
        };
        self.0.iter().map(|entry| (entry.0.as_slice(), needs(entry))).collect()
    }

    /// Each circle once: the shortest way from what a module needs back to it.
    fn circles(&self) -> Vec<String> {
        let needs = self.needs();
        let (mut found, mut told) = (Vec::new(), BTreeSet::new());
        for (&start, first) in &needs {
            let mut from: BTreeMap<&[String], &[String]> = BTreeMap::new();
            let mut queue: Vec<&[String]> = first.keys().map(Vec::as_slice).collect();
            from.extend(queue.iter().map(|&next| (next, start)));
            let mut at = 0;
            while at < queue.len() && !from.contains_key(start) {
                let here = queue[at];
                for next in needs[here].keys() {
                    if !from.contains_key(next.as_slice()) {
                        from.insert(next, here);
                        queue.push(next);
                    }
                }
                at += 1;
            }
            if !from.contains_key(start) {
                continue;
            }
            let mut way = vec![start];
            while *way.last().unwrap() != start || way.len() == 1 {
                way.push(from[way.last().unwrap()]);
            }
            way.reverse();
            if told.insert(way.iter().copied().collect::<BTreeSet<_>>()) {
                let step = |pair: &[&[String]]| {
                    let names: Vec<&str> = needs[pair[0]][pair[1]].iter().map(String::as_str).collect();
                    format!(
                        "{} needs {} of {}",
                        self.0[pair[0]].file.display(),
                        names.join(", "),
                        self.0[pair[1]].file.display()
                    )
                };
                found.push(way.windows(2).map(step).collect::<Vec<_>>().join("; "));
            }
        }
        found
    }
}

/// The circles between source files that have these texts.
fn circles(files: &[(PathBuf, String)]) -> Vec<String> {
    // The program calls the library as any other crate does.
    let library = files.iter().filter(|(file, _)| !file.ends_with("src/main.rs"));
    Sources(library.map(|(file, text)| (module(file), read(file, text))).collect()).circles()
}

#[test]
fn no_file_needs_what_needs_it() {
    let root = crate::support::repository("");
    let mut paths = Vec::new();
    crate::device::sources(&root.join("src"), &mut paths);
    let text = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_owned(), text)
    };
    let found = circles(&paths.into_iter().map(text).collect::<Vec<_>>());
    let advice = "move what both need into a file that both import";
    assert!(found.is_empty(), "{} circles between files; {advice}:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_deliberate_circle_is_found() {
    let found = |table: &str| {
        let files = [
            ("src/lib.rs", "mod config;\n"),
            ("src/config/mod.rs", "mod item;\nmod table;\npub use item::Item;\n"),
            ("src/config/item.rs", "use super::table::{self, Table};\npub struct Item;\n"),
            ("src/config/table.rs", table),
        ];
        circles(&files.map(|(file, text)| (PathBuf::from(file), text.to_owned())))
    };
    assert_eq!(
        found("use super::item::Item;\npub struct Table;\n"),
        ["src/config/item.rs needs super::table::Table of src/config/table.rs; \
          src/config/table.rs needs super::item::Item of src/config/item.rs"]
    );
    // By a folder's list, by a path in the code, and by all names at once.
    for table in [
        "use super::Item;\npub struct Table;\n",
        "pub struct Table(crate::config::Item);\n",
        "use super::*;\npub struct Table(Item);\n",
    ] {
        assert_eq!(found(table).len(), 1, "{table}");
    }
    // What a file only lists, what is said in words, and what its tests need is no circle.
    for table in [
        "pub struct Table;\n",
        "pub struct Table;\n#[cfg(test)]\nmod tests {\n    use super::super::Item;\n}\n",
        "// crate::config::Item\npub struct Table;\nconst WORD: &str = \"crate::config::Item\";\n",
    ] {
        assert_eq!(found(table), [""; 0], "{table}");
    }
}
