//! Holds a network's quantities to the oracle at a small drawn batch: what `check` does.

use std::sync::Arc;

use bytesize::ByteSize;
use rand::Rng;
use tch::{Device, Kind, Tensor};

use super::{Comparison, Coordinates, Expected, Question, Way, compare, expected};
use crate::backpack::draws::Draws;
use crate::backpack::layers::Mode;
use crate::backpack::losses::Loss;
use crate::backpack::memory::Plan;
use crate::backpack::network::Network;
use crate::backpack::pass_builder::Pass;
use crate::backpack::quantities::{Quantity, Source, TABLE_1, by_name, is_own};
use crate::backpack::request::{Request, left_out, why_not};
use crate::error::{Error, Result};
use crate::random::{Purpose, normal, stream, uniform};

/// The largest error that is still taken for rounding.
const BOUND: f64 = 1e-9;

/// How many matrices the oracle's recursion holds of its largest: the one at hand, its parts and what they become.
const ORACLE_MATRICES: u64 = 6;

/// What to check, and how.
#[derive(Clone, Debug)]
pub struct CheckSettings<'a> {
    /// The names of the quantities.
    pub quantities: &'a [&'a str],
    /// Whether a quantity that cannot be had is an error; else it is left out, and named.
    pub strict: bool,
    /// The number of samples of the batch.
    pub samples: i64,
    /// The seed of the batch, the labels and the coordinates.
    pub seed: u64,
    /// The number of labels sampled for each sample.
    pub mc_samples: i64,
    /// Which entries are compared, of what takes the oracle a derivative an entry.
    pub coordinates: Coordinates,
    /// How many bytes a quantity may need; one that needs more is left out, and named.
    pub memory: u64,
    /// Where tensors live.
    pub device: Device,
}

impl Default for CheckSettings<'_> {
    /// The quantities of the paper's Table 1, as far as the network has them, at every entry of a batch of six, within
    /// 1 GiB.
    fn default() -> Self {
        CheckSettings {
            quantities: &TABLE_1,
            strict: false,
            samples: 6,
            seed: 0,
            mc_samples: 1,
            coordinates: Coordinates::All,
            memory: 1 << 30,
            device: Device::Cpu,
        }
    }
}

/// One quantity of one parameter held to the oracle.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckRow {
    /// The quantity's name.
    pub quantity: &'static str,
    /// The layer's path, "3" or "3.1.0".
    pub layer: String,
    /// The parameter's name within the layer.
    pub parameter: &'static str,
    /// The largest difference over the largest entry (the variance: over the largest second moment), of all factors.
    pub error: f64,
    /// The largest error that is still taken for rounding.
    pub bound: f64,
    /// How many entries were compared.
    pub compared: usize,
    /// Whether the error is within the bound.
    pub ok: bool,
}

/// A quantity that was not compared, or a parameter that it leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The quantity's name, or QUANTITY.PARAMETER.
    pub what: String,
    /// Why not.
    pub reason: String,
}

/// What was compared.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Quantity by quantity, parameter by parameter.
    pub rows: Vec<CheckRow>,
    /// The quantities that were not compared.
    pub skipped: Vec<Skipped>,
}

impl CheckReport {
    /// How many rows do not hold.
    pub fn failures(&self) -> usize {
        self.rows.iter().filter(|row| !row.ok).count()
    }
}

