//! "Did you mean": the known word that is nearest to one that is not known.

/// Longer words are no misspellings, and comparing them would take long.
const LONGEST: usize = 64;

/// The candidate that `word` most probably stands for; case, `-` and `_` do not count.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = plain(word);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, &plain(candidate));
    let (best, candidate) = candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    let allowed = (word.chars().count().max(plain(candidate).chars().count()) / 3).max(1);
    (best <= allowed && best < word.chars().count().max(1)).then_some(candidate)
}

/// The help line for an unknown `word`: the nearest candidate, or all of them.
pub fn help<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match closest(word, candidates.clone()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("known: {}", candidates.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

fn plain(word: &str) -> String {
    word.chars().filter(|letter| !matches!(letter, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_are_recognised_and_others_are_not() {
        let known = ["kernel_size", "out_channels", "stride", "max_pool2d", "conv2d", "p"];
        for (word, expected) in [
            ("kernl_size", "kernel_size"),
            ("outchannels", "out_channels"),
            ("MaxPool2d", "max_pool2d"),
            ("Conv2D", "conv2d"),
            ("stried", "stride"),
        ] {
            assert_eq!(closest(word, known), Some(expected), "{word}");
        }
        for word in ["softmax", "q", "", "elephant", &"kernel_size".repeat(100)] {
            assert_eq!(closest(word, known), None, "{word}");
        }
        assert_eq!(closest("word", []), None);
    }

    #[test]
    fn help_names_everything_where_nothing_is_near() {
        assert_eq!(help("softmax", ["relu", "tanh"]), "known: relu, tanh");
        assert_eq!(help("rleu", ["relu", "tanh"]), "did you mean `relu`?");
    }
}
