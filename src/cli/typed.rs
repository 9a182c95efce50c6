//! What to type for what the library speaks of: it names an option or a key, and knows nothing of flags.

use crate::words::shell_quoted;

/// What the library calls a choice of its caller, as in "raise the option `memory_budget`".
const OPTION: &str = "the option `";
/// What it calls an entry of a problem file, as in "say it by the key `loss=cross_entropy`".
const KEY: &str = "by the key `";

/// The text with the flag for each option and key.
pub(super) fn typed(text: &str) -> String {
    let mut typed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((place, word)) = [OPTION, KEY].iter().filter_map(|word| Some((rest.find(word)?, *word))).min() {
        let (before, named) = (&rest[..place], &rest[place + word.len()..]);
        let Some((name, after)) = named.split_once('`') else { break };
        typed += before;
        typed += &match word {
            OPTION => format!("--{}", name.replace('_', "-")),
            _ => format!("with --set {}", shell_quoted(name)),
        };
        rest = after;
    }
    typed + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_keys_become_flags_and_other_text_stays() {
        for (said, shown) in [
            ("raise the option `memory_budget`, or not", "raise --memory-budget, or not"),
            ("leave out the option `batch_size` and the option `shard`", "leave out --batch-size and --shard"),
            ("say it by the key `loss=mse` (or", "say it with --set 'loss=mse' (or"),
            ("by the key `dataset = { text = \"F\" }`", "with --set 'dataset = { text = \"F\" }'"),
            ("the key `memory_budget` is unknown", "the key `memory_budget` is unknown"),
            ("cut off after the option `mem", "cut off after the option `mem"),
        ] {
            assert_eq!(typed(said), shown);
        }
    }
}
