//! Between what is typed and what the library speaks of: the choices of flags, names of quantities, flags in its messages.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::backpack::quantities;
use crate::error::{Error, Result};
use crate::study::aggregate::Diverged;
use crate::study::experiment::SearchKind;
use crate::suggest;
use crate::words::shell_quoted;

impl ValueEnum for SearchKind {
    fn value_variants<'a>() -> &'a [Self] {
        &[SearchKind::Random, SearchKind::Halton]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            SearchKind::Random => "Independent draws, decided by grid_seed and the setting's number",
            SearchKind::Halton => {
                "Halton's sequence from its first point: base 2 for learning rates, base 3 for dampings, 5, 7, ... for options"
            }
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}

impl ValueEnum for Diverged {
    fn value_variants<'a>() -> &'a [Self] {
        &[Diverged::Fill, Diverged::Drop]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Diverged::Fill => PossibleValue::new("fill")
                .help("Epochs after divergence take the values measured before training, as in DeepOBS"),
            Diverged::Drop => PossibleValue::new("drop").help("Diverged runs are left out"),
        })
    }
}

// Names of quantities as they are given on the command line.

/// Refuses names that no quantity has, all of them at once.
///
/// # Errors
/// [`Error::UnknownQuantity`] for one, [`Error::Usage`] for several.
pub(super) fn check_quantity_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let known: Vec<&'static str> = quantities::names().into_iter().chain(["all"]).collect();
    let unknown: Vec<&str> = names.into_iter().filter(|name| !known.contains(name)).collect();
    match unknown[..] {
        [] => Ok(()),
        [name] => Err(Error::UnknownQuantity { name: name.to_owned(), known }),
        _ => {
            let closest = |name: &&str| Some(format!("`{}`", suggest::closest(name, known.iter().copied())?));
            let help = match unknown.iter().map(closest).collect::<Option<Vec<_>>>() {
                Some(meant) => format!("did you mean {}?", meant.join(", ")),
                None => format!("known: {}", known.join(", ")),
            };
            let names: Vec<String> = unknown.iter().map(|name| format!("`{}`", name.escape_debug())).collect();
            Err(Error::Usage(format!("unknown quantities {}: {help}", names.join(", "))))
        }
    }
}

// What to type for what the library speaks of: it names an option or a key, and knows nothing of flags.

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
