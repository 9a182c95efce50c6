//! Successive halving: all settings are trained for few epochs, the best of them for more.
//!
//! A run of fewer epochs has another folder than the full one, so that each rung's runs are runs of their own. Those of a
//! higher rung go on from the ends of the lower one's where the learning rate is constant, else they train anew; either
//! way a full run's numbers are those of a full grid.

/// Settings that are trained equally long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The epochs of its runs.
    pub epochs: usize,
    /// How many settings.
    pub settings: usize,
}

/// The rungs of a grid of `settings`, of which one in `factor` goes on each time and the last trains for `epochs`; without a
/// factor, the one rung of the full grid.
///
/// There are as many as leave at least one setting and one epoch: rung r of R has `settings / factor^r` settings with
/// `epochs / factor^(R - 1 - r)` epochs, rounded down.
pub fn rungs(settings: usize, epochs: usize, factor: Option<usize>) -> Vec<Rung> {
    let Some(factor) = factor else { return vec![Rung { epochs, settings }] };
    let mut powers = vec![1usize];
    while let Some(next) = powers.last().and_then(|power| power.checked_mul(factor)) {
        if settings / next == 0 || epochs / next == 0 {
            break;
        }
        powers.push(next);
    }
    let last = powers.len() - 1;
    (0..=last).map(|rung| Rung { epochs: epochs / powers[last - rung], settings: settings / powers[rung] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(settings: usize, epochs: usize, factor: usize) -> Vec<(usize, usize)> {
        rungs(settings, epochs, Some(factor)).iter().map(|rung| (rung.settings, rung.epochs)).collect()
    }

    #[test]
    fn rungs_divide_settings_and_multiply_epochs() {
        assert_eq!(pairs(27, 27, 3), [(27, 1), (9, 3), (3, 9), (1, 27)]);
        assert_eq!(pairs(30, 100, 3), [(30, 3), (10, 11), (3, 33), (1, 100)]);
        assert_eq!(pairs(30, 5, 2), [(30, 1), (15, 2), (7, 5)]);
        assert_eq!(pairs(4, 100, 8), [(4, 100)]);
        assert_eq!(pairs(4, 0, 2), [(4, 0)]);
        assert_eq!(rungs(30, 100, None), [Rung { epochs: 100, settings: 30 }]);
    }
}
