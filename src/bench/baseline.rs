//! Comparison of what was measured with an earlier measurement.

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
