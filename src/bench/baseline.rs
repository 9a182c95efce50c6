//! What a measurement is compared with: an earlier one, and the paper's own timings.

use std::sync::LazyLock;

use serde::Deserialize;

use super::row::Row;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its interval lies wholly above the baseline's.
    Slower,
    /// Its interval lies wholly below the baseline's.
    Faster,
    /// The intervals touch.
    Same,
    /// One of the two rows is a single pair, which has no interval.
    Unknown,
}

/// A row beside the baseline's.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// As it is now.
    pub now: Row,
    /// As it was.
    pub before: Row,
    /// What became of it.
    pub verdict: Verdict,
}

/// Every row that the baseline holds too.
pub fn compare(now: &[Row], baseline: &[Row]) -> Vec<Change> {
    now.iter()
        .filter_map(|now| {
            let before = baseline.iter().find(|before| before.is_of_the_same(now))?;
            let verdict = if now.rounds.min(before.rounds) < 2 {
                Verdict::Unknown
            } else if now.ratio_low > before.ratio_high {
                Verdict::Slower
            } else if now.ratio_high < before.ratio_low {
                Verdict::Faster
            } else {
                Verdict::Same
            };
            Some(Change { now: now.clone(), before: before.clone(), verdict })
        })
        .collect()
}

// The paper's own timings of its Figures 3, 6, 8 and 9, to be shown beside ours.
//
// They are of a GPU whose model is not recorded, and each timed call also fetches a batch; see docs/benchmarks.md.

/// What the paper's timings are called in tables.
pub const PUBLISHED_TITLE: &str = "paper (GPU)";

/// What has to be known of them wherever they are shown.
pub const PUBLISHED_NOTE: &str = "the paper's, of a GPU (model not recorded) and with data loading in both times";

const TEXT: &str = include_str!("../../assets/published_ratios.csv");

/// One bar or point of a figure: the median with the quantity over that of the gradient.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PublishedRatio {
    /// The paper's figure.
    pub figure: String,
    /// The problem's name.
    pub problem: String,
    /// The quantity's name, as in bench.csv.
    pub quantity: String,
    /// Samples in the batch.
    pub batch_size: usize,
    /// How many times the gradient's.
    pub ratio: f64,
}

/// All of them.
pub fn published_ratios() -> &'static [PublishedRatio] {
    static RATIOS: LazyLock<Vec<PublishedRatio>> = LazyLock::new(|| {
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(TEXT.as_bytes());
        let rows: Result<Vec<_>, _> = reader.deserialize().collect();
        rows.expect("the published ratios that are built in are well-formed")
    });
    &RATIOS
}

impl Row {
    /// What the paper has of the same figure, problem, quantity and batch size.
    pub fn published(&self) -> Option<f64> {
        let own = (&self.figure, &self.problem, &self.quantity, self.batch_size);
        let is_it = |known: &&PublishedRatio| (&known.figure, &known.problem, &known.quantity, known.batch_size) == own;
        published_ratios().iter().find(is_it).map(|known| known.ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::{Subjects, figure};

    fn row(quantity: &str, batch_size: usize, [ratio_low, ratio, ratio_high]: [f64; 3]) -> Row {
        Row {
            figure: "6".into(),
            problem: "p".into(),
            quantity: quantity.into(),
            batch_size,
            threads: 1,
            rounds: 20,
            gradient_seconds: 1.0,
            seconds: ratio,
            ratio,
            ratio_low,
            ratio_high,
            peak_bytes: None,
        }
    }

    #[test]
    fn only_an_interval_wholly_above_the_baselines_is_slower() {
        let baseline =
            [row("kfac", 8, [1.6, 1.7, 1.8]), row("kfac", 16, [1.6, 1.7, 1.8]), row("kflr", 8, [3.0, 3.5, 4.0])];
        let now = [
            row("kfac", 8, [1.81, 1.9, 2.0]),
            row("kfac", 16, [1.79, 1.9, 2.0]),
            row("kflr", 8, [2.0, 2.5, 2.9]),
            row("variance", 8, [9.0, 9.0, 9.0]),
        ];
        let verdicts: Vec<_> = compare(&now, &baseline).into_iter().map(|change| change.verdict).collect();
        assert_eq!(verdicts, [Verdict::Slower, Verdict::Same, Verdict::Faster]);
    }

    fn of(figure: &str, problem: &str, quantity: &str, batch_size: usize) -> Option<f64> {
        let line = format!("{figure},{problem},{quantity},{batch_size},1,1,1,1,1,1,1,");
        let text = format!("{}\n{line}\n", Row::HEADER.join(","));
        crate::bench::read_rows(text.as_bytes(), "bench.csv").unwrap()[0].published()
    }

    #[test]
    fn they_are_the_papers() {
        // Medians in ms behind the figures, with the gradient's at the same batch size.
        for (found, times, gradient) in [
            (of("3", "cifar10_3c3d", "loop", 64), 190.7, 22.2),
            (of("6", "cifar10_3c3d", "kfac", 128), 47.94, 39.03),
            (of("6", "cifar100_allcnnc", "batch_grad", 64), 108.14, 30.16),
            (of("8", "cifar100_allcnnc", "diag_ggn", 16), 374.2, 10.64),
            (of("9", "cifar10_3c3d_sigmoid", "diag_hessian", 32), 588.1, 13.61),
        ] {
            let found = found.unwrap();
            assert!((found / (times / gradient) - 1.0).abs() < 3e-3, "{found} is not {times} / {gradient}");
        }
        assert_eq!(of("6", "cifar10_3c3d", "kfra", 128), None);
        assert_eq!(of("problem", "cifar10_3c3d", "kfac", 128), None);
    }

    #[test]
    fn each_is_of_a_panel_and_occurs_once() {
        for (place, known) in published_ratios().iter().enumerate() {
            let panels = figure(&known.figure).unwrap().panels;
            let panel = panels.iter().find(|panel| panel.problem == known.problem).unwrap();
            let Subjects::Quantities(names) = panel.subjects else { panic!("{known:?}") };
            assert!(names.contains(&known.quantity.as_str()) && known.ratio > 0.9, "{known:?}");
            let key = |other: &PublishedRatio| PublishedRatio { ratio: 0.0, ..other.clone() };
            assert!(published_ratios()[..place].iter().all(|other| key(other) != key(known)), "{known:?} occurs twice");
        }
    }
}
