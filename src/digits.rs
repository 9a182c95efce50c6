//! Numbers as a person writes them: with as many digits as say something.

/// `value` with so many significant digits and no trailing zeros.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let exponent = exponent(value);
    if !(-5..7).contains(&exponent) {
        let text = format!("{value:.*e}", digits.saturating_sub(1));
        let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa =
            if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
        return format!("{mantissa}e{power}");
    }
    let behind = (digits as i32 - 1 - exponent).max(0) as usize;
    let text = format!("{value:.behind$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A value with half the width of its interval, `144.8 ± 2.6`: of the bar two digits, of the value as many as they carry, nine at
/// most; both with one exponent where they are far from 1, `(1.448 ± 0.026)e-7`.
pub(crate) fn with_bar(value: f64, bar: f64) -> String {
    if !value.is_finite() || !bar.is_finite() || bar <= 0.0 {
        return format!("{} ± {bar}", significant(value, 9));
    }
    let bar = two_digits(bar);
    let size = exponent(value.abs().max(bar));
    let last = exponent(bar) - 1;
    if size - last >= 9 {
        return format!("{} ± {bar:.1e}", significant(value, 9));
    }
    if !(-4..7).contains(&size) {
        let (behind, unit) = ((size - last) as usize, 10f64.powi(-size));
        return format!("({} ± {:.behind$})e{size}", fixed(value * unit, behind), bar * unit);
    }
    if last > 0 {
        let step = 10f64.powi(last);
        return format!("{} ± {bar:.0}", fixed((value / step).round() * step, 0));
    }
    let behind = -last as usize;
    format!("{} ± {bar:.behind$}", fixed(value, behind))
}

/// So many digits behind the point, and no sign where only zeros are left.
fn fixed(value: f64, behind: usize) -> String {
    let text = format!("{value:.behind$}");
    if text.trim_matches(|letter| "-0.".contains(letter)).is_empty() { text.replace('-', "") } else { text }
}

/// Rounded to two significant digits.
fn two_digits(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

/// That of the first digit.
fn exponent(value: f64) -> i32 {
    value.abs().log10().floor() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_say_nothing_are_left_out() {
        let cases = [(0.01, "0.01"), (0.0206914, "0.0207"), (1e-8, "1e-8"), (100.0, "100"), (0.0, "0")];
        for (value, text) in cases {
            assert_eq!(significant(value, 3), text);
        }
    }

    #[test]
    fn a_value_has_the_digits_of_its_bar() {
        let cases = [
            (144.8185, 2.61, "144.8 ± 2.6"),
            (13.84, 0.1412, "13.84 ± 0.14"),
            (8.12, 9.8, "8.1 ± 9.8"),
            (-0.3, 12.3, "0 ± 12"),
            (-7.6, 12.3, "-8 ± 12"),
            (14482.0, 264.0, "14480 ± 260"),
            (5.0, 0.0996, "5.00 ± 0.10"),
            (0.0123456, 0.00021, "0.01235 ± 0.00021"),
            (1.448e-7, 2.6e-9, "(1.448 ± 0.026)e-7"),
            (-1.448e9, 2.6e7, "(-1.448 ± 0.026)e9"),
            (2e-9, 3.1e-7, "(0.0 ± 3.1)e-7"),
            (13.931_044_441_2, 1.5e-12, "13.9310444 ± 1.5e-12"),
            (2.0, 0.0, "2 ± 0"),
            (f64::NAN, 1.0, "NaN ± 1"),
        ];
        for (value, bar, text) in cases {
            assert_eq!(with_bar(value, bar), text);
        }
    }
}
