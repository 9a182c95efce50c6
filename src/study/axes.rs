//! The axes of a grid: what was tried along each of them, and whether the best setting lies at an end, beyond which
//! something better may be.

use serde::Serialize;

use super::settings::{Grid, RunSettings};
use crate::optimizers::{OptimizerName, OptionKind, OptionValue};

/// Where the best setting lies on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Smaller and larger values were tried, or cannot be.
    Interior,
    /// No smaller value was tried, and there are such.
    Lowest,
    /// No larger value was tried, and there are such.
    Highest,
    /// There is only one value.
    Single,
    /// The values have no order.
    Words,
}

/// One axis of a grid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Axis {
    /// `learning_rate`, `damping`, or an option's key; of a list of numbers, `betas[1]`.
    pub key: String,
    /// How many values were tried.
    pub values: usize,
    /// The least value of the range, where the values are numbers.
    pub least: Option<f64>,
    /// The largest.
    pub largest: Option<f64>,
    /// The best setting's value.
    pub best: OptionValue,
    /// Where it lies.
    pub edge: Place,
    /// What to try next where it lies on an edge: the edge and values beyond it, or the wider range of a search; nothing
    /// where nothing follows.
    #[serde(skip)]
    pub next: Vec<OptionValue>,
}

/// An axis on whose edge the best setting lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// `lr`, `damping` or an option's key.
    pub axis: String,
    /// The value there.
    pub value: f64,
    /// Whether it is the largest of the axis; else it is the smallest.
    pub upper: bool,
    /// The key that [`Edge::next`] is given to: of `betas[1]`, `betas`.
    pub key: String,
    /// As [`Axis::next`].
    pub next: Vec<OptionValue>,
}

/// The axes of a grid, seen from the setting at this place in it: learning rate, damping, and each option of which the
/// settings have several values.
pub fn axes(grid: &Grid, place: usize) -> Vec<Axis> {
    let Some(best) = grid.settings.get(place) else { return Vec::new() };
    let mut axes = Vec::new();
    let mut add = |key: &str, tried: Vec<f64>, best: f64, range: [f64; 2], fits: fn(f64) -> bool| {
        let mut axis = numbers(key.to_owned(), tried, best, range, fits);
        if grid.search.is_some() && axis.is_on_edge() {
            axis.next = wider(range, axis.edge == Place::Highest).map(OptionValue::Number).to_vec();
        }
        axes.push(axis);
    };
    let rates = grid.settings.iter().map(|settings| settings.optimizer.learning_rate);
    add("learning_rate", rates.collect(), best.optimizer.learning_rate, grid.ranges.learning_rate, |rate| rate > 0.0);
    if let (Some(damping), Some(range)) = (best.optimizer.damping, grid.ranges.damping) {
        let dampings = grid.settings.iter().filter_map(|settings| settings.optimizer.damping);
        add("damping", dampings.collect(), damping, range, |damping| damping >= 0.0);
    }
    axes.extend(grid.gridded().into_iter().flat_map(|key| option_axes(grid.optimizer, &grid.settings, best, key)));
    axes
}

impl Axis {
    fn is_on_edge(&self) -> bool {
        matches!(self.edge, Place::Lowest | Place::Highest)
    }
}

/// The edges of a grid on which the setting at this place lies.
pub fn edges(grid: &Grid, place: usize) -> Vec<Edge> {
    let edge = |axis: Axis| {
        let OptionValue::Number(value) = axis.best else { return None };
        if !axis.is_on_edge() {
            return None;
        }
        let (upper, key) = (axis.edge == Place::Highest, axis.key.split('[').next().unwrap_or_default().to_owned());
        let name = if axis.key == "learning_rate" { "lr".to_owned() } else { axis.key };
        Some(Edge { axis: name, value, upper, key, next: axis.next })
    };
    axes(grid, place).into_iter().filter_map(edge).collect()
}

