//! Names that are also names of folders and files, and the one way from any other name to such a one.

use std::collections::HashSet;

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The longest name of a folder, in bytes.
const LONGEST: usize = 100;
/// The longest part of a file's name, in bytes: systems take 255, of which kind, ending and what is unfinished take some.
const LONGEST_PART: usize = 200;
/// How much of a longer one is kept.
const KEPT: usize = 60;

/// What [`is_folder_name`] accepts, for messages.
pub const FOLDER_NAME: &str = "a name for a folder: up to 100 letters, digits, `_`, `-`, `+`, `.`, not first a `.`";

/// A name that [`is_folder_name`] accepts, as files give it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FolderName(pub String);

impl TryFrom<String> for FolderName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if is_folder_name(&name) { Ok(FolderName(name)) } else { Err(format!("expected {FOLDER_NAME}")) }
    }
}

/// Whether every system takes this for the name of a folder.
pub fn is_folder_name(name: &str) -> bool {
    let fits = |letter| is_plain(letter) || matches!(letter, '.' | '+');
    !name.is_empty() && name.len() <= LONGEST && !name.starts_with('.') && name.chars().all(fits)
}

/// A folder's name for any text: the text itself where it is one, else its [`file_part`]. Different texts have different
/// names.
pub fn folder_name(text: &str) -> String {
    if is_folder_name(text) { text.to_owned() } else { shortened(file_part(text), LONGEST) }
}

/// A name as part of a file's name or an identifier: letters, digits, `_` and `-` stand for themselves, every other byte
/// (in UTF-8) is `=` and two hex digits. Different names have different parts.
///
/// One that is very long is cut, and ends with `==` and 32 hex digits of its SHA-256.
pub fn file_part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for letter in name.chars() {
        if is_plain(letter) {
            part.push(letter);
        } else {
            part.extend(letter.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("={byte:02x}")));
        }
    }
    if part.is_empty() { "=".to_owned() } else { shortened(part, LONGEST_PART) }
}

/// The parts, each told apart from those before it by more than the case of its letters, which some systems do not
/// distinguish in names of files.
pub fn without_twins(parts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut known = HashSet::new();
    let mut distinct = |part: String| {
        if known.insert(part.to_ascii_lowercase()) {
            return part;
        }
        let part = format!("{part}=={}", digest(&part));
        known.insert(part.to_ascii_lowercase());
        part
    };
    parts.into_iter().map(&mut distinct).collect()
}

/// No part has `==` where none of its bytes was cut off.
fn shortened(part: String, longest: usize) -> String {
    if part.len() <= longest { part } else { format!("{}=={}", &part[..KEPT], digest(&part)) }
}

fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stand_for_themselves_and_others_are_told_apart() {
        for (text, folder, part) in [
            ("fig10", "fig10", "fig10"),
            ("DiagGGN-MC", "DiagGGN-MC", "DiagGGN-MC"),
            ("net.v1", "net.v1", "net=2ev1"),
            ("my study", "my=20study", "my=20study"),
            ("..", "=2e=2e", "=2e=2e"),
            ("", "=", "="),
            ("é/x", "=c3=a9=2fx", "=c3=a9=2fx"),
            ("=20", "=3d20", "=3d20"),
        ] {
            assert_eq!((folder_name(text).as_str(), file_part(text).as_str()), (folder, part), "{text}");
        }
        assert_eq!(file_part(&"x".repeat(200)), "x".repeat(200));
        let letters = ["a", "A", "_", ".", "=", "2e", " ", "é", "\0", "/", "\u{301}", "\n"];
        let mut texts = vec![String::new()];
        for _ in 0..3 {
            let longer = texts.iter().flat_map(|text| letters.map(|letter| format!("{text}{letter}")));
            texts = texts.iter().cloned().chain(longer).collect();
        }
        texts.extend([90, 110, 190, 210, 300].map(|length| "y".repeat(length)));
        texts.extend([90, 110, 190, 210, 300].map(|length| format!("{}.", "y".repeat(length))));
        let texts: HashSet<String> = texts.into_iter().collect();
        for way in [folder_name, file_part] {
            let names: HashSet<String> = texts.iter().map(|text| way(text)).collect();
            assert_eq!(names.len(), texts.len());
            assert!(names.iter().all(|name| !name.is_empty() && name.len() <= LONGEST_PART && !name.starts_with('.')));
        }
    }

    #[test]
    fn names_that_differ_in_case_alone_are_told_apart() {
        let parts = without_twins(["Net", "net", "other", "NET"].map(str::to_owned));
        assert_eq!((parts[0].as_str(), parts[2].as_str()), ("Net", "other"));
        assert!(parts[1].starts_with("net==") && parts[3].starts_with("NET=="), "{parts:?}");
        let folded: HashSet<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
        assert_eq!(folded.len(), 4);
    }

    #[test]
    fn what_is_no_name_of_a_folder_is_refused() {
        for text in ["", "..", ".hidden", "a/b", "nul\0", "a b", "a=b", &"x".repeat(101), &".".repeat(200)] {
            assert!(!is_folder_name(text), "{text}");
        }
    }
}
