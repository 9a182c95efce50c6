//! What to try next along an axis on whose edge the best setting lies.

/// What follows, beside the edge itself.
const STEPS: i32 = 2;

/// The edge of what was tried, and values beyond it as far apart as the last two are, a decade at most: in ratio, or, for what must be below
/// 1, in the ratio of what is left to 1 (after 0.5 and 0.9 follow 0.98 and 0.996), or in difference where negative numbers
/// fit too. `tried` begins with the edge and holds each value once. Nothing where nothing follows that fits.
pub fn further(tried: &[f64], fits: fn(f64) -> bool) -> Vec<f64> {
    let [edge, inner, ..] = *tried else { return Vec::new() };
    let is_below_1 = fits(0.5) && !fits(1.0);
    let ratio = |edge: f64, inner: f64| (edge / inner).clamp(0.1, 10.0);
    let at = |step: i32| match step {
        0 => edge,
        // What is below 0 is not reached on the way down from a wide step, but 0 can be tried. What is left to 1 is no
        // smaller than arithmetic can tell.
        _ if is_below_1 => {
            let value = 1.0 - (1.0 - edge) * ratio(1.0 - edge, 1.0 - inner).powi(step);
            ((value * 1e12).round() / 1e12).max(0.0)
        }
        _ if fits(-1.0) => edge + f64::from(step) * (edge - inner),
        // From 0 too it is a decade.
        _ => edge * ratio(edge, inner).powi(step),
    };
    let mut values: Vec<f64> = (0..=STEPS).map(at).map(as_written).filter(|value| fits(*value)).collect();
    values.dedup();
    if values.len() > 1 { values } else { Vec::new() }
}

/// The range of a search, a decade wider on one side.
pub fn wider([least, largest]: [f64; 2], upper: bool) -> [f64; 2] {
    if upper { [least, as_written(largest * 10.0)] } else { [as_written(least / 10.0), largest] }
}

/// A value as people write it, not what arithmetic leaves of it. Of what is just below 1, the distance from 1 has the
/// digits.
fn as_written(value: f64) -> f64 {
    let rest = 1.0 - value;
    let digits = |value: f64| format!("{value:.3e}").parse().unwrap_or(value);
    if rest > 0.0 && rest < 0.1 {
        format!("{:.12}", 1.0 - digits(rest)).parse().unwrap_or(value)
    } else {
        digits(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_goes_on_as_it_was() {
        let above_0 = |value: f64| value > 0.0;
        assert_eq!(further(&[1e-4, 1e-3, 1e-2], above_0), [1e-4, 1e-5, 1e-6]);
        assert_eq!(further(&[0.4, 0.2, 0.1], above_0), [0.4, 0.8, 1.6]);
        assert_eq!(further(&[1.0, 1e-4], above_0), [1.0, 10.0, 100.0]);
        assert_eq!(further(&[0.1], above_0), Vec::<f64>::new());
        assert_eq!(wider([1e-4, 1e-2], false), [1e-5, 1e-2]);
        assert_eq!(wider([1e-4, 1e-2], true), [1e-4, 0.1]);
    }

    #[test]
    fn a_share_goes_towards_1_and_a_number_of_either_sign_by_steps() {
        let share = |value: f64| (0.0..1.0).contains(&value);
        assert_eq!(further(&[0.99, 0.9], share), [0.99, 0.999, 0.9999]);
        assert_eq!(further(&[0.9, 0.95], share), [0.9, 0.8, 0.6]);
        assert_eq!(further(&[0.9, 0.99], share), [0.9, 0.0]);
        assert_eq!(further(&[-2.0, -1.0], f64::is_finite), [-2.0, -3.0, -4.0]);
        assert_eq!(further(&[0.1, 0.0], |value| value >= 0.0), [0.1, 1.0, 10.0]);
    }
}
