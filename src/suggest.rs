//! "Did you mean": the known word that is nearest to one that is not known.

/// Longer words are no misspellings, and comparing them would take long.
const LONGEST: usize = 64;

/// What people write for names that are no misspellings of them.
const SHORT_FORMS: [(&str, &str); 4] =
    [("lr", "learning_rate"), ("bs", "batch_size"), ("wd", "l2"), ("weight_decay", "l2")];

/// The candidate that `word` most probably stands for; case, `-` and `_` do not count.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let meant = SHORT_FORMS.iter().find(|(short, _)| plain(short) == plain(word)).map(|(_, long)| *long);
    if let Some(candidate) =
        candidates.iter().find(|candidate| Some(**candidate) == meant || leaves_out(word, candidate))
    {
        return Some(candidate);
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

/// Whether `word` is `candidate` without some of its parts, as `fashion_mini` is `fashion_mnist_mini`.
fn leaves_out(word: &str, candidate: &str) -> bool {
    let parts: Vec<&str> = word.split(['-', '_']).collect();
    let mut rest = candidate.split(['-', '_']);
    parts.len() > 1 && parts.iter().all(|part| rest.any(|other| other.eq_ignore_ascii_case(part)))
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
    fn short_forms_and_parts_left_out_are_recognised() {
        assert_eq!(closest("lr", ["l2", "learning_rate"]), Some("learning_rate"));
        assert_eq!(closest("lr", ["l2", "p"]), Some("l2"));
        let sets = ["mnist", "fashion_mnist", "fashion_mnist_mini"];
        assert_eq!(closest("fashion_mini", sets), Some("fashion_mnist_mini"));
        assert_eq!(closest("fashon_mnist", sets), Some("fashion_mnist"));
    }

    #[test]
    fn help_names_everything_where_nothing_is_near() {
        assert_eq!(help("softmax", ["relu", "tanh"]), "known: relu, tanh");
        assert_eq!(help("rleu", ["relu", "tanh"]), "did you mean `relu`?");
    }
}