/// An option's axes: one, or one a number where it is a list of numbers.
fn option_axes(name: OptimizerName, settings: &[RunSettings], best: &RunSettings, key: &str) -> Vec<Axis> {
    let values: Vec<OptionValue> = settings.iter().filter_map(|settings| settings.option(key)).collect();
    let (Some(best), Some(info)) = (best.option(key), name.option(key)) else { return Vec::new() };
    let fits: fn(f64) -> bool = match info.kind {
        OptionKind::Number(fits) | OptionKind::NumberOrNone(fits) | OptionKind::Numbers(_, fits) => fits,
        _ => |value| value >= 1.0,
    };
    let axis = |key: String, of: &dyn Fn(&OptionValue) -> Option<f64>, best: f64| {
        let tried: Vec<f64> = values.iter().filter_map(of).collect();
        let range = ends(tried.iter().copied());
        numbers(key, tried, best, range, fits)
    };
    match &best {
        OptionValue::Numbers(best) => {
            let at = |place: usize| {
                move |value: &OptionValue| match value {
                    OptionValue::Numbers(numbers) => numbers.get(place).copied(),
                    _ => None,
                }
            };
            let of = |(place, value): (usize, &f64)| {
                let mut axis = axis(format!("{key}[{place}]"), &at(place), *value);
                // The other numbers of the list stay what they are.
                let whole = |next: &OptionValue| {
                    let mut list = best.clone();
                    if let (Some(own), OptionValue::Number(next)) = (list.get_mut(place), next) {
                        *own = *next;
                    }
                    OptionValue::Numbers(list)
                };
                axis.next = axis.next.iter().map(whole).collect();
                axis
            };
            best.iter().enumerate().map(of).filter(|axis| axis.values > 1).collect()
        }
        OptionValue::Number(_) | OptionValue::Count(_) => {
            let number = |value: &OptionValue| match value {
                OptionValue::Number(number) => Some(*number),
                OptionValue::Count(count) => Some(*count as f64),
                _ => None,
            };
            let mut axes: Vec<Axis> =
                number(&best).map(|best| axis(key.to_owned(), &number, best)).into_iter().collect();
            if matches!(best, OptionValue::Count(_)) {
                axes.iter_mut().for_each(|axis| axis.next = counts(&axis.next));
            }
            axes
        }
        _ => {
            let mut distinct: Vec<&OptionValue> = Vec::new();
            values.iter().for_each(|value| {
                if !distinct.contains(&value) {
                    distinct.push(value)
                }
            });
            let values = distinct.len();
            vec![Axis {
                key: key.to_owned(),
                values,
                least: None,
                largest: None,
                best,
                edge: Place::Words,
                next: Vec::new(),
            }]
        }
    }
}

/// Numbers as whole ones, each once.
fn counts(numbers: &[OptionValue]) -> Vec<OptionValue> {
    let mut counts: Vec<OptionValue> = Vec::new();
    for number in numbers {
        if let OptionValue::Number(number) = number {
            let count = OptionValue::Count(number.round() as u64);
            if !counts.contains(&count) {
                counts.push(count);
            }
        }
    }
    counts
}

/// An axis of numbers, of which those for which this holds can be.
fn numbers(
    key: String,
    tried: impl IntoIterator<Item = f64>,
    best: f64,
    [least, largest]: [f64; 2],
    fits: fn(f64) -> bool,
) -> Axis {
    let mut tried: Vec<f64> = tried.into_iter().collect();
    tried.sort_by(f64::total_cmp);
    tried.dedup();
    let edge = match tried[..] {
        [] | [_] => Place::Single,
        [first, ..] if best <= first && fits(best.next_down()) => Place::Lowest,
        [.., last] if best >= last && fits(best.next_up()) => Place::Highest,
        _ => Place::Interior,
    };
    let next = match edge {
        Place::Lowest => further(&tried, fits),
        Place::Highest => further(&tried.iter().rev().copied().collect::<Vec<_>>(), fits),
        Place::Interior | Place::Single | Place::Words => Vec::new(),
    };
    Axis {
        key,
        values: tried.len(),
        least: Some(least),
        largest: Some(largest),
        best: OptionValue::Number(best),
        edge,
        next: next.into_iter().map(OptionValue::Number).collect(),
    }
}

