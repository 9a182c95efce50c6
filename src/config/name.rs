//! Names that are also names of folders.

/// The longest one, in bytes.
const LONGEST: usize = 100;

/// What [`is_folder_name`] accepts, for messages.
pub const FOLDER_NAME: &str = "a name for a folder: up to 100 letters, digits, `_`, `-`, `+`, `.`, not first a `.`";

/// Whether every system takes this for the name of a folder.
pub fn is_folder_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST && !name.starts_with('.') && name.chars().all(fits)
}

/// A text with everything replaced that a folder's name cannot have.
pub fn folder_name(text: &str) -> String {
    let name: String = text.chars().map(|letter| if fits(letter) { letter } else { '_' }).take(LONGEST).collect();
    if is_folder_name(&name) { name } else { format!("_{}", name.trim_start_matches('.')) }
}

fn fits(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_a_name() {
        for (text, name) in [("fig10", "fig10"), ("my study", "my_study"), ("..", "_"), ("", "_"), ("é/x", "__x")] {
            assert_eq!(folder_name(text), name);
        }
        for text in ["", "..", ".hidden", "a/b", "nul\0", &"x".repeat(101), &".".repeat(200)] {
            assert!(!is_folder_name(text), "{text}");
            assert!(is_folder_name(&folder_name(text)), "{text}");
        }
    }
}
