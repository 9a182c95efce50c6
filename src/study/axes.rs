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
}

/// The axes of a grid, seen from the setting at this place in it: learning rate, damping, and each option of which the
/// settings have several values.
pub fn axes(grid: &Grid, place: usize) -> Vec<Axis> {
    let Some(best) = grid.settings.get(place) else { return Vec::new() };
    let mut axes = Vec::new();
    let rates = grid.settings.iter().map(|settings| settings.optimizer.learning_rate);
    axes.push(numbers(
        "learning_rate".to_owned(),
        rates,
        best.optimizer.learning_rate,
        grid.ranges.learning_rate,
        |_| true,
    ));
    if let (Some(damping), Some(range)) = (best.optimizer.damping, grid.ranges.damping) {
        let dampings = grid.settings.iter().filter_map(|settings| settings.optimizer.damping);
        axes.push(numbers("damping".to_owned(), dampings, damping, range, |_| true));
    }
    axes.extend(grid.gridded().into_iter().flat_map(|key| option_axes(grid.optimizer, &grid.settings, best, key)));
    axes
}

/// The edges of a grid on which the setting at this place lies.
pub fn edges(grid: &Grid, place: usize) -> Vec<Edge> {
    let edge = |axis: Axis| {
        let OptionValue::Number(value) = axis.best else { return None };
        let name = if axis.key == "learning_rate" { "lr".to_owned() } else { axis.key };
        match axis.edge {
            Place::Lowest => Some(Edge { axis: name, value, upper: false }),
            Place::Highest => Some(Edge { axis: name, value, upper: true }),
            Place::Interior | Place::Single | Place::Words => None,
        }
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
            let axes = best.iter().enumerate().map(|(place, best)| axis(format!("{key}[{place}]"), &at(place), *best));
            axes.filter(|axis| axis.values > 1).collect()
        }
        OptionValue::Number(_) | OptionValue::Count(_) => {
            let number = |value: &OptionValue| match value {
                OptionValue::Number(number) => Some(*number),
                OptionValue::Count(count) => Some(*count as f64),
                _ => None,
            };
            number(&best).map(|best| axis(key.to_owned(), &number, best)).into_iter().collect()
        }
        _ => {
            let mut distinct: Vec<&OptionValue> = Vec::new();
            values.iter().for_each(|value| {
                if !distinct.contains(&value) {
                    distinct.push(value)
                }
            });
            let values = distinct.len();
            vec![Axis { key: key.to_owned(), values, least: None, largest: None, best, edge: Place::Words }]
        }
    }
}

/// An axis of numbers, of which those for which this holds can be.
fn numbers(
    key: String,
    tried: impl IntoIterator<Item = f64>,
    best: f64,
    [least, largest]: [f64; 2],
    fits: fn(f64) -> bool,
) -> Axis {
    /// A step beyond a value that is small for any option.
    const BEYOND: f64 = 1e-6;
    let mut tried: Vec<f64> = tried.into_iter().collect();
    tried.sort_by(f64::total_cmp);
    tried.dedup();
    let edge = match tried[..] {
        [] | [_] => Place::Single,
        [first, ..] if best <= first && fits(best - BEYOND) => Place::Lowest,
        [.., last] if best >= last && fits(best + BEYOND) => Place::Highest,
        _ => Place::Interior,
    };
    Axis { key, values: tried.len(), least: Some(least), largest: Some(largest), best: OptionValue::Number(best), edge }
}

/// The least and the largest of some values.
pub fn ends(values: impl Iterator<Item = f64> + Clone) -> [f64; 2] {
    [values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max)]
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
        let upper = Edge { axis: "lr".into(), value: 1.0, upper: true };
        let lower = Edge { axis: "damping".into(), value: 1e-2, upper: false };
        assert_eq!(edges(&full, at(1.0, 0.01)), [upper, lower]);
        assert_eq!(edges(&grid(&["optimizer=kfac", "learning_rate=1", "damping=0.5"]), 0), []);
        assert_eq!(edges(&grid(&["optimizer=sgd", "learning_rate=1,2"]), 1).len(), 1);
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
}