/// Compares the quantities of a network, which is converted to double precision, at a batch of normal inputs of this
/// shape and targets that suit the loss, in evaluation mode.
///
/// # Errors
/// [`Error::Unsupported`] under [`CheckSettings::strict`] for a quantity that cannot be had; [`Error::Usage`] for one
/// that there is not; [`Error::Shape`] when the network does not fit the shape.
pub fn check(
    network: &mut Network,
    loss: &dyn Loss,
    input_shape: &[i64],
    settings: &CheckSettings,
) -> Result<CheckReport> {
    network.to(Kind::Double, settings.device);
    let network = &*network;
    let mut report = CheckReport::default();
    let plan = Plan::new(network, input_shape, settings.samples, settings.mc_samples, 8)?;
    let chosen = choose(network, input_shape, &plan, settings, &mut report)?;
    let shapes = network.shapes(input_shape)?;
    let (x, y) = batch(loss, (input_shape, network.integers()), shapes.output(), settings);
    let labels = labels(network, loss, &x, &y, settings)?;

    let names: Vec<&str> = chosen.iter().map(|quantity| quantity.name()).collect();
    tracing::info!("the oracle differentiates: {}", names.join(", "));
    let question = Question {
        labels: Some(&labels),
        coordinates: settings.coordinates,
        kfra_bytes: settings.memory.saturating_sub(plan.base()) / ORACLE_MATRICES,
        ..Question::new(&names, Way::Samples)
    };
    let oracle = expected(network, loss, &x, &y, &question)?;
    report.skipped.extend(without_definition(&names, &oracle));
    let mut found = Vec::new();
    for (results, part) in parts(&chosen, &plan, settings) {
        tracing::info!("the extended backward pass: {}", part.join(", "));
        let chunk_bytes = plan.chunk_bytes(settings.memory, plan.base().saturating_add(results));
        let pass = Pass::new(network, loss).take(part.iter().copied())?.chunk_bytes(chunk_bytes).labels(&labels);
        let ours = pass.run(&x, &y)?;
        found.extend(compare(&ours, &oracle).into_iter().filter(|one| part.contains(&one.quantity)));
    }
    found.sort_by_key(|one| (names.iter().position(|name| *name == one.quantity), one.parameter));
    rows(network, &found, &mut report);
    report.skipped.extend(kfra_left_out(network, &names, &oracle, question.kfra_bytes));
    Ok(report)
}

/// A program's own quantities of which the oracle has been told nothing.
fn without_definition(names: &[&str], oracle: &[Expected]) -> Vec<Skipped> {
    let is_known = |name: &&str| !is_own(name) || oracle.iter().any(|one| one.quantity == *name);
    let skipped = |name: &&str| Skipped {
        what: (*name).to_owned(),
        reason: "it does not say what it is of individual gradients (Quantity::of_gradients)".to_owned(),
    };
    names.iter().filter(|name| !is_known(name)).map(skipped).collect()
}

/// The quantities that can be had and that fit the memory; what is left out goes into the report.
fn choose(
    network: &Network,
    input_shape: &[i64],
    plan: &Plan,
    settings: &CheckSettings,
    report: &mut CheckReport,
) -> Result<Vec<Arc<dyn Quantity>>> {
    // Its errors list the names there are.
    Request::new(settings.quantities.iter().copied())?;
    let mut chosen = Vec::new();
    for quantity in settings.quantities.iter().filter_map(|name| by_name(name)) {
        let refusal = why_not(network, input_shape, Mode::Evaluation, quantity.as_ref())?;
        let needed = needs(plan, quantity.as_ref());
        let reason = refusal.or_else(|| {
            (needed > settings.memory).then(|| {
                format!(
                    "it needs about {} but may take {}; allow more with the option `memory_budget`",
                    ByteSize(needed),
                    ByteSize(settings.memory)
                )
            })
        });
        match reason {
            None => chosen.push(quantity),
            Some(reason) if settings.strict => {
                return Err(Error::Unsupported(format!("{}: {reason}", quantity.name())));
            }
            Some(reason) => report.skipped.push(Skipped { what: quantity.name().to_owned(), reason }),
        }
    }
    let parameters = network.parameters();
    for quantity in &chosen {
        report.skipped.extend(left_out(network, quantity.as_ref()).into_iter().map(|(number, reason)| Skipped {
            what: format!("{}.{}", quantity.name(), parameters[number].name),
            reason,
        }));
    }
    Ok(chosen)
}

/// About how many bytes a quantity takes by itself, with the smallest chunks.
fn needs(plan: &Plan, quantity: &dyn Quantity) -> u64 {
    plan.base().saturating_add(plan.result(quantity)).saturating_add(plan.sweep(quantity.source(), 1))
}