/// The least and the largest of some values.
pub fn ends(values: impl Iterator<Item = f64> + Clone) -> [f64; 2] {
    [values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max)]
}

// What to try next along an axis on whose edge the best setting lies.

/// What follows, beside the edge itself.
const STEPS: i32 = 2;

/// The edge of what was tried, and values beyond it as far apart as the last two are, a decade at most: in ratio, or, for what must be below
/// 1, in the ratio of what is left to 1 (after 0.5 and 0.9 follow 0.98 and 0.996), or in difference where negative numbers
/// fit too. `tried` begins with the edge and holds each value once. Nothing where nothing follows that fits.
fn further(tried: &[f64], fits: fn(f64) -> bool) -> Vec<f64> {
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
fn wider([least, largest]: [f64; 2], upper: bool) -> [f64; 2] {
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
    use crate::problems::definition::built_in;
    use crate::study::experiment::{DataFacts, Request, resolve};

    /// The grid of an optimizer on mnist_logreg with these values.
    fn grid(set: &[&str]) -> Grid {
        let set: Vec<String> = ["problem=mnist_logreg"].iter().chain(set).map(|text| (*text).to_owned()).collect();
        let experiment = resolve(Request { set: &set, ..Default::default() }).unwrap();
        let facts = DataFacts { fingerprint: "mnist".into(), weights: None, default_valid_size: 10_000 };
        experiment.grid(&built_in("mnist_logreg").unwrap().unwrap(), &experiment.optimizers[0], &facts)
    }

    fn found(grid: &Grid, place: usize) -> Vec<(String, Place)> {
        axes(grid, place).into_iter().map(|axis| (axis.key, axis.edge)).collect()
    }

    fn pair(key: &str, place: Place) -> (String, Place) {
        (key.to_owned(), place)
    }

    #[test]
    fn the_edge_is_told_for_axes_with_several_values() {
        let full = grid(&["optimizer=kfac", "learning_rate=1,0.1,0.01", "damping=0.01,1,10"]);
        let at = |lr: f64, damping: f64| {
            let is_it = |settings: &RunSettings| {
                settings.optimizer.learning_rate == lr && settings.optimizer.damping == Some(damping)
            };
            full.settings.iter().position(is_it).unwrap()
        };
        assert_eq!(edges(&full, at(0.1, 1.0)), []);
        let numbers = |values: [f64; 3]| values.map(OptionValue::Number).to_vec();
        let edge = |axis: &str, value, upper, key: &str, next| {
            let next = numbers(next);
            Edge { axis: axis.into(), value, upper, key: key.into(), next }
        };
        let upper = edge("lr", 1.0, true, "learning_rate", [1.0, 10.0, 100.0]);
        let lower = edge("damping", 0.01, false, "damping", [0.01, 1e-3, 1e-4]);
        assert_eq!(edges(&full, at(1.0, 0.01)), [upper, lower]);
        assert_eq!(edges(&grid(&["optimizer=kfac", "learning_rate=1", "damping=0.5"]), 0), []);
        assert_eq!(edges(&grid(&["optimizer=sgd", "learning_rate=1,2"]), 1).len(), 1);
        // There is no damping below none.
        assert_eq!(edges(&grid(&["optimizer=kfac", "learning_rate=1", "damping=0,0.5"]), 0), []);
    }

    #[test]
    fn what_follows_is_of_the_options_kind() {
        /// What follows along all axes on whose edge the setting at this place lies, each as `key = values`.
        fn next(set: &[&str], place: usize) -> Vec<String> {
            let written = |edge: Edge| {
                let values: Vec<String> = edge.next.iter().map(OptionValue::to_string).collect();
                format!("{} = {}", edge.key, values.join(", "))
            };
            edges(&grid(&[&["learning_rate=0.1"], set].concat()), place).into_iter().map(written).collect()
        }
        assert_eq!(next(&["optimizer=momentum", "momentum=[0.5,0.9]"], 1), ["momentum = 0.9, 0.98, 0.996"]);
        assert_eq!(next(&["optimizer=momentum", "momentum=[0.5,0.9]"], 0), ["momentum = 0.5, 0"]);
        assert_eq!(next(&["optimizer=momentum", "momentum=[0.0,0.9]"], 0), Vec::<String>::new());
        let betas = "betas=[[0.9,0.99],[0.9,0.999]]";
        assert_eq!(next(&["optimizer=adam", betas], 1), ["betas = [0.9, 0.999], [0.9, 0.9999], [0.9, 0.99999]"]);
        assert_eq!(next(&["optimizer=adam", "eps=[1e-8,1e-4]"], 0).len(), 1, "eps can be smaller than 1e-8");
        assert_eq!(next(&["optimizer=adamw", "weight_decay=[0.01,0.1]"], 1), ["weight_decay = 0.1, 1, 10"]);
        assert_eq!(next(&["optimizer=adamw", "weight_decay=[0.0,0.01]"], 1), ["weight_decay = 0.01, 0.1, 1"]);
        assert_eq!(next(&["optimizer=kfac", "damping=1", "inverse_every=[10,30]"], 0), ["inverse_every = 10, 3, 1"]);
        assert_eq!(next(&["optimizer=kfac", "damping=1", "inverse_every=[1,4]"], 1), ["inverse_every = 4, 16, 64"]);
        // Not clipping is no number that something follows.
        assert_eq!(next(&["optimizer=sgd", "clip_norm=[\"none\",1.0]"], 0), Vec::<String>::new());
        let drawn = ["optimizer=sgd", "learning_rate=0.001,1", "search=halton", "budget=3"];
        let grid = grid(&drawn);
        let rates: Vec<f64> = grid.settings.iter().map(|settings| settings.optimizer.learning_rate).collect();
        let largest = (0..3).max_by(|a, b| rates[*a].total_cmp(&rates[*b])).unwrap();
        assert_eq!(edges(&grid, largest)[0].next, [0.001, 10.0].map(OptionValue::Number));
    }

    #[test]
    fn options_have_edges_where_something_lies_beyond() {
        let momentum = grid(&["optimizer=momentum", "learning_rate=0.1", "momentum=[0.0,0.5,0.9]"]);
        let rate = pair("learning_rate", Place::Single);
        // Below 0 there is no momentum.
        assert_eq!(found(&momentum, 0), [rate.clone(), pair("momentum", Place::Interior)]);
        assert_eq!(found(&momentum, 1), [rate.clone(), pair("momentum", Place::Interior)]);
        assert_eq!(found(&momentum, 2), [rate.clone(), pair("momentum", Place::Highest)]);
        assert_eq!(axes(&momentum, 2)[1].largest, Some(0.9));
        let adam = grid(&["optimizer=adam", "learning_rate=0.1", "betas=[[0.8,0.99],[0.9,0.99],[0.95,0.99]]"]);
        assert_eq!(found(&adam, 0), [rate.clone(), pair("betas[0]", Place::Lowest)]);
        let draws = grid(&[
            "optimizer=kfac",
            "learning_rate=0.1",
            "damping=1",
            "mc_samples=[1,4]",
            "averaging=[\"none\",\"cumulative\"]",
        ]);
        let axes = found(&draws, 0);
        assert!(axes.contains(&pair("mc_samples", Place::Interior)), "fewer than one cannot be: {axes:?}");
        assert!(axes.contains(&pair("averaging", Place::Words)), "{axes:?}");
        assert!(edges(&draws, draws.settings.len() - 1).iter().any(|edge| edge.axis == "mc_samples" && edge.upper));
    }

    #[test]
    fn a_drawn_grid_has_the_range_that_it_was_drawn_from() {
        let drawn = grid(&["optimizer=sgd", "learning_rate=0.001,1", "search=halton", "budget=3"]);
        let axis = &axes(&drawn, 0)[0];
        assert_eq!((axis.values, axis.least, axis.largest), (3, Some(0.001), Some(1.0)));
    }

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
