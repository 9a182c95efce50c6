//! What makes a measurement doubtful, and what to do about it.

use std::fmt;

use serde::Serialize;

/// A doubt about a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Warning {
    /// Some pairs lie far from the others.
    Outliers {
        /// How many.
        count: usize,
        /// Of how many pairs.
        of: usize,
    },
    /// The time was over before the interval was as narrow as it should be.
    Imprecise {
        /// Half of the interval's width as a share of the ratio; none of a single pair, which has no interval.
        half_width: Option<f64>,
    },
    /// There was time for one visit, whose pairs share whatever it had of its own.
    OneVisit,
    /// Other processes were at work.
    Busy {
        /// The largest load average of a minute before a visit ended.
        load_average: f64,
        /// The machine's logical cores.
        cores: usize,
    },
    /// A pass is so short that the calls around it count.
    TooFast {
        /// Its time.
        seconds: f64,
    },
    /// The steps led to numbers that are not finite.
    Diverged,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Outliers { count, of } => write!(
                f,
                "{count} of {of} pairs lie far from the others; end other programs and measure again if it matters"
            ),
            Warning::Imprecise { half_width: None } => {
                write!(f, "a single pair has no interval; give more time with --time-budget or --rounds")
            }
            Warning::Imprecise { half_width: Some(half_width) } => write!(
                f,
                "the ratio is known to {:.0} % only; give more time with --time-budget or --rounds",
                (half_width * 100.0).ceil()
            ),
            Warning::OneVisit => {
                write!(f, "there was time for only one visit, and another may differ; give more with --time-budget")
            }
            Warning::Busy { load_average, cores } => write!(
                f,
                "the load average is {load_average:.0} on {cores} cores; it disturbs both sides of a ratio alike, but not seconds"
            ),
            Warning::TooFast { seconds } => {
                write!(f, "a pass takes only {:.0} us, much of it overhead; take a larger batch", seconds * 1e6)
            }
            Warning::Diverged => write!(f, "the steps led to numbers that are not finite, which can change their time"),
        }
    }
}
