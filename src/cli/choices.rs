//! The words that flags take for the library's choices, with what `--help` says of each.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::study::aggregate::Diverged;
use crate::study::experiment::SearchKind;

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