/// The quantities pass by pass, each with the bytes of its results: those of one source together, as long as they fit.
fn parts(chosen: &[Arc<dyn Quantity>], plan: &Plan, settings: &CheckSettings) -> Vec<(u64, Vec<&'static str>)> {
    let mut parts: Vec<(Source, u64, Vec<&'static str>)> = Vec::new();
    for quantity in chosen {
        let (source, bytes) = (quantity.source(), plan.result(quantity.as_ref()));
        let room = settings.memory.saturating_sub(plan.base()).saturating_sub(plan.sweep(source, 1));
        match parts.iter_mut().find(|part| part.0 == source && part.1.saturating_add(bytes) <= room) {
            Some((_, taken, names)) => {
                *taken += bytes;
                names.push(quantity.name());
            }
            None => parts.push((source, bytes, vec![quantity.name()])),
        }
    }
    parts.into_iter().map(|(_, bytes, names)| (bytes, names)).collect()
}

/// Normal inputs, or integers where the network takes them, and targets that suit the loss.
fn batch(
    loss: &dyn Loss,
    (input, integers): (&[i64], Option<i64>),
    output: &[i64],
    settings: &CheckSettings,
) -> (Tensor, Tensor) {
    let mut generator = stream(settings.seed, Purpose::Batch, 0);
    let shape = [&[settings.samples], input].concat();
    let x = match integers {
        Some(count) => (uniform(&mut generator, &shape, Device::Cpu).to_kind(Kind::Double) * count as f64)
            .floor()
            .to_kind(Kind::Int64),
        None => normal(&mut generator, &shape),
    };
    let shape = [&[settings.samples], output].concat();
    let y = match loss.name() {
        "cross_entropy" => {
            let outputs = output.first().copied().unwrap_or(1).max(1) as u64;
            let shape = [&[settings.samples], output.get(1..).unwrap_or_default()].concat();
            let classes: Vec<i64> = (0..shape.iter().product::<i64>())
                .map(|_| (u64::from(generator.next_u32()) % outputs) as i64)
                .collect();
            Tensor::from_slice(&classes).view(shape.as_slice())
        }
        "bce_with_logits" => uniform(&mut generator, &shape, Device::Cpu).to_kind(Kind::Double),
        _ => normal(&mut generator, &shape),
    };
    (x.to_device(settings.device), y.to_device(settings.device))
}

/// The labels that all sampled quantities share.
fn labels(network: &Network, loss: &dyn Loss, x: &Tensor, y: &Tensor, settings: &CheckSettings) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let at = loss.evaluate(&network.evaluate(x)?, y)?;
    let generator = stream(settings.seed, Purpose::SampledLabels, 0);
    loss.sample(&at, settings.mc_samples, &mut Draws::whole(generator))
}

/// One row for each quantity and parameter, whatever factors there are.
fn rows(network: &Network, found: &[Comparison], report: &mut CheckReport) {
    let parameters = network.parameters();
    for one in found {
        let named = &parameters[one.parameter];
        let layer = named.node.to_owned();
        let same =
            |row: &&mut CheckRow| row.quantity == one.quantity && row.layer == layer && row.parameter == named.role;
        match report.rows.iter_mut().find(same) {
            Some(row) => {
                // Not f64::max, which drops a NaN.
                if one.error.is_nan() || one.error > row.error {
                    row.error = one.error;
                }
                row.compared += one.compared;
                row.ok = row.error <= row.bound;
            }
            None => report.rows.push(CheckRow {
                quantity: one.quantity,
                layer,
                parameter: named.role,
                error: one.error,
                bound: BOUND,
                compared: one.compared,
                ok: one.error <= BOUND,
            }),
        }
    }
}

