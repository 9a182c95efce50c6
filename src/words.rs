//! Words of messages and names.

/// `1 run`, `2 runs`.
pub(crate) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A word as a shell reads it back.
pub(crate) fn shell_quoted(word: &str) -> String {
    String::from_utf8(shell_quoted_bytes(word.as_bytes())).unwrap_or_else(|_| word.to_owned())
}

/// The same of a word that may not be UTF-8.
pub(crate) fn shell_quoted_bytes(word: &[u8]) -> Vec<u8> {
    // A 0 byte, which no word of a shell can hold, stays as it is: what is quoted is shown or was an argument.
    let quoted = shlex::bytes::Quoter::new().allow_nul(true).quote(word);
    quoted.map_or_else(|_| word.to_vec(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for (word, quoted) in
            [("/a b/it's", "\"/a b/it's\""), ("/a/b", "/a/b"), ("", "''"), ("$x", "'$x'"), ("loss=mse", "'loss=mse'")]
        {
            assert_eq!(shell_quoted(word), quoted);
        }
        for word in ["a'b\"c", "$(x) `y`", "\\n", "!^", "é \t", "{a,b}"] {
            let command = format!("printf %s {}", shell_quoted(word));
            let shell = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
            assert_eq!(shell.stdout, word.as_bytes(), "{command}");
        }
    }
}
