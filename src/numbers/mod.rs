//! Lists of numbers as flags and files write them: `0.1`, `0.1, 0.01`, `logspace(-4, 0, 5)`, and seeds `42..51`.

pub mod read;

use std::collections::HashSet;

/// The most points of one list or logspace, and the most settings of a grid.
pub const MAX_POINTS: usize = 10_000;

/// A size, count or length that no real problem reaches; it keeps products of several far from overflow checks.
pub const MAX_SIZE: i64 = i32::MAX as i64;

/// The largest seed, which is TOML's largest integer.
pub const MAX_SEED: u64 = i64::MAX as u64;

/// Exponents beyond this leave the range of floating-point numbers.
const MAX_EXPONENT: f64 = 308.0;

/// What [`is_single`] accepts, for messages.
pub const SINGLE: &str = "a number that fits single precision, in which runs compute: 0, or of size 1.5e-45 to 3.4e38";

/// Whether single precision, in which runs compute, has a number of this kind: it is not beyond its range, and is not 0
/// there unless it is 0.
pub fn is_single(value: f64) -> bool {
    let single = value as f32;
    single.is_finite() && (single == 0.0) == (value == 0.0)
}

/// The numbers of a comma-separated list whose entries are numbers or logspaces; commas in parentheses separate
/// arguments.
///
/// # Errors
/// What was found and what was expected. More than [`MAX_POINTS`] numbers are refused before they are computed.
pub fn parse(text: &str) -> Result<Vec<f64>, String> {
    let mut numbers = Vec::new();
    for entry in split(text) {
        let entry = entry.trim();
        match entry.strip_prefix("logspace") {
            Some(arguments) => {
                let (start, stop, points) = logspace_arguments(arguments.trim_start(), entry)?;
                check_count(numbers.len() + points)?;
                numbers.extend(logspace(start, stop, points));
            }
            None => {
                check_count(numbers.len() + 1)?;
                numbers.push(entry.parse().map_err(|_| {
                    format!(
                        "expected a number, a comma-separated list or logspace(start, stop, points), found `{entry}`"
                    )
                })?);
            }
        }
    }
    Ok(numbers)
}

/// `points` numbers evenly spaced on a logarithmic scale from 10^start to 10^stop, as `numpy.logspace`.
///
/// Where the exponent is an integer the number is the one that its decimal literal means.
pub fn logspace(start: f64, stop: f64, points: usize) -> Vec<f64> {
    let step = if points > 1 { (stop - start) / (points - 1) as f64 } else { 0.0 };
    (0..points)
        .map(|index| {
            let last = index > 0 && index == points - 1;
            power_of_ten(if last { stop } else { index as f64 * step + start })
        })
        .collect()
}

/// Seeds: integers from 0, and ranges with both ends (`42..51` are ten).
///
/// # Errors
/// What was found and what was expected.
pub fn parse_seeds(text: &str) -> Result<Vec<u64>, String> {
    let mut seeds = Vec::new();
    let seed = |text: &str| {
        let seed = text.trim().parse::<u64>().ok().filter(|seed| *seed <= MAX_SEED);
        seed.ok_or_else(|| {
            let text = text.trim();
            format!("expected seeds as integers from 0, comma-separated, or a range such as 42..51, found `{text}`")
        })
    };
    for entry in text.split(',') {
        let (first, last) = match entry.split_once("..") {
            Some((first, last)) => (seed(first)?, seed(last)?),
            None => (seed(entry)?, seed(entry)?),
        };
        if first > last {
            return Err(format!("the range {} is empty: its first seed is larger than its last", entry.trim()));
        }
        let count = usize::try_from(last - first).unwrap_or(usize::MAX).saturating_add(1);
        check_count(seeds.len().saturating_add(count))?;
        seeds.extend(first..=last);
    }
    Ok(seeds)
}

/// Refuses an empty list of seeds, too many, and a seed that is given twice.
///
/// # Errors
/// What is wrong with them.
pub fn check_seeds(seeds: &[u64]) -> Result<(), String> {
    check_count(seeds.len())?;
    if seeds.is_empty() {
        return Err("expected at least one seed".to_owned());
    }
    let mut known = HashSet::new();
    match seeds.iter().find(|seed| !known.insert(**seed)) {
        Some(seed) => Err(format!("expected each seed once, found {seed} twice")),
        None => Ok(()),
    }
}

/// The entries of a comma-separated list; commas inside parentheses do not separate.
pub fn split(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .collect()
}

/// Refuses more than [`MAX_POINTS`].
///
/// # Errors
/// How many there are and how many are allowed.
pub fn check_count(count: usize) -> Result<(), String> {
    if count > MAX_POINTS { Err(format!("expected at most {MAX_POINTS} values, found {count}")) } else { Ok(()) }
}