/// The layers in front, whose matrices were too large for the oracle's recursion, which forms all of them.
fn kfra_left_out(network: &Network, names: &[&str], oracle: &[Expected], bytes: u64) -> Option<Skipped> {
    let compared = |parameter: usize| {
        oracle.iter().any(|one| (one.quantity, one.parameter, one.factor) == ("kfra", parameter, "B"))
    };
    let left_out: Vec<String> = network
        .with_parameters()
        .filter(|(node, _)| !compared(node.parameter(0)))
        .map(|(node, _)| node.title())
        .collect();
    (names.contains(&"kfra") && !left_out.is_empty()).then(|| Skipped {
        what: "kfra".to_owned(),
        reason: format!(
            "the factor B of {} takes the oracle a matrix of more than {}, all others were compared; give more with \
             the option `memory_budget`",
            left_out.join(", "),
            ByteSize(bytes)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::losses::{CrossEntropy, Reduction};
    use crate::backpack::network::Value;
    use crate::backpack::oracle::compare::Form;
    use crate::backpack::support::specimens;

    fn settings<'a>(quantities: &'a [&'a str]) -> CheckSettings<'a> {
        CheckSettings {
            quantities,
            strict: false,
            samples: 2,
            seed: 1,
            mc_samples: 1,
            coordinates: Coordinates::Drawn { count: 4, seed: 1 },
            memory: 1 << 30,
            device: Device::Cpu,
        }
    }

    fn linear() -> (Network, CrossEntropy) {
        let specimen = specimens().unwrap().swap_remove(0);
        (Network::new(vec![specimen.part("0", Value::INPUT)]).unwrap(), CrossEntropy::new(Reduction::Mean))
    }

    #[test]
    fn what_does_not_fit_is_left_out_or_an_error() {
        let (mut network, loss) = linear();
        let names = ["grad", "sqrt_ggn", "kfra"];
        let little = CheckSettings { memory: 1800, ..settings(&names) };
        let report = check(&mut network, &loss, &[6], &little).unwrap();
        assert_eq!(report.skipped.len(), 1);
        assert_eq!(report.skipped[0].what, "sqrt_ggn");
        assert!(report.rows.iter().any(|row| row.quantity == "kfra"));
        let strict = CheckSettings { strict: true, ..little };
        assert!(matches!(check(&mut network, &loss, &[6], &strict), Err(Error::Unsupported(_))));
        assert!(matches!(check(&mut network, &loss, &[6], &settings(&["gard"])), Err(Error::UnknownQuantity { .. })));
    }

    #[test]
    fn a_quantity_of_ones_own_that_says_nothing_of_gradients_is_told_to_be_left_out() {
        let oracle = [Expected {
            quantity: "told",
            parameter: 0,
            factor: "",
            tensor: Tensor::zeros([1], (Kind::Double, Device::Cpu)),
            leading: 0,
            entries: None,
            yardstick: 1.0,
            form: Form::Same,
        }];
        let skipped = without_definition(&["grad", "told", "untold"], &oracle);
        let names: Vec<&str> = skipped.iter().map(|skipped| skipped.what.as_str()).collect();
        assert_eq!(names, ["untold"]);
    }

    #[test]
    fn rows_are_in_the_order_asked_for_with_their_counts() {
        let (mut network, loss) = linear();
        let report = check(&mut network, &loss, &[6], &settings(&["kfac", "diag_ggn", "grad"])).unwrap();
        let rows: Vec<_> = report.rows.iter().map(|row| (row.quantity, row.parameter, row.compared)).collect();
        // A: 6 x 4 of 6 x 6 entries, B: 3 x 3; diagonals: 4 of 18.
        let expected = [
            ("kfac", "weight", 24 + 9),
            ("kfac", "bias", 9),
            ("diag_ggn", "weight", 4),
            ("diag_ggn", "bias", 3),
            ("grad", "weight", 18),
            ("grad", "bias", 3),
        ];
        assert_eq!(rows, expected);
        assert!(report.rows.iter().all(|row| row.layer == "0" && row.ok));
    }

    #[test]
    fn the_worst_factor_of_a_row_decides_and_a_nan_stays() {
        let (network, _) = linear();
        let one =
            |parameter, factor, error, compared| Comparison { quantity: "kfac", parameter, factor, error, compared };
        let found = [
            one(0, "A", 1e-12, 5),
            one(0, "B", 1e-3, 7),
            one(0, "C", 1e-11, 1),
            one(1, "A", 1e-12, 2),
            one(1, "B", f64::NAN, 3),
            one(1, "C", 1e-12, 4),
        ];
        let mut report = CheckReport::default();
        rows(&network, &found, &mut report);
        let [weight, bias] = &report.rows[..] else { panic!("{:?}", report.rows) };
        assert_eq!((weight.parameter, weight.error, weight.compared, weight.ok), ("weight", 1e-3, 13, false));
        assert_eq!((bias.parameter, bias.error.is_nan(), bias.compared, bias.ok), ("bias", true, 9, false));
        assert_eq!(report.failures(), 2);
    }
}
