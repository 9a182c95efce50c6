//! Words of messages and names.

/// `1 run`, `2 runs`.
pub(crate) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A word as a shell reads it back.
pub(crate) fn shell_quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=,:+@%".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for (word, quoted) in [("/a b/it's", "'/a b/it'\\''s'"), ("/a/b", "/a/b"), ("", "''"), ("$x", "'$x'")] {
            assert_eq!(shell_quoted(word), quoted);
        }
    }
}