fn logspace_arguments(arguments: &str, entry: &str) -> Result<(f64, f64, usize), String> {
    let wrong = |what: &str| format!("expected logspace(start, stop, points){what}, found `{entry}`");
    let inner = arguments.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(|| wrong(""))?;
    let [start, stop, points] = inner.split(',').map(str::trim).collect::<Vec<_>>()[..] else {
        return Err(wrong(" with three arguments"));
    };
    let exponent = |text: &str| {
        let exponent: Option<f64> = text.parse().ok().filter(|exponent: &f64| exponent.abs() <= MAX_EXPONENT);
        exponent.ok_or_else(|| wrong(&format!(" with exponents from -{MAX_EXPONENT} to {MAX_EXPONENT}")))
    };
    let points_expected = || wrong(&format!(" with 1 to {MAX_POINTS} points"));
    let points = points.parse().ok().filter(|points| (1..=MAX_POINTS).contains(points)).ok_or_else(points_expected)?;
    Ok((exponent(start)?, exponent(stop)?, points))
}

fn power_of_ten(exponent: f64) -> f64 {
    let nearest = exponent.round();
    // Rounding errors of the spacing must not turn 0.01 into 0.010000000000000009.
    if (exponent - nearest).abs() < 1e-12 {
        return format!("1e{}", nearest as i64).parse().unwrap_or(f64::NAN);
    }
    10f64.powf(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_exponents_are_the_decimal_literals() {
        assert_eq!(parse("logspace(-4, 0, 5)").unwrap(), [0.0001, 0.001, 0.01, 0.1, 1.0]);
        assert_eq!(parse("logspace(-4,1,6)").unwrap(), [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0]);
        assert_eq!(parse("logspace( 0 , -2 , 3 )").unwrap(), [1.0, 0.1, 0.01]);
        assert_eq!(parse("logspace(-3, 5, 1)").unwrap(), [0.001]);
        let fine = parse("logspace(-1, 1, 21)").unwrap();
        assert_eq!((fine[0], fine[10], fine[20]), (0.1, 1.0, 10.0));
    }

    /// `numpy.logspace(-5, 2, 20)`, whose points are the learning rates of the paper's baselines, to the last digit
    /// (the first excepted: numpy's is 9.999999999999999e-06).
    #[test]
    fn twenty_points_are_those_of_numpy() {
        let expected = [
            1e-05,
            2.3357214690901213e-05,
            5.4555947811685143e-05,
            0.00012742749857031334,
            0.00029763514416313193,
            0.0006951927961775605,
            0.0016237767391887208,
            0.00379269019073225,
            0.008858667904100823,
            0.02069138081114788,
            0.04832930238571752,
            0.11288378916846883,
            0.26366508987303555,
            0.6158482110660254,
            1.438449888287663,
            3.359818286283781,
            7.847599703514606,
            18.32980710832434,
            42.81332398719387,
            100.0,
        ];
        let found = parse("logspace(-5, 2, 20)").unwrap();
        assert_eq!(found.len(), 20);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= expected * f64::EPSILON, "{found} {expected}");
        }
    }

    #[test]
    fn single_precision_has_a_range() {
        let held = [0.0, -0.0, 1e-45, 1e-38, 1.0, -1.0, f64::from(f32::MAX), f64::from(f32::MIN_POSITIVE), 3.4e38];
        assert!(held.into_iter().all(is_single));
        let beyond = [1e-46, -1e-300, 3.5e38, -1e39, 1e308, f64::INFINITY, f64::NAN, f64::MIN_POSITIVE];
        assert!(!beyond.into_iter().any(is_single));
    }

    #[test]
    fn lists_keep_their_order() {
        assert_eq!(parse("1e-2, 1e-1").unwrap(), [0.01, 0.1]);
        assert_eq!(parse("5,logspace(-1,0,2),2").unwrap(), [5.0, 0.1, 1.0, 2.0]);
        assert_eq!(parse_seeds("42..44, 7").unwrap(), [42, 43, 44, 7]);
        assert_eq!(parse_seeds("9223372036854775807").unwrap(), [MAX_SEED]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "found ``"),
            ("1,,2", "found ``"),
            ("one", "found `one`"),
            ("logspace(-4,0)", "three arguments"),
            ("logspace(-4,0,5", "found `logspace(-4,0,5`"),
            ("logspace(-4,0,0)", "1 to 10000 points"),
            ("logspace(-4,0,10001)", "1 to 10000 points"),
            ("logspace(-4,0,99999999999999999999)", "1 to 10000 points"),
            ("logspace(-4,0,2.5)", "1 to 10000 points"),
            ("logspace(-400,0,5)", "exponents from -308"),
            ("logspace(nan,0,5)", "exponents from -308"),
            ("logspace(0,1,6000),logspace(0,1,6000)", "at most 10000"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in ["", "-1", "1.5", "5..2", "0..9223372036854775807", "9223372036854775808", "a..b"] {
            assert!(parse_seeds(text).is_err(), "{text}");
        }
    }
}
