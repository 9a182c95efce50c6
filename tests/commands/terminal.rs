//! What is printed keeps to the width of the terminal without breaking a word or a number.

use crate::support::program;

/// What a command prints on a terminal with so many columns; as wide as it wants to be without.
fn said(arguments: &[&str], width: Option<usize>) -> String {
    let mut command = program();
    command.args(arguments).env_remove("COLUMNS");
    if let Some(width) = width {
        command.env("COLUMNS", width.to_string());
    }
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

fn words(text: &str) -> Vec<&str> {
    let is_border = |letter: char| letter.is_whitespace() || "│┆┌┐└┘├┤─═╞╡┬┴╪".contains(letter);
    text.split(is_border).filter(|word| !word.is_empty()).collect()
}

const LISTS: [&[&str]; 4] =
    [&["list", "optimizers"], &["list", "problems"], &["list", "layers"], &["list", "quantities"]];

#[test]
fn no_list_breaks_a_word() {
    for arguments in LISTS {
        let wide = said(arguments, None);
        let all: std::collections::HashSet<&str> = words(&wide).into_iter().collect();
        for width in [60, 80, 150] {
            let text = said(arguments, Some(width));
            for line in text.lines() {
                let is_one_word = line.split_whitespace().count() <= 2;
                assert!(line.chars().count() <= width || is_one_word, "{arguments:?} at {width}: {line}");
            }
            // Names of columns are followed by a colon where rows stand as lists, and a note tells what is left out.
            let is_known = |word: &str| all.contains(word) || all.contains(word.trim_end_matches([':', ',']));
            let note = "no room here for: (--format csv has them)";
            let broken: Vec<&str> =
                words(&text).into_iter().filter(|word| !is_known(word) && !note.contains(word)).collect();
            assert!(broken.is_empty(), "{arguments:?} at {width}: {broken:?}");
        }
    }
}

#[test]
fn lists_stay_as_they_are() {
    for (name, arguments) in [("optimizers", LISTS[0]), ("problems", LISTS[1])] {
        for width in [60, 80, 150] {
            insta::assert_snapshot!(format!("{name}_at_{width}"), said(arguments, Some(width)));
        }
    }
}
